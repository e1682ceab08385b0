"""Where the file systems of this host are mounted: one directory may have several names.

The kernel tells of each mount which directory of which file system it shows
(proc_pid_mountinfo(5)); elsewhere than on Linux nothing is known of them.
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
    """A path of a file system, however that is mounted."""

    device: str
    path: str

    def within(self, other: Place) -> bool:
        return self.device == other.device and is_within(self.path, other.path)


@dataclass(frozen=True, slots=True)
class HostMount:
    """What is at the mount point, and in the directories below it."""

    point: str
    shows: Place


def is_within(path: str, directory: str) -> bool:
    """Whether a path is a directory or in it, by name alone.

    Case does not count: on some file systems it makes no difference.
    """
    path, directory = path.casefold(), directory.casefold()
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def read_mounts() -> tuple[HostMount, ...]:
    """Every mount, in the order in which they were made."""
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
    """Where an absolute path without links really is. Of two mounts at one point, the later."""
    found = None
    for mount in mounts:
        if (found is None or len(mount.point) >= len(found.point)) and _is_at(path, mount.point):
            found = mount
    if found is None:
        return Place("", path)
    inside = path[len(found.point.rstrip("/")) :].strip("/")
    return Place(found.shows.device, os.path.join(found.shows.path, inside).rstrip("/") or "/")


def below(path: str, mounts: tuple[HostMount, ...]) -> list[Place]:
    """What the mounts at a path, and in it, show."""
    return [mount.shows for mount in mounts if _is_at(mount.point, path)]


def _is_at(path: str, directory: str) -> bool:
    if not path.startswith(directory):
        return False
    return directory == "/" or len(path) == len(directory) or path[len(directory)] == "/"
