"""Identifies a directory by file system and path, because bind mounts give it several names.

For each mount, the kernel reports which directory of which file system it shows
(proc_pid_mountinfo(5)). Outside Linux no mounts are known.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNTINFO: Final = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Place:
    """A path within a file system, independent of where it is mounted."""

    device: str
    path: str

    def within(self, other: Place) -> bool:
        return self.device == other.device and is_within(self.path, other.path)


@dataclass(frozen=True, slots=True)
class HostMount:
    """A mount point and the directory that it shows."""

    point: str
    shows: Place


def is_within(path: str, directory: str) -> bool:
    """Whether a path equals a directory or lies in it, judged by name.

    The comparison ignores case, because some file systems do.
    """
    path, directory = path.casefold(), directory.casefold()
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def read_mounts() -> tuple[HostMount, ...]:
    """Every mount, oldest first."""
    try:
        return parse_mounts(MOUNTINFO.read_bytes())
    except OSError:
        return ()


def parse_mounts(mountinfo: bytes) -> tuple[HostMount, ...]:
    mounts = []
    for line in mountinfo.splitlines():
        _, _, device, root, point, *_ = line.split(b" ")
        mounts.append(HostMount(_name(point), Place(device.decode(), _name(root))))
    return tuple(mounts)


def _name(field: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), field))


def place_of(path: str, mounts: tuple[HostMount, ...]) -> Place:
    """The file system and path behind an absolute path without links.

    Of several mounts at one point, the latest is visible.
    """
    found = None
    for mount in mounts:
        if (found is None or len(mount.point) >= len(found.point)) and _is_at(path, mount.point):
            found = mount
    if found is None:
        return Place("", path)
    inside = path[len(found.point.rstrip("/")) :].strip("/")
    return Place(found.shows.device, os.path.join(found.shows.path, inside).rstrip("/") or "/")


def below(path: str, mounts: tuple[HostMount, ...]) -> list[Place]:
    """The places that the mounts at or below a path show."""
    return [mount.shows for mount in mounts if _is_at(mount.point, path)]


def _is_at(path: str, directory: str) -> bool:
    if not path.startswith(directory):
        return False
    return directory == "/" or len(path) == len(directory) or path[len(directory)] == "/"
