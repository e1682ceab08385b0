"""Takes chosen files of a session's work into the host's working tree.

A file that changed on the host since the session started is not overwritten unasked. Links are
never followed; each file is written beside its target first and then moved there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import anyio
import anyio.to_thread

from claude_mcp.engine.process import Stream
from claude_mcp.errors import GitError, UsageError, WorkConflict
from claude_mcp.placing import descriptors
from claude_mcp.placing.placement import PlaceError, place
from claude_mcp.placing.staging import staging
from claude_mcp.sessions.git.incoming import Incoming
from claude_mcp.sessions.git.program import SECONDS, clean, said
from claude_mcp.sessions.git.rules import ABSENT, EXECUTABLE, GITLINK, LINK, Entry, lies_at
from claude_mcp.sessions.git.worktree import Found, look

STAGED: Final = "staged"
BATCH: Final = "--batch=%(objecttype) %(objectsize)"
FILE_MODE: Final = 0o644
EXECUTABLE_MODE: Final = 0o755
DIRECTORY_MODE: Final = 0o755


class Outcome(StrEnum):
    WRITTEN = "written"
    DELETED = "deleted"
    SAME = "same"
    """The host's file is already like that."""
    CHANGED = "changed"
    """Not taken: the host's file changed since the session started."""
    FAILED = "failed"
    """Not taken: the file system refused, or the entry is a submodule."""


@dataclass(frozen=True, slots=True)
class Taken:
    path: str
    outcome: Outcome
    reason: str = ""
    """Why it failed."""


async def to_files(
    work: Incoming, paths: Sequence[str], *, overwrite: bool = False
) -> tuple[Taken, ...]:
    """Bring these paths of the working tree to the state that they have in the work.

    A path is relative to the top of the working tree; a directory stands for everything in it that
    the session changed. Files that the session deleted are deleted. With ``overwrite``, changes of
    the host's files are lost. The index stays as it is, and so does git's configuration.

    Raises:
        UsageError: the session did not change any file at one of the paths.
        WorkConflict: the repository has no working tree.
        GitError
    """
    if work.repository.work_tree is None:
        raise WorkConflict(
            "The project is a repository without a working tree.", hint="Take the work as a branch."
        )
    chosen = choose([change.entry for change in work.changes], paths)
    async with work.git.open(work.scratch, "cat-file", BATCH) as stream:
        return await take(
            work.repository.work_tree,
            work.repository.object_format,
            chosen,
            _GitBlobs(stream),
            overwrite=overwrite,
        )


class Blobs(Protocol):
    """Where the content of the files comes from."""

    async def copy(self, name: str, write: Callable[[bytes], object]) -> None: ...


async def take(
    directory: str, object_format: str, entries: Sequence[Entry], blobs: Blobs, *, overwrite: bool
) -> tuple[Taken, ...]:
    """Bring the files at the paths of these entries to their new state.

    ``directory`` is the real path of the top of the working tree.

    Raises:
        GitError: the content of a file cannot be had.
    """
    taken = []
    with descriptors.opened(directory) as root, staging(root) as (_, beside):
        tree = _Tree(root, beside, object_format, overwrite)
        for entry in entries:
            taken.append(await _take(tree, blobs, entry))
    return tuple(taken)


@dataclass(frozen=True, slots=True)
class _Tree:
    """A working tree, and a staging directory in it; both are open."""

    root: int
    beside: int
    object_format: str
    overwrite: bool


def choose(entries: Sequence[Entry], paths: Sequence[str]) -> list[Entry]:
    """Those at the paths or below. Deletions come first: a directory can take a file's place.

    Raises:
        UsageError: there is none at one of the paths.
    """
    chosen: dict[str, Entry] = {}
    for path in paths:
        found = {entry.path: entry for entry in entries if lies_at(entry, path)}
        if not found:
            raise UsageError(f"The session did not change {clean(path)!r}.")
        chosen |= found
    return sorted(chosen.values(), key=lambda entry: (entry.mode != ABSENT, entry.path))


async def _take(tree: _Tree, blobs: Blobs, entry: Entry) -> Taken:
    root, object_format, overwrite = tree.root, tree.object_format, tree.overwrite
    found = await anyio.to_thread.run_sync(look, root, entry.path, object_format)
    if _is(found, entry.mode, entry.object):
        return Taken(entry.path, Outcome.SAME)
    if GITLINK in (entry.mode, entry.old_mode):
        return Taken(entry.path, Outcome.FAILED, "it is a submodule")
    if found.blocker and entry.mode != ABSENT:
        return Taken(entry.path, Outcome.FAILED, f"{clean(found.blocker)} is not a directory")
    if not overwrite and not _unchanged(found, entry):
        return Taken(entry.path, Outcome.CHANGED)
    try:
        if entry.mode != ABSENT:
            await _stage(blobs, tree.beside, entry)
        # The file may have changed while its content came.
        now = await anyio.to_thread.run_sync(look, root, entry.path, object_format)
        if now != found and not overwrite:
            return Taken(entry.path, Outcome.CHANGED)
        await anyio.to_thread.run_sync(_apply, root, tree.beside, entry)
    except PlaceError as error:
        return Taken(entry.path, Outcome.FAILED, clean(str(error)))
    except OSError as error:
        return Taken(entry.path, Outcome.FAILED, error.strerror or "the file system refused")
    return Taken(entry.path, Outcome.DELETED if entry.mode == ABSENT else Outcome.WRITTEN)


