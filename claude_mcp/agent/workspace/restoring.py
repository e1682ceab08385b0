"""Brings the workspace back to a checkpoint, after keeping its present state in another one.

Files are placed by name in open directories, and no link is followed. A file is written beside the
others and then moved, so it is never seen in part. Only what the checkpoint of the present state
holds is replaced or removed.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import NamedTuple

from claude_mcp.agent.workspace.changes import PLAIN, RAW, NoCheckpoint, encoded
from claude_mcp.agent.workspace.checkpoints import (
    BEFORE_DISCARD,
    FIRST_TAKE_SECONDS,
    Checkpoint,
    Checkpoints,
    text,
)
from claude_mcp.agent.workspace.git import Deadline, GitFailed
from claude_mcp.agent.workspace.repository import BRANCHES, Repository
from claude_mcp.placing import descriptors
from claude_mcp.placing.staging import staging

RESTORE_SECONDS = 300.0
LISTING_BYTES = 64 * 1024 * 1024
OUTPUT_BYTES = 64 * 1024
LINK_MODE = 0o120000
IN_PROGRESS = (
    "AUTO_MERGE", "BISECT_LOG", "BISECT_START", "CHERRY_PICK_HEAD", "MERGE_HEAD", "MERGE_MODE",
    "MERGE_MSG", "REVERT_HEAD", "rebase-apply", "rebase-merge", "sequencer",
)  # fmt: skip
"""What a merge, rebase or the like that is not finished has in the directory of a repository."""


class CannotDiscard(Exception):
    """Nothing was changed; the message says why."""


class Left(NamedTuple):
    path: str
    reason: str


class Restored(NamedTuple):
    """What was done. ``undo`` is the label of the checkpoint that brings the former state back.

    ``branch`` and ``head`` are what the clone was reset to, None if its branch was not moved.
    """

    undo: str
    restored: tuple[str, ...]
    removed: tuple[str, ...]
    left: tuple[Left, ...]
    branch: str | None
    head: str | None


class Step(NamedTuple):
    """One path; ``mode`` is that of the checkpoint, 0 if it does not exist there."""

    path: bytes
    mode: int
    oid: str


def restore(checkpoints: Checkpoints, label: str, paths: Sequence[str] | None = None) -> Restored:
    """Bring the workspace, or some paths, back to a checkpoint.

    Of a ``clone``, branch and HEAD are reset too, unless ``paths`` are given; no commit is
    deleted. Interrupted, it can be repeated.

    Raises:
        NoCheckpoint, CannotDiscard, GitFailed, NoGit, OSError
    """
    target = checkpoints.find(label)
    if target is None:
        raise NoCheckpoint(label)
    undo = _next_undo(checkpoints)
    taken = checkpoints.take(undo, FIRST_TAKE_SECONDS)
    if taken.checkpoint is None:
        raise CannotDiscard(f"the present state cannot be kept: {taken.reason}")
    deadline = Deadline(RESTORE_SECONDS)
    steps = _steps(checkpoints, taken.checkpoint, target, paths, deadline)
    with descriptors.opened(os.path.realpath(checkpoints.workspace)) as root:
        work = _Restoring(root)
        work.remove([step for step in steps if not step.mode])
        work.write([step for step in steps if step.mode], checkpoints, deadline)
    source = checkpoints.git.repository()
    reset = False
    if checkpoints.clone and source is not None and not paths:
        reset = _reset(checkpoints, source, target, work.left, deadline)
    return Restored(
        undo,
        tuple(work.restored),
        tuple(work.removed),
        tuple(work.left),
        target.branch if reset else None,
        target.head if reset else None,
    )


def _next_undo(checkpoints: Checkpoints) -> str:
    numbers = [0]
    for label in checkpoints.kept():
        number = label[len(BEFORE_DISCARD) :]
        if label.startswith(BEFORE_DISCARD) and number.isdecimal():
            numbers.append(int(number))
    return f"{BEFORE_DISCARD}{max(numbers) + 1}"


def _steps(
    checkpoints: Checkpoints,
    present: Checkpoint,
    target: Checkpoint,
    paths: Sequence[str] | None,
    deadline: Deadline,
) -> list[Step]:
    """What differs, in the order of the paths."""
    arguments = ("diff-tree", *RAW, "--no-renames", *PLAIN, present.tree, target.tree, "--")
    git = checkpoints.git(borrowing=True)
    output = git.run((*arguments, *encoded(paths)), deadline, limit_bytes=LISTING_BYTES)
    if not output.complete:
        raise CannotDiscard("too many files differ from the checkpoint")
    fields = output.data.split(b"\0")[:-1]
    steps = []
    for facts, path in zip(fields[::2], fields[1::2]):
        _, mode, _, oid, _ = facts.split(b" ")
        steps.append(Step(path, int(mode, 8), oid.decode()))
    return steps


class _Restoring:
    """The work on the files below ``root``, an open directory."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.restored: list[str] = []
        self.removed: list[str] = []
        self.left: list[Left] = []

    def remove(self, steps: Sequence[Step]) -> None:
        """Remove files, and the directories that become empty."""
        for step in reversed(steps):  # the files of a directory before their neighbours above
            try:
                names = _names(step.path)
                parent = descriptors.walk(self._root, names[:-1])
            except FileNotFoundError:
                continue
            except OSError as error:
                self._leave(step, error)
                continue
            try:
                os.unlink(names[-1], dir_fd=parent)
                self.removed.append(text(step.path))
            except FileNotFoundError:
                pass
            except OSError as error:
                self._leave(step, error)
            finally:
                os.close(parent)
            self._remove_empty(names[:-1])
        self.removed.reverse()

    def _remove_empty(self, names: Sequence[str]) -> None:
        for depth in range(len(names), 0, -1):
            try:
                parent = descriptors.walk(self._root, names[: depth - 1])
            except OSError:
                return
            try:
                os.rmdir(names[depth - 1], dir_fd=parent)
            except OSError:  # not empty
                return
            finally:
                os.close(parent)

    def write(self, steps: Sequence[Step], checkpoints: Checkpoints, deadline: Deadline) -> None:
        """Write the content of the checkpoint's files and links."""
        if not steps:
            return
        oids = "".join(step.oid + "\n" for step in steps).encode()
        stream = checkpoints.git(borrowing=True).stream(
            ("cat-file", "--batch"), deadline, stdin=oids
        )
        with closing(stream), staging(self._root) as (_, directory):
            batch = _Batch(stream)
            for step in steps:
                size = batch.header()
                if size is None:
                    reason = "its content is no longer in the project's repository"
                    self.left.append(Left(text(step.path), reason))
                    continue
                content = batch.content(size)
                try:
                    self._write(step, content, directory)
                    self.restored.append(text(step.path))
                except OSError as error:
                    self._leave(step, error)
                for _ in content:  # what an error has left unread
                    pass
                batch.end()

    def _write(self, step: Step, content: Iterator[bytes], directory: int) -> None:
        names = _names(step.path)
        parent = self._directory(names[:-1])
        try:
            temporary = secrets.token_hex(8)
            if step.mode == LINK_MODE:
                os.symlink(b"".join(content), temporary, dir_fd=directory)
            else:
                mode, exact = _mode(step, parent, names[-1])
                _write_file(temporary, content, directory, mode, exact)
            try:
                with suppress(OSError):  # only an empty directory can be in the way
                    os.rmdir(names[-1], dir_fd=parent)
                os.replace(temporary, names[-1], src_dir_fd=directory, dst_dir_fd=parent)
            except OSError:
                os.unlink(temporary, dir_fd=directory)
                raise
        finally:
            os.close(parent)

    def _directory(self, names: Sequence[str]) -> int:
        """Open a directory; missing ones are made."""
        here = os.open(".", descriptors.SEARCH, dir_fd=self._root)
        for name in names:
            try:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=here)
                below = os.open(name, descriptors.SEARCH, dir_fd=here)
            finally:
                os.close(here)
            here = below
        return here

    def _leave(self, step: Step, error: OSError) -> None:
        self.left.append(Left(text(step.path), error.strerror or "unknown error"))


