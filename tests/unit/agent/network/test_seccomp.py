"""The filter that leaves a session the usual families of sockets."""

from __future__ import annotations

import errno
import json
import socket
import struct
import subprocess
import sys

import pytest

from claude_mcp.agent.network.seccomp import ADDRESS_FAMILIES, program

ALLOWED = 0x7FFF0000
X86_64, I386, AARCH64, ARM, OTHER = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028, 0x40000008
VSOCK = 40


def verdict(machine: str, architecture: int, number: int, argument: int = 0) -> int | str:
    """What the kernel would make of a call: 0 if it is let through, or the error."""
    data = struct.pack("=IIQQ", number, architecture, 0, argument)
    instructions = program(machine)
    assert instructions is not None
    at, value = 0, 0
    while True:
        code, if_so, if_not, operand = instructions[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == 0x54:
            value &= operand
        elif code == 0x15:
            at += if_so if value == operand else if_not
        else:
            assert code == 0x06
            return 0 if operand == ALLOWED else errno.errorcode[operand & 0xFFFF]


SOCKETS = [
    ("x86_64", X86_64, 41), ("x86_64", X86_64, 53), ("x86_64", X86_64, 0x40000000 + 41),
    ("x86_64", I386, 359), ("x86_64", I386, 360), ("aarch64", AARCH64, 198),
    ("aarch64", AARCH64, 199), ("aarch64", ARM, 281), ("aarch64", ARM, 288),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "architecture", "number"), SOCKETS)
def test_only_the_usual_families_are_let_through(
    machine: str, architecture: int, number: int
) -> None:
    allowed = [each for each in range(64) if not verdict(machine, architecture, number, each)]
    assert tuple(allowed) == ADDRESS_FAMILIES
    assert verdict(machine, architecture, number, VSOCK) == "EAFNOSUPPORT"
    assert verdict(machine, architecture, number, (1 << 32) + VSOCK) == "EAFNOSUPPORT"


@pytest.mark.parametrize(
    ("machine", "architecture", "number"),
    [
        ("x86_64", X86_64, 425), ("x86_64", X86_64, 0x40000000 + 425), ("x86_64", I386, 425),
        ("x86_64", I386, 102), ("aarch64", AARCH64, 425), ("aarch64", ARM, 102),
    ],
)  # fmt: skip
def test_no_other_call_makes_sockets(machine: str, architecture: int, number: int) -> None:
    assert verdict(machine, architecture, number) == "EPERM"


def test_other_calls_are_let_through_and_other_architectures_are_not() -> None:
    sockets = {number for _, architecture, number in SOCKETS if architecture == X86_64}
    others = set(range(500)) - sockets - {425}
    assert {verdict("x86_64", X86_64, number, VSOCK) for number in others} == {0}
    assert verdict("x86_64", X86_64, 102) == 0  # getuid
    assert verdict("x86_64", OTHER, 41, 1) == "ENOSYS"
    assert program("riscv64") is None


def test_the_kernel_obeys_it_in_everything_that_is_started() -> None:
    """A family that each kernel has, but no ordinary user a socket of, tells the two apart."""
    attempt = """
import errno, json, socket, sys
found = []
for family, kind in ((1, 1), (2, 1), (16, 2), (17, 3)):
    try:
        socket.socket(family, kind).close()
        found.append("done")
    except OSError as error:
        found.append(errno.errorcode[error.errno])
print(json.dumps(found))
"""
    restricted = (
        "import subprocess, sys; from claude_mcp.agent.network.seccomp import restrict; "
        "assert restrict() == '' and restrict() == ''; "
        "sys.exit(subprocess.call([sys.executable, '-c', sys.argv[1]]))"
    )

    def run(*words: str) -> list[str]:
        done = subprocess.run([sys.executable, "-c", *words], capture_output=True, check=True)
        found: list[str] = json.loads(done.stdout)
        return found

    assert run(attempt) in ([*["done"] * 3, "done"], [*["done"] * 3, "EPERM"])
    assert run(restricted, attempt) == [*["done"] * 3, "EAFNOSUPPORT"]
    socket.socket(socket.AF_UNIX).close()  # this process is not restricted