def _is(found: Found, mode: int, wanted: str) -> bool:
    if mode == ABSENT:
        return found.mode == ABSENT
    return (found.mode, found.object) == (mode, wanted)


def _unchanged(found: Found, entry: Entry) -> bool:
    """Whether the host's file is that of the commit from which the session started.

    Whether it is executable does not count: some file systems cannot say.
    """
    if ABSENT in (found.mode, entry.old_mode):
        return found.mode == entry.old_mode
    same_kind = (found.mode == LINK) == (entry.old_mode == LINK)
    return same_kind and found.object == entry.old_object


async def _stage(blobs: Blobs, directory: int, entry: Entry) -> None:
    """Write the new file, or link, into the staging directory."""
    descriptors.remove(directory, STAGED)  # of a file that could not be moved
    if entry.mode == LINK:
        pieces: list[bytes] = []
        await blobs.copy(entry.object, pieces.append)
        os.symlink(b"".join(pieces), STAGED, dir_fd=directory)
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(STAGED, flags, 0o600, dir_fd=directory), "wb") as file:
        await blobs.copy(entry.object, file.write)
        os.fchmod(file.fileno(), EXECUTABLE_MODE if entry.mode == EXECUTABLE else FILE_MODE)


def _apply(root: int, directory: int, entry: Entry) -> None:
    """Delete the file, or move the staged one to its path."""
    *parents, name = entry.path.split("/")
    if entry.mode == ABSENT:
        _delete(root, parents, name)
        return
    owner = os.fstat(root)
    foreign = os.geteuid() == 0 and owner.st_uid != 0
    if foreign:
        os.chown(STAGED, owner.st_uid, owner.st_gid, dir_fd=directory, follow_symlinks=False)
    here = os.dup(root)
    try:
        for parent in parents:
            with suppress(FileExistsError):
                os.mkdir(parent, DIRECTORY_MODE, dir_fd=here)
                if foreign:
                    os.chown(parent, owner.st_uid, owner.st_gid, dir_fd=here, follow_symlinks=False)
            below = os.open(parent, descriptors.SEARCH, dir_fd=here)
            os.close(here)
            here = below
        place(directory, STAGED, here, name, overwrite=True)
    finally:
        os.close(here)


def _delete(root: int, parents: list[str], name: str) -> None:
    """Delete a file, and the directories that it leaves empty."""
    here = descriptors.walk(root, parents)
    try:
        os.unlink(name, dir_fd=here)
    finally:
        os.close(here)
    while parents:
        *parents, last = parents
        here = descriptors.walk(root, parents)
        try:
            os.rmdir(last, dir_fd=here)
        except OSError:
            return  # it still has files
        finally:
            os.close(here)


class _GitBlobs:
    """Reads objects from a running ``git cat-file``."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b""

    async def copy(self, name: str, write: Callable[[bytes], object]) -> None:
        """Write the content of a blob, piece by piece.

        Raises:
            OSError: from ``write``. The next blob can be read all the same.
            GitError: git has no such blob, or does not answer.
        """
        try:
            await self._stream.send(f"{name}\n".encode())
        except anyio.BrokenResourceError:
            raise self._gone() from None
        while b"\n" not in self._rest:
            self._rest += await self._receive()
        head, _, self._rest = self._rest.partition(b"\n")
        kind, _, size = head.partition(b" ")
        if kind != b"blob":
            raise GitError(f"git has no blob {name[:12]}.")
        left = int(size)
        failure: OSError | None = None
        while left:
            piece = self._rest or await self._receive()
            piece, self._rest = piece[:left], piece[left:]
            left -= len(piece)
            try:
                if failure is None:
                    write(piece)
            except OSError as error:
                failure = error
        self._rest = (self._rest or await self._receive())[1:]
        if failure is not None:
            raise failure

    async def _receive(self) -> bytes:
        piece = b""
        with anyio.move_on_after(SECONDS):
            piece = await self._stream.receive()
        if not piece:
            raise self._gone()
        return piece

    def _gone(self) -> GitError:
        return GitError(f"git cat-file failed: {said(self._stream.stderr_tail) or 'no answer'}")
