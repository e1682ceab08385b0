"""Directories by descriptor: what lies in one is reached by its own name, never over a link.

A path that was looked at may lead elsewhere when it is used, because whoever can write to one
of its directories may put a link there. A descriptor leads to the same directory for as long
as it is open. Used on both sides of the wall.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# To go through a directory takes no right to read it.
SEARCH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_DEPTH = 256
"""Of directories in each other: each is open while what is in it is dealt with."""
READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def walk(directory: int, names: Iterable[str], flags: int = SEARCH) -> int:
    """A new descriptor of the directory that is reached over these names.

    Raises:
        OSError: one of them is no directory, or is a link.
    """
    here = os.open(".", SEARCH, dir_fd=directory)
    for name in names:
        try:
            below = os.open(name, SEARCH, dir_fd=here)
        finally:
            os.close(here)
        here = below
    if flags == SEARCH:
        return here
    try:
        return os.open(".", flags, dir_fd=here)
    finally:
        os.close(here)


@contextmanager
def opened(path: str) -> Iterator[int]:
    """The directory at an absolute path without links, which are not followed.

    Raises:
        OSError: there is a link on the way, or no such directory.
    """
    root = os.open("/", SEARCH)
    try:
        directory = walk(root, [name for name in path.split("/") if name])
    finally:
        os.close(root)
    try:
        yield directory
    finally:
        os.close(directory)


def remove(directory: int, name: str, depth: int = MAX_DEPTH) -> None:
    """Remove what has this name, with all that is in it; as far as it can be removed."""
    try:
        os.unlink(name, dir_fd=directory)
        return
    except IsADirectoryError:
        pass
    except PermissionError:  # as some systems have it for a directory
        pass
    except OSError:
        return
    try:
        below = os.open(name, READ, dir_fd=directory)
    except OSError:
        return
    try:
        if depth > 0:
            empty(below, depth - 1)
    finally:
        os.close(below)
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError:
        return


def empty(directory: int, depth: int = MAX_DEPTH) -> None:
    """Remove all that is in a directory, as far as it can be removed."""
    try:
        os.fchmod(directory, 0o700)
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        remove(directory, name, depth)
