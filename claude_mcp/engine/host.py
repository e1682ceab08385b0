"""The resources of this machine, and what it lets an engine limit.

A remote engine, or one in a virtual machine, runs elsewhere. Whatever is derived from these
values must do no harm there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

SYSFS: Final = Path("/sys/fs")


def memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cpus() -> int:
    return os.cpu_count() or 1


def has_selinux(sysfs: Path = SYSFS) -> bool:
    return (sysfs / "selinux" / "enforce").exists()


def delegated_controllers(uid: int, sysfs: Path = SYSFS) -> frozenset[str] | None:
    """The cgroup controllers that a user's rootless containers can use. None if unknown."""
    if not (sysfs / "cgroup/cgroup.controllers").exists():
        return frozenset()  # cgroup version 1 cannot be delegated
    service = sysfs / f"cgroup/user.slice/user-{uid}.slice/user@{uid}.service"
    try:
        return frozenset((service / "cgroup.controllers").read_text().split())
    except OSError:
        return None


def counts_processes_by_namespace(release: str | None = None) -> bool:
    """Whether RLIMIT_NPROC counts the processes of one user namespace (Linux 5.14 and later).

    Before, it counted all processes of a user of the host.
    """
    numbers = re.findall(r"\d+", os.uname().release if release is None else release)
    return tuple(map(int, numbers[:2])) >= (5, 14)
