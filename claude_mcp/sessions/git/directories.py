"""Walks the directories of a project that a session may have written: bounded, following no link.

The rule: a path that was good a moment ago proves nothing. What is opened must be the very
directory that its parent listed.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

MAX_DIRECTORIES: Final = 5_000
WALK_SECONDS: Final = 0.25
MAX_ENTRIES: Final = 100_000
"""Of one directory."""
SETTLED_NANOSECONDS: Final = 100_000_000
"""A directory that changed less than this before it was listed may change once more within the
same tick of the file system's clock."""

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Identity = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a directory held: all names of interest, and the directories with who they are."""

    identity: Identity
    changed_ns: int
    """Its ctime, which a session cannot set."""
    marks: frozenset[str]
    children: tuple[tuple[str, Identity], ...]
    whole: bool


class Tree:
    """The directories below one, breadth first; listings are kept, and read anew when a
    directory has changed, so that a second walk costs one ``lstat`` for each."""

    def __init__(self, root: str, marks: frozenset[str], closed: frozenset[str]) -> None:
        """``marks`` are the names to tell of; what is called as one of ``closed`` stays so."""
        self._root = root
        self._marks = marks
        self._closed = closed
        self._listings: dict[str, Listing] = {}
        self.lock = threading.Lock()
        """For one walk at a time, and what it found."""
        self.complete = True
        """Whether the last walk came to its end."""

    def walk(
        self, limit: int = MAX_DIRECTORIES, seconds: float = WALK_SECONDS
    ) -> Iterator[tuple[str, frozenset[str]]]:
        """Directories, relative to the root ('' is the root itself), with the marks in them."""
        deadline = time.monotonic() + seconds
        known, self._listings = self._listings, {}
        waiting: deque[tuple[str, Identity | None]] = deque([("", None)])
        self.complete = True
        while waiting:
            if len(self._listings) >= limit or time.monotonic() > deadline:
                self.complete = False
                return
            path, identity = waiting.popleft()
            listing = self._list(path, identity, known.get(path))
            if listing is None:
                continue
            self._listings[path] = listing
            self.complete &= listing.whole
            yield path, listing.marks
            prefix = f"{path}/" if path else ""
            waiting.extend((prefix + name, which) for name, which in listing.children)

    @property
    def walked(self) -> int:
        return len(self._listings)

    def _list(self, path: str, identity: Identity | None, known: Listing | None) -> Listing | None:
        """None for what is gone, closed to us, or not what its parent listed."""
        full = f"{self._root}/{path}" if path else self._root
        try:
            if known is not None:
                status = os.lstat(full)
                if _identity(status) == known.identity and status.st_ctime_ns == known.changed_ns:
                    return known
            descriptor = os.open(full, OPEN_DIRECTORY)
        except (OSError, ValueError):
            return None
        try:
            status = os.fstat(descriptor)
            if identity not in (None, _identity(status)):
                return None
            settled = time.time_ns() - status.st_ctime_ns > SETTLED_NANOSECONDS
            marks, children, whole = self._read(descriptor)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        changed = status.st_ctime_ns if settled else -1
        return Listing(_identity(status), changed, marks, children, whole)

    def _read(
        self, descriptor: int
    ) -> tuple[frozenset[str], tuple[tuple[str, Identity], ...], bool]:
        marks, children = set(), []
        with os.scandir(descriptor) as entries:
            for entry in itertools.islice(entries, MAX_ENTRIES):
                name = entry.name
                if name in self._marks:
                    marks.add(name)
                with suppress(OSError):  # it may be gone by now
                    if name not in self._closed and entry.is_dir(follow_symlinks=False):
                        children.append((name, _identity(entry.stat(follow_symlinks=False))))
            whole = next(entries, None) is None
        return frozenset(marks), tuple(sorted(children)), whole


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
