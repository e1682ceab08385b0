"""The resources of this machine.

A remote engine, or one in a virtual machine, runs elsewhere. Whatever is derived from these
values must do no harm there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

SYSFS: Final = Path("/sys/fs")
MOUNTINFO: Final = Path("/proc/self/mountinfo")
_OWN_FILES: Final = (b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf")
_CONTAINER: Final = re.compile(rb"containers/([0-9a-f]{64})/")
"""In the paths of the files that an engine keeps for a container, such as its /etc/hostname."""


def memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cpus() -> int:
    return os.cpu_count() or 1


def has_selinux(sysfs: Path = SYSFS) -> bool:
    return (sysfs / "selinux" / "enforce").exists()


def counts_processes_by_namespace(release: str) -> bool:
    """Whether a kernel's RLIMIT_NPROC counts the processes of one user namespace (5.14 and later).

    Before, it counted all processes of a user of the host.
    """
    numbers = re.findall(r"\d+", release)
    return tuple(map(int, numbers[:2])) >= (5, 14)


def own_container(mountinfo: Path = MOUNTINFO) -> str | None:
    """The id of the container in which this program runs; None if it runs in none.

    Engines mount files of a container's own over its /etc/hostname and the like.
    """
    try:
        lines = mountinfo.read_bytes().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split(b" ")
        own = len(fields) > 4 and fields[4] in _OWN_FILES
        if own and (found := _CONTAINER.search(fields[3])):
            return found[1].decode()
    return None
