"""Small files in the session's home, which the session's own processes may have tampered with."""

from __future__ import annotations

import contextlib
import os
import stat

MAX_BYTES = 64 * 1024 * 1024


def read(path: str) -> bytes:
    """A regular file's content, up to ``MAX_BYTES``.

    Raises:
        OSError: also for a link, a FIFO and the like.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_BYTES)


def replace(path: str, content: bytes) -> None:
    """Replace a file atomically, without writing through a link that is in its place."""
    temporary = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
