"""Identifies a directory by file system and path, because bind mounts give it several names.

For each mount, the kernel reports which directory of which file system it shows
(proc_pid_mountinfo(5)). Outside Linux no mounts are known.
"""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

MOUNTINFO: Final = Path("/proc/self/mountinfo")
NOT_STORAGE: Final = frozenset({
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts",
    "devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs",
    "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tmpfs", "tracefs",
})  # fmt: skip
"""Types of file systems that the kernel makes up or keeps in memory."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path within a file system, independent of where it is mounted."""

    device: str
    path: str

    def within(self, other: Place) -> bool:
        return self.device == other.device and is_within(self.path, other.path)


@dataclass(frozen=True, slots=True)
class HostMount:
    """A mount point and the directory that it shows; ``kind`` is the file system's type."""

    point: str
    shows: Place
    kind: str
    for_one_user: bool = False
    """Only the user who mounted it may look into it, not even root; see fuse(8)."""


@dataclass(frozen=True, slots=True)
class Location:
    """A path with every name and place that it is known to have."""

    names: tuple[str, ...]
    """As it was given, and with links resolved."""
    own: Place
    below: tuple[Place, ...]
    """What the mounts at the path and below it show."""

    def equals(self, other: Location) -> bool:
        return self.own == other.own or any(name in other.names for name in self.names)

    def lies_in(self, other: Location) -> bool:
        """Whether this is the other path, or is in it or in what is mounted there."""
        return any(is_within(name, each) for name in self.names for each in other.names) or any(
            self.own.within(place) for place in (other.own, *other.below)
        )

    def contains(self, other: Location) -> bool:
        """Whether the other path is in this one, or in what is mounted here."""
        return any(is_within(name, each) for name in other.names for each in self.names) or any(
            other.own.within(place) for place in (self.own, *self.below)
        )

    def shows_part_of(self, other: Location) -> bool:
        """Whether a mount in this path shows the other path or something in it."""
        return any(place.within(other.own) for place in self.below)


class MountTable:
    """The mounts of this host as they are now."""

    def __init__(self, mounts: Iterable[HostMount]) -> None:
        self._at: dict[str, list[HostMount]] = {}
        for mount in mounts:
            self._at.setdefault(mount.point, []).append(mount)
        self._points = sorted(self._at)

    def locate(self, path: str) -> Location:
        """Where an absolute path is; a missing one is where it would be."""
        real = os.path.realpath(path)
        return replace(self.locate_real(real), names=(path, real))

    def locate_real(self, path: str) -> Location:
        """Like ``locate``, for a path without links."""
        shown = tuple(mount.shows for mount in self.below(path))
        return Location((path,), self._place(path), shown)

    def below(self, path: str) -> Iterator[HostMount]:
        """The mounts at a path and below it."""
        yield from self._at.get(path, ())
        start = f"{path.rstrip('/')}/"
        for point in self._points[bisect.bisect_left(self._points, start) :]:
            if not point.startswith(start):
                break
            if point != path:
                yield from self._at[point]

    def points_below(self, path: str) -> list[str]:
        """The mount points below a path that can be seen there, outermost first."""
        points = {mount.point for mount in self.below(path)} - {path}
        # Another file system may be mounted over one of their parents.
        return sorted(point for point in points if os.path.lexists(point))

    def is_storage(self, mount: HostMount) -> bool:
        """Whether files are kept there: on a disk, on another machine, or where ``/`` is."""
        return mount.kind not in NOT_STORAGE or mount.shows.device == self._place("/").device

    def mount_of(self, path: str) -> HostMount | None:
        """The mount that shows an absolute path; of several at one point, the latest."""
        point = path
        while point not in self._at:
            if point == "/":
                return None
            point = os.path.dirname(point)
        return self._at[point][-1]

    def _place(self, path: str) -> Place:
        """The file system and path behind a path."""
        mount = self.mount_of(path)
        if mount is None:
            return Place("", path)
        inside = path[len(mount.point.rstrip("/")) :].strip("/")
        return Place(mount.shows.device, os.path.join(mount.shows.path, inside).rstrip("/") or "/")


def is_within(path: str, directory: str) -> bool:
    """Whether a path equals a directory or lies in it, judged by name.

    The comparison ignores case, because some file systems do.
    """
    path, directory = path.casefold(), directory.casefold()
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def read_mounts() -> MountTable:
    try:
        return MountTable(parse_mounts(MOUNTINFO.read_bytes()))
    except OSError:
        return MountTable(())


def parse_mounts(mountinfo: bytes) -> Iterator[HostMount]:
    """Every mount, oldest first."""
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(b" - ")
        _, _, device, root, point, *_ = mount.split(b" ")
        kind, _, options = (*source.split(b" "), b"", b"")[:3]
        closed = kind.startswith(b"fuse") and b"allow_other" not in options.split(b",")
        yield HostMount(_name(point), Place(device.decode(), _name(root)), kind.decode(), closed)


def _name(field: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), field))
