"""Staging directories, in which a transfer collects its files beside the target (mode 0700).

The directory is locked while its transfer runs. The next transfer to the same place removes
unlocked ones, which killed transfers have left. Used on the host and in the session.
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
STALE_SECONDS = 5.0
"""A younger directory may not have been locked yet."""
ENTERED = 0o711
"""The mode of one that another user may enter, for a directory that is in there."""


@contextmanager
def staging(parent: int) -> Iterator[tuple[str, int]]:
    """Create a staging directory in an open one; yields its name and descriptor.

    It is removed afterwards.

    Raises:
        OSError: it cannot be created, or another user replaced it.
    """
    _sweep(parent)
    name = PREFIX + secrets.token_hex(8)
    os.mkdir(name, 0o700, dir_fd=parent)
    directory = os.open(name, descriptors.READ, dir_fd=parent)
    try:
        # The owner of the parent may have replaced it, and it will be emptied.
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
            os.rmdir(name, dir_fd=parent)  # not ``remove``: it may have been replaced


def _lock(directory: int) -> bool:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds it, or the file system has no locks
        return False
    return True


def _sweep(parent: int) -> None:
    """Remove staging directories that killed transfers left in this directory.

    Skipped if another user could have moved other files of ours to such a name: its owner, unless
    that is root, and if it is not sticky, whoever shares it.
    """
    status = os.fstat(parent)
    shared = status.st_uid == 0 and status.st_mode & stat.S_ISVTX
    if status.st_uid != os.geteuid() and not shared:
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
        ours = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) in (0o700, ENTERED)
        if ours and time.time() - status.st_mtime > STALE_SECONDS and _lock(directory):
            descriptors.empty(directory)
            os.rmdir(name, dir_fd=parent)
    except OSError:
        return
    finally:
        os.close(directory)
