"""Tar archives as the engines take them, written fast.

Blocking code for a worker thread; a ``Tally`` may be read from elsewhere meanwhile. ``os``
instead of ``pathlib``, because one object per path is a third of the time for small files.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, BinaryIO, Final

from claude_mcp.errors import TransferError
from claude_mcp.placing import descriptors
from claude_mcp.sessions.files.tar import CHUNK_BYTES

MAX_WARNINGS: Final = 20


@dataclass(slots=True)
class Tally:
    """What has been copied so far (``size`` in bytes), and what could not be."""

    files: int = 0
    size: int = 0
    warnings: list[str] = field(default_factory=list)

    def warn(self, line: str) -> None:
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(line)
        elif len(self.warnings) == MAX_WARNINGS:
            self.warnings.append("There are more entries that were left out.")


def write_archive(
    parent: int, source: str, name: str, owner: tuple[int, int], pipe: BinaryIO, tally: Tally
) -> None:
    """Write ``source`` as ``name``, all of it owned by ``owner`` (uid, gid).

    ``parent`` is the open directory of ``source``, a path that from here on only messages use.

    Raises:
        TransferError: a file cannot be read, or changed while it was read.
        BrokenPipeError: the reader of the pipe has ended.
    """
    _write_entry(_Writer(owner, pipe, tally), parent, source, name, descriptors.MAX_DEPTH)
    # The two blocks that end an archive and not one more: Podman closes its pipe behind them.
    _write_all(pipe, b"\0" * 2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True)
class _Writer:
    owner: tuple[int, int]
    pipe: BinaryIO
    tally: Tally

    def header(
        self, name: str, status: os.stat_result, kind: bytes, *, size: int = 0, link: str = ""
    ) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname = kind, size, link
        info.mode = stat.S_IMODE(status.st_mode)
        info.mtime = int(status.st_mtime)
        info.uid, info.gid = self.owner
        _write_all(self.pipe, info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))


def _write_entry(archive: _Writer, directory: int, path: str, name: str, depth: int) -> None:
    """Write what is the last name of ``path`` in a directory, and all below it."""
    here = os.path.basename(path)
    try:
        status = os.stat(here, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            with open(here, "rb", buffering=0, opener=_regular_in(directory)) as file:
                status = os.fstat(file.fileno())
                archive.header(name, status, tarfile.REGTYPE, size=status.st_size)
                _write_content(archive, file, path, status.st_size)
        elif stat.S_ISDIR(status.st_mode):
            _write_directory(archive, directory, path, name, depth)
            return
        elif stat.S_ISLNK(status.st_mode):
            link = os.readlink(here, dir_fd=directory)
            archive.header(name, status, tarfile.SYMTYPE, link=link)
        else:
            archive.tally.warn(f"{path} is no file, directory or link and was left out.")
            return
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TransferError(f"{path} cannot be read: {error.strerror}.") from error
    archive.tally.files += 1


def _write_directory(archive: _Writer, directory: int, path: str, name: str, depth: int) -> None:
    if depth == 0:
        raise TransferError(f"{path} is too deep: {descriptors.MAX_DEPTH} directories at most.")
    opened = os.open(os.path.basename(path), descriptors.READ, dir_fd=directory)
    try:
        archive.header(name, os.fstat(opened), tarfile.DIRTYPE)
        for child in sorted(os.listdir(opened)):
            _write_entry(archive, opened, f"{path}/{child}", f"{name}/{child}", depth - 1)
    finally:
        os.close(opened)


def _regular_in(directory: int) -> Callable[[str, int], int]:
    """An opener of files of this directory; what is no file any more is not one to open."""

    def open_regular(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.ESTALE, "it became something else than a file")
        return descriptor

    return open_regular


def _write_content(archive: _Writer, file: IO[bytes], path: str, size: int) -> None:
    left = size
    while left:
        data = file.read(min(left, CHUNK_BYTES))
        if not data:
            raise TransferError(f"{path} became shorter while it was copied.")
        _write_all(archive.pipe, data)
        left -= len(data)
        archive.tally.size += len(data)
    _write_all(archive.pipe, b"\0" * (-size % tarfile.BLOCKSIZE))


def _write_all(pipe: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]
