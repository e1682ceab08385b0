"""Directories for what Podman's ``cp -`` writes to disk and leaves there.

Each is locked while its copy runs. The next copy removes those that no process holds any more,
which killed processes have left, as large as what they copied.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from typing import Final

PREFIX: Final = "claude-mcp-copy-"
STALE_SECONDS: Final = 60.0
"""A younger directory may not have been locked yet."""


@contextlib.contextmanager
def directory(parent: str) -> Iterator[str]:
    """A new directory in ``parent``, removed afterwards; blocks while it removes.

    Raises:
        OSError: it cannot be made.
    """
    sweep(parent)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent) as path:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(descriptor)
            yield path
        finally:
            os.close(descriptor)


def sweep(parent: str) -> None:
    """Remove the directories of processes that no longer exist, as far as possible."""
    with contextlib.suppress(OSError):
        for name in os.listdir(parent):
            if name.startswith(PREFIX):
                with contextlib.suppress(OSError):
                    _remove_stale(os.path.join(parent, name))


def _remove_stale(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        # In a directory that all users share, another one could have made it.
        ours = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700
        if ours and time.time() - status.st_mtime > STALE_SECONDS and _lock(descriptor):
            shutil.rmtree(path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether this process holds the lock now; it ends with the process."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds it, or the file system has no locks
        return False
    return True
