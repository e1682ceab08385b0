"""Unpacks the archive that a session sends; its names and sizes are hostile input.

Every entry is created by name in an open directory and no link is followed, so neither the archive
nor a concurrent process can redirect it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from claude_mcp.config_names import TRANSFER_BYTES_NAME, TRANSFER_FILES_NAME
from claude_mcp.errors import TransferError
from claude_mcp.placing import descriptors
from claude_mcp.sessions.files.archive import Tally
from claude_mcp.sessions.files.tar import (
    CHUNK_BYTES,
    BrokenArchive,
    Entry,
    Kind,
    TarReader,
    Truncated,
)

PERMISSION_BITS: Final = 0o777
"""The bits of a mode that are kept: neither set-user-ID nor sticky."""
MAX_LINK_STEPS: Final = 40
"""The number of links that the kernel follows in one path."""
MAX_LINK_CHARS: Final = 4095
MAX_REMEMBERED_BYTES: Final = 64 * 1024 * 1024
"""Memory for names of directories and links, which are kept until the end."""
ENTRY_BYTES: Final = 200
"""Estimated memory per entry, without its names."""

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a transfer out of a session: total bytes of the files, and number of entries."""

    size: int
    files: int


@dataclass(slots=True)
class Unpacked:
    """The top-level name of an unpacked archive, and its directories with mode and inode.

    If the archive was truncated, ``complete`` is False; the engine's exit may say why.
    """

    name: str = ""
    complete: bool = False
    directories: list[tuple[Parts, int, int]] = field(default_factory=list)

    def set_modes(self, parent: int, target: str) -> None:
        """Set the directories' modes after they were moved to ``target`` in ``parent``.

        Set earlier, a mode could prevent moving or removing the directory. A directory that was
        merged into an existing one keeps that one's mode.
        """
        for parts, mode, inode in reversed(self.directories):
            with suppress(OSError):
                directory = descriptors.walk(parent, (target, *parts[1:]), descriptors.READ)
                try:
                    if os.fstat(directory).st_ino == inode:
                        os.fchmod(directory, mode & PERMISSION_BITS)
                finally:
                    os.close(directory)


def read_archive(
    pipe: BinaryIO, directory: int, owner: tuple[int, int] | None, tally: Tally, limits: Limits
) -> Unpacked:
    """Unpack an archive with one top-level entry into an open, empty directory of ours.

    Links that point outside it, devices and other special files are left out with a warning. With
    ``owner`` (uid, gid; requires root), every entry is given to that owner. Directories have mode
    0700 until ``Unpacked.set_modes``.

    Raises:
        TransferError: the archive is broken or too large, or contains a forbidden name.
    """
    with _Unpacking(directory, owner, tally, limits) as unpacking, TarReader(pipe) as archive:
        try:
            for entry in archive:
                unpacking.take(archive, entry)
            archive.finish()
        except Truncated:
            return unpacking.unpacked
        except BrokenArchive as error:
            raise TransferError(f"The session sent a broken archive: {error}.") from error
        if not unpacking.unpacked.name:
            raise TransferError(
                "Nothing was copied: the engine found no readable file or directory there."
            )
        unpacking.make_links()
        unpacking.unpacked.complete = True
        return unpacking.unpacked


