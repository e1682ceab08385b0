"""Walks the directories of a project that a session can write to, bounded and without links.

The rule: an earlier check of a path proves nothing. An opened directory must have the identity
that its parent's listing recorded.
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
"""Maximum number of entries read per directory."""
SETTLED_NANOSECONDS: Final = 100_000_000
"""A directory that changed more recently than this may change again without a new timestamp."""

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Identity = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A directory's contents: the marks in it, and its subdirectories with their identities."""

    identity: Identity
    changed_ns: int
    """Its ctime, which a session cannot set."""
    marks: frozenset[str]
    children: tuple[tuple[str, Identity], ...]
    whole: bool


class Tree:
    """Walks a directory tree breadth first.

    Listings are cached and read again only if a directory has changed, so a repeated walk costs
    one ``lstat`` per directory.
    """

    def __init__(self, root: str, marks: frozenset[str], closed: frozenset[str]) -> None:
        """``marks`` are the names to report; directories named in ``closed`` are not entered."""
        self._root = root
        self._marks = marks
        self._closed = closed
        self._listings: dict[str, Listing] = {}
        self.lock = threading.Lock()
        """Held during a walk and while its results are used."""
        self.complete = True
        """Whether the last walk visited every directory."""

    def walk(self, limit: int, seconds: float) -> Iterator[tuple[str, frozenset[str]]]:
        """Yield directories, relative to the root ('' is the root), with the marks in them."""
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
        """None if the directory is missing, unreadable or not the one its parent listed."""
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
                with suppress(OSError):  # it may have been removed
                    if name not in self._closed and entry.is_dir(follow_symlinks=False):
                        children.append((name, _identity(entry.stat(follow_symlinks=False))))
            whole = next(entries, None) is None
        return frozenset(marks), tuple(sorted(children)), whole


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
