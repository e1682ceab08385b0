"""Writes a patch to a file of the host: the whole of it, or nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final

from claude_mcp.config import Config
from claude_mcp.errors import NextStep, TransferError
from claude_mcp.placing import descriptors, placement
from claude_mcp.placing.staging import staging
from claude_mcp.sessions.paths import policy

NAME: Final = "patch"
"""In the staging directory."""
MODE: Final = 0o666
"""Without what the umask takes away."""


def write(given: str, pieces: Iterable[bytes], config: Config, *, overwrite: bool) -> str:
    """Write the patch beside its path and move it there; returns its real path.

    As root, the file belongs to the owner of its directory.

    Raises:
        UsageError: the path is refused.
        TransferError: it exists, or cannot be written. Nothing was changed.
    """
    parent = os.path.realpath(os.path.dirname(given))
    target = os.path.join(parent, os.path.basename(given))
    try:
        with descriptors.opened(parent) as directory:
            owner = os.fstat(directory)
            policy.check(target, f"The patch {target!r}", config, owner.st_uid)
            _check_replaceable(directory, os.path.basename(target))
            placement.check(False, directory, target, overwrite)  # before the work
            with staging(directory) as (_, beside):
                _write(beside, pieces, owner)
                placement.place(beside, NAME, directory, target, overwrite)
    except placement.PlaceError as error:
        if not overwrite and os.path.lexists(target):
            raise TransferError(
                f"The patch was not written: {target} exists.", steps=(NextStep.OVERWRITE,)
            ) from error
        raise TransferError(f"The patch was not written: {error}.") from error
    except OSError as error:
        raise TransferError(f"The patch was not written: {target}: {error.strerror}.") from error
    return target


def _check_replaceable(directory: int, name: str) -> None:
    """Raise PlaceError for what is no regular file: a link, a pipe, a device."""
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise placement.PlaceError(f"{name} exists and is not a regular file")


def _write(directory: int, pieces: Iterable[bytes], owner: os.stat_result) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(NAME, flags, MODE, dir_fd=directory), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())  # a full disk may show itself only here
        if policy.current_uid() == 0:
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
