"""Blocks sockets of unusual address families, which a network namespace does not confine.

``--network=none`` does not cover sockets between virtual machines and their hosts (AF_VSOCK), which
ignore namespaces, and only some engines block them. A seccomp filter restricts the main process,
and thus everything in the session, to the usual address families.

Source: seccomp(2), and the tables of system calls of Linux.
"""

from __future__ import annotations

import errno
import platform
import struct

UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
ADDRESS_FAMILIES = (UNIX, INET, INET6, NETLINK)

_X86_64, _I386, _AARCH64, _ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
_IO_URING_SETUP = 425
"""It can create sockets too, which no filter would see."""
_SOCKETCALL = 102
"""A call of 32-bit programs whose arguments are in memory, where no filter can read them."""

# For each machine, the programs it can run: their architecture, the calls that take an address
# family, and the calls that are blocked.
_PROGRAMS = {
    "x86_64": (
        (_X86_64, (41, 53), (_IO_URING_SETUP,)),
        (_I386, (359, 360), (_IO_URING_SETUP, _SOCKETCALL)),
    ),
    "aarch64": (
        (_AARCH64, (198, 199), (_IO_URING_SETUP,)),
        (_ARM, (281, 288), (_IO_URING_SETUP, _SOCKETCALL)),
    ),
}

_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # their offsets in the filter's input
_BARE_NUMBER = 0x3FFFFFFF  # without the bit that marks x32 calls on x86-64
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2

Instruction = tuple[int, int, int, int]
"""Code, number of instructions to skip if true, the same if false, and value."""


def program(machine: str) -> list[Instruction] | None:
    """The filter for a machine; None if the machine is unknown."""
    if machine not in _PROGRAMS:
        return None
    found = []
    for architecture, sockets, forbidden in _PROGRAMS[machine]:
        calls = _calls(sockets, forbidden)
        found += [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 0, len(calls), architecture), *calls]
    return [*found, (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]  # an unknown architecture


def _calls(sockets: tuple[int, ...], forbidden: tuple[int, ...]) -> list[Instruction]:
    found = [(_LOAD, 0, 0, _NUMBER), (_AND, 0, 0, _BARE_NUMBER)]
    for number in forbidden:
        found += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | errno.EPERM)]
    families = [(_LOAD, 0, 0, _FIRST_ARGUMENT)]
    for left, family in zip(range(len(ADDRESS_FAMILIES), 0, -1), ADDRESS_FAMILIES):
        families.append((_EQUAL, left, 0, family))
    families += [(_RETURN, 0, 0, _ERROR | errno.EAFNOSUPPORT), (_RETURN, 0, 0, _ALLOW)]
    for left, number in zip(range(len(sockets), 0, -1), sockets):
        found.append((_EQUAL, left, 0, number))
    return [*found, (_RETURN, 0, 0, _ALLOW), *families]


def restrict() -> str:
    """Restrict this process, and all that it starts from now on, for good. Call it before there are
    threads. Returns why it failed, or ""."""
    filters = program(platform.machine())
    if filters is None:
        return f"there is no filter for {platform.machine()}"
    try:
        import ctypes  # not every image has it

        libc = ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError) as error:
        return str(error)
    code = b"".join(struct.pack("HBBI", *each) for each in filters)
    buffer = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("HP", len(filters), ctypes.addressof(buffer))
    for words in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, described, 0, 0)):
        arguments = [
            each if isinstance(each, bytes) else ctypes.c_ulong(each) for each in words[1:]
        ]
        if libc.prctl(ctypes.c_int(words[0]), *arguments):
            return errno.errorcode.get(ctypes.get_errno(), "it failed")
    return ""
