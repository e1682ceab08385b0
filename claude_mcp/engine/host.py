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