class _Batch:
    """The output of ``git cat-file --batch``: for each object a header, the content, a newline."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self._stream = stream
        self._data = b""

    def header(self) -> int | None:
        """The size of the next object; None if it is missing."""
        while b"\n" not in self._data:
            self._fill()
        line, _, self._data = self._data.partition(b"\n")
        kind, _, size = line.partition(b" ")[2].partition(b" ")
        return int(size) if kind == b"blob" else None

    def content(self, size: int) -> Iterator[bytes]:
        while size:
            if not self._data:
                self._fill()
            piece, self._data = self._data[:size], self._data[size:]
            size -= len(piece)
            yield piece

    def end(self) -> None:
        while not self._data:
            self._fill()
        self._data = self._data[1:]

    def _fill(self) -> None:
        piece = next(self._stream, b"")
        if not piece:
            raise GitFailed("git cat-file ended early")
        self._data += piece


def _names(path: bytes) -> list[str]:
    """The names in a path.

    Raises:
        OSError: a forged checkpoint has a path that git would not have kept.
    """
    names = os.fsdecode(path).split("/")
    if any(name in ("", ".", "..") or name.lower() == ".git" for name in names):
        raise OSError(errno.EINVAL, "this is not a path of the workspace")
    return names


def _mode(step: Step, parent: int, name: str) -> tuple[int, bool]:
    """The permissions of a file, and whether they do not depend on the umask.

    A file that is there keeps its permissions, other than the right to execute it.
    """
    executable = bool(step.mode & 0o100)
    try:
        there = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except OSError:
        there = 0
    if not stat.S_ISREG(there):
        return 0o777 if executable else 0o666, False
    mode = stat.S_IMODE(there) & 0o777
    if executable:
        return mode | (mode & 0o444) >> 2 | 0o100, True
    return mode & ~0o111, True


def _write_file(
    name: str, content: Iterator[bytes], directory: int, mode: int, exact: bool
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, mode, dir_fd=directory), "wb") as file:
        for piece in content:
            file.write(piece)
        if exact:
            os.fchmod(file.fileno(), mode)


def _reset(
    checkpoints: Checkpoints,
    source: Repository,
    target: Checkpoint,
    left: list[Left],
    deadline: Deadline,
) -> bool:
    """Put HEAD, its branch and the index of the clone to where they were.

    Its configuration names no program that would be run.
    """
    if target.head is None:
        return False
    index = checkpoints.git(borrowing=True, variables={"GIT_INDEX_FILE": source.index_file})
    own = checkpoints.git(borrowing=True, variables={"GIT_DIR": source.directory})
    moves: list[tuple[str, ...]]
    if target.branch is None:
        moves = [("update-ref", "--no-deref", "HEAD", target.head)]
    else:
        branch = BRANCHES + target.branch
        moves = [("update-ref", branch, target.head), ("symbolic-ref", "HEAD", branch)]
    try:
        index.run(("read-tree", "--reset", target.head), deadline, limit_bytes=OUTPUT_BYTES)
        for move in moves:
            own.run(move, deadline, limit_bytes=OUTPUT_BYTES)
    except GitFailed as error:
        left.append(Left(".git", str(error)))
        return False
    with descriptors.opened(source.directory) as directory:
        for name in IN_PROGRESS:
            descriptors.remove(directory, name)
    return True
