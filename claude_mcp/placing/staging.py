"""Where a transfer gathers what it copies: a directory beside the target, of its user alone.

It is locked for as long as its transfer lives, so that what a killed one left is known, and
removed by the next that comes by. Used on both sides of the wall.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from claude_mcp.placing import descriptors

PREFIX = ".claude-mcp-transfer-"
STALE_SECONDS = 60.0
"""A younger one may be about to be locked."""


@contextmanager
def staging(parent: int) -> Iterator[tuple[str, int]]:
    """Make one in an open directory: its name and its descriptor. It is removed at the end.

    Raises:
        OSError: it cannot be made, or somebody put another in its place.
    """
    _sweep(parent)
    name = PREFIX + secrets.token_hex(8)
    os.mkdir(name, 0o700, dir_fd=parent)
    directory = os.open(name, descriptors.READ, dir_fd=parent)
    try:
        # Whoever owns the parent may have put another there, and it will be emptied.
        if os.fstat(directory).st_uid != os.geteuid() or os.listdir(directory):
            raise PermissionError(errno.EPERM, "the staging directory was replaced")
    except OSError:
        os.close(directory)
        raise
    try:
        _lock(directory)
        yield name, directory
    finally:
        descriptors.empty(directory)
        os.close(directory)
        with suppress(OSError):
            os.rmdir(name, dir_fd=parent)  # not ``remove``: it may be another by now


def _lock(directory: int) -> bool:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody else has it, or the file system knows no locks
        return False
    return True


def _sweep(parent: int) -> None:
    """Remove what killed transfers of ours left in this directory.

    In a directory of somebody else, that one may have given the name to another thing of ours.
    """
    if os.fstat(parent).st_uid != os.geteuid():
        return
    try:
        reading = os.open(".", descriptors.READ, dir_fd=parent)
    except OSError:
        return
    try:
        for name in os.listdir(reading):
            if name.startswith(PREFIX):
                _remove_stale(reading, name)
    finally:
        os.close(reading)


def _remove_stale(parent: int, name: str) -> None:
    try:
        directory = os.open(name, descriptors.READ, dir_fd=parent)
    except OSError:
        return
    try:
        status = os.fstat(directory)
        ours = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700
        if ours and time.time() - status.st_mtime > STALE_SECONDS and _lock(directory):
            descriptors.empty(directory)
            os.rmdir(name, dir_fd=parent)
    except OSError:
        return
    finally:
        os.close(directory)