class _Unpacking:
    """The state of unpacking one archive; closes its open directories on exit."""

    def __init__(
        self, directory: int, owner: tuple[int, int] | None, tally: Tally, limits: Limits
    ) -> None:
        self.unpacked = Unpacked()
        self._top, self._owner, self._tally, self._limits = directory, owner, tally, limits
        # The directory of the last entry and its ancestors; the next entry is usually nearby.
        self._open: list[tuple[str, int]] = []
        self._links: dict[Parts, str] = {}
        self._entries = self._remembered = 0
        self._buffer = memoryview(bytearray(CHUNK_BYTES))

    def __enter__(self) -> _Unpacking:
        return self

    def __exit__(self, *exception: object) -> None:
        while self._open:
            os.close(self._open.pop()[1])

    def take(self, archive: TarReader, entry: Entry) -> None:
        parts = self._parts(entry.name)
        self._entries += 1
        if self._entries > self._limits.files:
            raise _too_much(f"{self._limits.files} files and directories", TRANSFER_FILES_NAME)
        if entry.kind is Kind.OTHER:
            name = entry.name[:200]
            self._tally.warn(f"{name} is not a file, directory or link and was left out.")
        elif entry.kind is Kind.LINK:
            self._remember_link(parts, entry.link)
        else:
            try:
                self._make(archive, entry, parts)
            except OSError as error:
                raise TransferError(
                    f"Writing {entry.name[:200]} failed: {error.strerror}."
                ) from error

    def _parts(self, name: str) -> Parts:
        parts = _parts(name)
        root = self.unpacked.name = self.unpacked.name or parts[0]
        if parts[0] != root:
            raise TransferError(f"The session sent an unexpected entry {name[:200]!r}.")
        if len(parts) > descriptors.MAX_DEPTH:
            raise TransferError(
                f"The session sent {name[:200]!r}, which is nested too deeply: at most "
                f"{descriptors.MAX_DEPTH} levels."
            )
        return parts

    def _make(self, archive: TarReader, entry: Entry, parts: Parts) -> None:
        if entry.kind is Kind.FILE:
            self._file(archive, entry, self._directory(parts[:-1]), parts[-1])
        elif entry.kind is Kind.DIRECTORY:
            parent = self._directory(parts[:-1])
            os.mkdir(parts[-1], 0o700, dir_fd=parent)
            self._give(parent, parts[-1])
            inode = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_ino
            self._remember(entry.name)
            self.unpacked.directories.append((parts, entry.mode, inode))
            return
        else:
            target = _parts(entry.link)
            if target[0] != self.unpacked.name:
                raise TransferError(f"The session sent a link to {entry.link[:200]!r}.")
            twin = self._links.get(target)
            if twin is not None:  # a symbolic link with two names
                self._remember_link(parts, twin)
                return
            source = descriptors.walk(self._top, target[:-1])
            try:
                os.link(
                    target[-1], parts[-1], src_dir_fd=source,
                    dst_dir_fd=self._directory(parts[:-1]), follow_symlinks=False,
                )  # fmt: skip
            finally:
                os.close(source)
        self._tally.files += 1

    def _directory(self, parts: Parts) -> int:
        """Open the directory at this path below the top directory."""
        common = 0
        while common < min(len(parts), len(self._open)) and parts[common] == self._open[common][0]:
            common += 1
        while len(self._open) > common:
            os.close(self._open.pop()[1])
        for name in parts[common:]:
            above = self._open[-1][1] if self._open else self._top
            self._open.append((name, os.open(name, descriptors.SEARCH, dir_fd=above)))
        return self._open[-1][1] if self._open else self._top

    def _file(self, archive: TarReader, entry: Entry, parent: int, name: str) -> None:
        tally, limit = self._tally, self._limits.size
        if tally.size + entry.size > limit:
            raise _too_much(f"{limit} bytes", TRANSFER_BYTES_NAME)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            while count := archive.read_into(self._buffer):
                view = self._buffer[:count]
                while view:
                    view = view[os.write(descriptor, view) :]
                tally.size += count
            os.utime(descriptor, (entry.mtime, entry.mtime))
            if self._owner is not None:
                os.fchown(descriptor, *self._owner)
            os.fchmod(descriptor, entry.mode & PERMISSION_BITS)
        finally:
            os.close(descriptor)

    def _give(self, parent: int, name: str) -> None:
        if self._owner is not None:
            os.chown(name, *self._owner, dir_fd=parent, follow_symlinks=False)

    def _remember(self, *names: str) -> None:
        self._remembered += ENTRY_BYTES + sum(map(len, names))
        if self._remembered > MAX_REMEMBERED_BYTES:
            raise TransferError(
                "The session sent too many directories and links.",
                hint="Pack them into an archive in the session and copy the archive.",
            )

    def _remember_link(self, parts: Parts, link: str) -> None:
        if len(link) > MAX_LINK_CHARS:
            name = "/".join(parts)[:200]
            raise TransferError(f"The link {name} cannot be created: its target is too long.")
        self._remember(*parts, link)
        if parts in self._links:
            raise TransferError(f"The session sent {'/'.join(parts)[:200]!r} twice.")
        self._links[parts] = link

    def make_links(self) -> None:
        """Create the links, except those that lead outside directly or through other links."""
        for parts, link in self._links.items():
            name = "/".join(parts)[:200]
            if leads_outside(parts, self._links):
                self._tally.warn(
                    f"{name} was left out: it links to {link[:200]}, which is outside the copied "
                    "directory."
                )
                continue
            try:
                parent = self._directory(parts[:-1])
            except OSError as error:
                raise TransferError(f"The session sent {name!r} without its directory.") from error
            try:
                os.symlink(link, parts[-1], dir_fd=parent)
                self._give(parent, parts[-1])
            except (OSError, ValueError) as error:
                raise TransferError(f"The link {name} cannot be created: {error}.") from error
            self._tally.files += 1


def _too_much(what: str, variable: str) -> TransferError:
    return TransferError(
        f"Nothing was copied: the session sent more than {what}.",
        hint=f"Copy less at once, or raise {variable}.",
    )


def _parts(name: str) -> Parts:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or not parts or "\0" in name:
        raise TransferError(f"The session sent an entry named {name[:200]!r}.")
    return parts


def leads_outside(parts: Parts, links: dict[Parts, str]) -> bool:
    """Whether this link points outside the tree, whose root is the first name.

    Other links on its path are followed. A cyclic link, or one nested too deeply, counts as
    outside.
    """
    if len(parts) == 1:
        return "/" in links[parts] or links[parts] in ("..", ".")
    at, ahead, steps = list(parts[:-1]), [parts[-1]], 0
    while ahead:
        part = ahead.pop()
        if part == "..":
            at.pop()
            if not at:
                return True
        elif part not in ("", "."):
            at.append(part)
            if len(at) > descriptors.MAX_DEPTH:
                return True
            link = links.get(tuple(at))
            if link is not None:
                steps += 1
                if link.startswith("/") or steps > MAX_LINK_STEPS:
                    return True
                at.pop()
                ahead += reversed(link.split("/"))
    return False
