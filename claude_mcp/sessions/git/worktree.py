"""Reads what lies at a path of a working tree, as git would store it. Links are not followed.

What git converts between its objects and files (line ends, filters) counts as a difference.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from claude_mcp.placing import descriptors
from claude_mcp.sessions.git.rules import ABSENT, EXECUTABLE, FILE, LINK

DIRECTORY: Final = 0o040000
OTHER: Final = -1
"""A device, or what cannot be read."""
READ_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a path: a mode of git or ``OTHER``, and the object with its content.

    ``blocker`` is a parent that is not a directory, if there is one.
    """

    mode: int
    object: str = ""
    blocker: str = ""


def look(root: int, path: str, object_format: str) -> Found:
    """What is at a path below the open directory ``root``."""
    *parents, name = path.split("/")
    passed: list[str] = []
    here = os.dup(root)
    try:
        for parent in parents:
            passed.append(parent)
            below = os.open(parent, descriptors.SEARCH, dir_fd=here)
            os.close(here)
            here = below
        return _entry(here, name, object_format)
    except FileNotFoundError:
        return Found(ABSENT)
    except OSError:
        return Found(OTHER, blocker="/".join(passed))
    finally:
        os.close(here)


def _entry(parent: int, name: str, object_format: str) -> Found:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return Found(ABSENT)
    try:
        if stat.S_ISLNK(status.st_mode):
            target = os.fsencode(os.readlink(name, dir_fd=parent))
            digest = _digest(len(target), object_format)
            digest.update(target)
            return Found(LINK, digest.hexdigest())
        if not stat.S_ISREG(status.st_mode):
            return Found(DIRECTORY if stat.S_ISDIR(status.st_mode) else OTHER)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=parent), "rb") as file:
            return _file(file, object_format)
    except OSError:
        return Found(OTHER)


def _file(file: BinaryIO, object_format: str) -> Found:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        return Found(OTHER)
    digest = _digest(status.st_size, object_format)
    while piece := file.read(READ_BYTES):
        digest.update(piece)
    return Found(EXECUTABLE if status.st_mode & stat.S_IXUSR else FILE, digest.hexdigest())


def files_below(root: int, path: str) -> Iterator[str]:
    """The paths of all files, links and devices in a directory below the open one."""
    parent = descriptors.walk(root, path.split("/")[:-1])
    try:
        name = os.path.basename(path)
        for directory, inner, files, descriptor in os.fwalk(name, dir_fd=parent):
            above = os.path.join(os.path.dirname(path), directory)
            links = (each for each in inner if _is_link(each, descriptor))
            yield from (os.path.join(above, each) for each in (*files, *links))
    finally:
        os.close(parent)


def _is_link(name: str, parent: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _digest(size: int, object_format: str) -> hashlib._Hash:
    """The start of the hash of a blob."""
    digest = hashlib.new(object_format, usedforsecurity=False)
    digest.update(b"blob %d\0" % size)
    return digest
