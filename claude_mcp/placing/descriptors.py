"""Opens directories by descriptor and never follows a symbolic link.

A checked path may lead elsewhere when it is used, because anyone who can write to one of its
directories can put a link there. An open descriptor always refers to the same directory. Used on
the host and in the session.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Traversing a directory does not need permission to read it.
SEARCH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_DEPTH = 256
"""Maximum nesting depth; one descriptor is held per level."""
READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def walk(directory: int, names: Iterable[str], flags: int = SEARCH) -> int:
    """A new descriptor of the directory at this path of names.

    Raises:
        OSError: one of them is not a directory, or is a link.
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
    """Open the directory at an absolute path.

    Raises:
        OSError: the path contains a link, or there is no such directory.
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
    """Remove a file or a directory tree as far as possible."""
    try:
        os.unlink(name, dir_fd=directory)
        return
    except IsADirectoryError:
        pass
    except PermissionError:  # some systems report this for a directory
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


def count_files(directory: int, name: str) -> int:
    """How many files and links a tree has; anything but a directory is one.

    Raises:
        OSError: it cannot be read.
    """
    if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        return 1
    below = os.open(name, READ, dir_fd=directory)
    try:
        with os.scandir(below) as entries:
            names = [(each.name, each.is_dir(follow_symlinks=False)) for each in entries]
        inside = [count_files(below, child) for child, is_dir in names if is_dir]
        return sum(inside) + sum(not is_dir for _, is_dir in names)
    finally:
        os.close(below)


def empty(directory: int, depth: int = MAX_DEPTH) -> None:
    """Remove the contents of a directory as far as possible."""
    try:
        os.fchmod(directory, 0o700)
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        remove(directory, name, depth)
