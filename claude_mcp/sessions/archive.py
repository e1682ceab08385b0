"""Tar archives as the engines take and give them: written fast, read as hostile input.

Blocking code for a worker thread; a ``Tally`` may be read from elsewhere meanwhile. ``os``
instead of ``pathlib``, because one object per path is a third of the time for small files.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, BinaryIO, Final

from claude_mcp.errors import TransferError

CHUNK_BYTES: Final = 128 * 1024
"""Ones of 1 MiB cost three times the processor time: each is new memory from the kernel."""
MAX_WARNINGS: Final = 20
PERMISSION_BITS: Final = 0o777
"""What is taken over of a mode that comes from a container: no set-user-id, no sticky bit."""


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
    source: str, name: str, owner: tuple[int, int], pipe: BinaryIO, tally: Tally
) -> None:
    """Write ``source`` as ``name``, all of it owned by ``owner`` (uid, gid).

    Raises:
        TransferError: a file cannot be read, or changed while it was read.
        BrokenPipeError: the reader of the pipe has ended.
    """
    try:
        for path, entry in _walk(source, name):
            status = os.lstat(path)
            info = _header(path, entry, status, owner)
            if info is None:
                tally.warn(f"{path} is no file, directory or link and was left out.")
                continue
            _write_all(pipe, info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
            if info.isreg():
                _write_file(path, info.size, pipe, tally)
            if not info.isdir():
                tally.files += 1
        # The two blocks that end an archive and not one more: Podman closes its pipe behind them.
        _write_all(pipe, b"\0" * 2 * tarfile.BLOCKSIZE)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TransferError(
            f"{error.filename or source} cannot be read: {error.strerror}."
        ) from error


def _walk(source: str, name: str) -> Iterator[tuple[str, str]]:
    """Every path and its name in the archive, directories before what they hold."""
    waiting = [(source, name)]
    while waiting:
        path, entry = waiting.pop()
        yield path, entry
        if os.path.isdir(path) and not os.path.islink(path):
            children = sorted(os.listdir(path), reverse=True)
            waiting += [(f"{path}/{child}", f"{entry}/{child}") for child in children]


def _header(
    path: str, name: str, status: os.stat_result, owner: tuple[int, int]
) -> tarfile.TarInfo | None:
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(status.st_mode)
    info.mtime = int(status.st_mtime)
    info.uid, info.gid = owner
    if stat.S_ISREG(status.st_mode):
        info.size = status.st_size
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        info.type = tarfile.SYMTYPE
        info.linkname = os.readlink(path)
    else:
        return None
    return info


def _write_file(path: str, size: int, pipe: BinaryIO, tally: Tally) -> None:
    left = size
    with open(path, "rb", buffering=0, opener=_open_regular) as file:
        while left:
            data = file.read(min(left, CHUNK_BYTES))
            if not data:
                raise TransferError(f"{path} became shorter while it was copied.")
            _write_all(pipe, data)
            left -= len(data)
            tally.size += len(data)
    _write_all(pipe, b"\0" * (-size % tarfile.BLOCKSIZE))


def _open_regular(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _write_all(pipe: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def read_archive(
    pipe: BinaryIO, directory: str, owner: tuple[int, int] | None, tally: Tally
) -> str:
    """Unpack an archive of one entry, and all below it, into an empty directory of ours.

    Returns the name of that entry. Links that lead outside it, devices and the like are left
    out with a warning. With ``owner`` (we are root), everything is given to uid, gid.

    Raises:
        TransferError: the archive is broken, or an entry's name leads elsewhere.
    """
    root: str | None = None
    directories: list[tuple[str, int]] = []
    links: dict[str, str] = {}
    try:
        with tarfile.open(
            fileobj=pipe, mode="r|", bufsize=CHUNK_BYTES, encoding="utf-8", errors="surrogateescape"
        ) as archive:
            for member in archive:
                parts = _parts(member.name)
                root = root or parts[0]
                if parts[0] != root:
                    raise TransferError(f"The session sent an unexpected entry {member.name!r}.")
                path = os.path.join(directory, *parts)
                if member.isdir():
                    os.mkdir(path, 0o700)
                    directories.append((path, member.mode))
                elif member.isreg():
                    content = archive.extractfile(member)
                    assert content is not None
                    _read_file(content, member, path, tally)
                elif member.issym():
                    links["/".join(parts)] = member.linkname
                    continue
                elif member.islnk():
                    target = _parts(member.linkname)
                    if target[0] != root:
                        raise TransferError(f"The session sent a link to {member.linkname!r}.")
                    twin = links.get("/".join(target))
                    if twin is not None:  # a symbolic link with two names
                        links["/".join(parts)] = twin
                        continue
                    os.link(os.path.join(directory, *target), path, follow_symlinks=False)
                else:
                    tally.warn(f"{member.name} is no file, directory or link and was left out.")
                    continue
                if owner is not None:
                    os.chown(path, *owner, follow_symlinks=False)
                if not member.isdir():
                    tally.files += 1
            while pipe.read(CHUNK_BYTES):
                pass  # padding behind the end; unread, it would break the engine's pipe
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise TransferError(f"The session sent a broken archive: {error}.") from error
    except OSError as error:
        raise TransferError(f"Writing {error.filename} failed: {error.strerror}.") from error
    if root is None:
        raise TransferError(
            "Nothing was copied: the engine finds no file or directory there that it can read."
        )
    _make_links(directory, [path for path, _ in directories], links, owner, tally)
    for path, mode in reversed(directories):
        os.chmod(path, mode & PERMISSION_BITS)
    return root


def _make_links(
    directory: str,
    directories: list[str],
    links: dict[str, str],
    owner: tuple[int, int] | None,
    tally: Tally,
) -> None:
    """Make the links last, and only in directories that we made: nothing is written through one.

    One by one they lead outside when their text does; together, also when they lead there over
    each other.
    """
    made: list[str] = []
    parents = {directory, *directories}
    for name, link in links.items():
        path = os.path.join(directory, name)
        if _leads_outside(name, link):
            _warn_of_link(tally, name, link)
            continue
        if os.path.dirname(path) not in parents:
            raise TransferError(f"The session sent {name[:200]!r} without its directory.")
        try:
            os.symlink(link, path)
        except (OSError, ValueError) as error:
            raise TransferError(f"Making the link {name} failed: {error}.") from error
        if owner is not None:
            os.chown(path, *owner, follow_symlinks=False)
        made.append(name)
    root = os.path.realpath(directories[0]) if directories else ""
    outside = [
        name
        for name in made
        if not f"{os.path.realpath(os.path.join(directory, name))}/".startswith(f"{root}/")
    ]
    for name in outside:
        os.unlink(os.path.join(directory, name))
        _warn_of_link(tally, name, links[name])
    tally.files += len(made) - len(outside)


def _warn_of_link(tally: Tally, name: str, link: str) -> None:
    tally.warn(f"{name} is a link to {link}, outside of what was copied; it was left out.")


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or not parts or "\0" in name:
        raise TransferError(f"The session sent an entry named {name[:200]!r}.")
    return parts


def _leads_outside(name: str, link: str) -> bool:
    """Whether a link inside the copied tree points out of it (the tree's root is one name)."""
    if link.startswith("/") or "/" not in name:
        return link.startswith("/") or "/" in link or link in ("..", ".")
    depth = name.count("/") - 1
    for part in link.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return True
    return False


def _read_file(content: IO[bytes], member: tarfile.TarInfo, path: str, tally: Tally) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        while data := content.read(CHUNK_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            tally.size += len(data)
        os.utime(descriptor, (member.mtime, member.mtime))
        os.fchmod(descriptor, member.mode & PERMISSION_BITS)
    finally:
        os.close(descriptor)
