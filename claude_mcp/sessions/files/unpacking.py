"""Unpacks what a session sends, as hostile input: it may name anything, and be of any size.

Every entry is made by its own name in an open directory of ours, over no link, so that neither
the archive nor a process that changes things meanwhile leads it elsewhere.
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
from claude_mcp.sessions.files.tar import CHUNK_BYTES, BrokenArchive, CutOff, Entry, Kind, TarReader

PERMISSION_BITS: Final = 0o777
"""What is taken over of a mode that comes from a container: no set-user-id, no sticky bit."""
MAX_LINK_STEPS: Final = 40
"""As many links as the kernel follows on one way."""
MAX_LINK_CHARS: Final = 4095
MAX_REMEMBERED_BYTES: Final = 64 * 1024 * 1024
"""Of the names of directories and links, which are kept until the end."""
ENTRY_BYTES: Final = 200
"""What remembering one costs, without its names."""

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a transfer out of a session may bring: bytes in files, and entries."""

    size: int
    files: int


@dataclass(slots=True)
class Unpacked:
    """What was unpacked: its name, and the directories in it, each with mode and inode.

    Of an archive that was cut off it is not all; the engine that wrote it may say why.
    """

    name: str = ""
    complete: bool = False
    directories: list[tuple[Parts, int, int]] = field(default_factory=list)

    def set_modes(self, parent: int, target: str) -> None:
        """Give the directories their modes, now that they are at ``target`` in ``parent``.

        Before, they may be in the way of moving or removing them. Those that were merged into
        others keep the modes of these.
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
    """Unpack an archive of one entry, and all below it, into an open, empty directory of ours.

    Links that lead outside it, devices and the like are left out with a warning. With ``owner``
    (we are root), everything is given to uid, gid. Directories are of mode 0700 until
    ``Unpacked.set_modes``.

    Raises:
        TransferError: the archive is broken or too large, or an entry's name leads elsewhere.
    """
    with _Unpacking(directory, owner, tally, limits) as unpacking, TarReader(pipe) as archive:
        try:
            for entry in archive:
                unpacking.take(archive, entry)
            archive.finish()
        except CutOff:
            return unpacking.unpacked
        except BrokenArchive as error:
            raise TransferError(f"The session sent a broken archive: {error}.") from error
        if not unpacking.unpacked.name:
            raise TransferError(
                "Nothing was copied: the engine finds no file or directory there that it can read."
            )
        unpacking.make_links()
        unpacking.unpacked.complete = True
        return unpacking.unpacked


class _Unpacking:
    """One archive on its way; a context manager that closes what it opened."""

    def __init__(
        self, directory: int, owner: tuple[int, int] | None, tally: Tally, limits: Limits
    ) -> None:
        self.unpacked = Unpacked()
        self._top, self._owner, self._tally, self._limits = directory, owner, tally, limits
        # The directory of the latest entry and those above it: the next is mostly beside it.
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
            self._tally.warn(f"{entry.name[:200]} is no file, directory or link and was left out.")
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
                f"The session sent {name[:200]!r}, which is too deep: "
                f"{descriptors.MAX_DEPTH} directories at most."
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
        """The open directory that these names lead to, from the top one on."""
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
                "The session sent more directories and links than can be kept track of.",
                hint="Pack them into an archive inside, and copy that.",
            )

    def _remember_link(self, parts: Parts, link: str) -> None:
        if len(link) > MAX_LINK_CHARS:
            name = "/".join(parts)[:200]
            raise TransferError(f"Making the link {name} failed: what it leads to is too long.")
        self._remember(*parts, link)
        if parts in self._links:
            raise TransferError(f"The session sent {'/'.join(parts)[:200]!r} twice.")
        self._links[parts] = link

    def make_links(self) -> None:
        """Make the links last, without those that lead outside, also over each other."""
        for parts, link in self._links.items():
            name = "/".join(parts)[:200]
            if leads_outside(parts, self._links):
                self._tally.warn(
                    f"{name} is a link to {link[:200]}, outside of what was copied; "
                    "it was left out."
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
                raise TransferError(f"Making the link {name} failed: {error}.") from error
            self._tally.files += 1


def _too_much(what: str, variable: str) -> TransferError:
    return TransferError(
        f"The session sent more than {what}, and nothing was copied.",
        hint=f"Copy less at once, or raise {variable}.",
    )


def _parts(name: str) -> Parts:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or not parts or "\0" in name:
        raise TransferError(f"The session sent an entry named {name[:200]!r}.")
    return parts


def leads_outside(parts: Parts, links: dict[Parts, str]) -> bool:
    """Whether the link with this name points out of the tree, whose root is the first name.

    Other links on its way are followed. One that goes round in circles, or deeper than
    directories may be, counts as outside.
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
