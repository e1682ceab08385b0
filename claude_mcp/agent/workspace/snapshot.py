"""Brings the index of the shadow repository to the present state of the workspace's files.

What the workspace's repository ignores is not kept, unless it is tracked all the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from claude_mcp.agent.workspace import first_index
from claude_mcp.agent.workspace.git import Deadline, GitFailed, GitTimedOut
from claude_mcp.agent.workspace.shadow_git import ShadowGit

MAX_NEW_FILES = 100_000
MAX_NEW_BYTES = 1024 * 1024 * 1024
MAX_FILE_BYTES = 128 * 1024 * 1024
"""A larger file that is new or changed is left out, and named."""
MAX_LEFT_OUT = 100
MAX_IGNORED = 1000
"""The number of files that the project tracks although it ignores them; of more, none is added."""
LISTING_BYTES = 16 * 1024 * 1024
MANY_FILES = 500
MAX_NESTED_ROUNDS = 8
ATTEMPTS = 3
"""A file that is truncated while git reads it ends git."""
NOT_ALL_ADDED = 1
"""The exit code of ``git add --ignore-errors`` that added all it could."""
PLACEHOLDER = b".claude-mcp-placeholder"


class TooMuch(Exception):
    """More is new than a checkpoint may hold; the message says what."""


class Status(NamedTuple):
    """What differs from the latest snapshot; ``untracked`` is a part of ``changed``.

    ``nested`` are repositories within the workspace, with a slash at the end. ``staged`` tells that
    an earlier snapshot was not completed.
    """

    changed: list[bytes]
    untracked: list[bytes]
    nested: list[bytes]
    staged: bool


class Snapshot:
    """The index; all methods are called with the shadow's lock held."""

    def __init__(self, git: ShadowGit, *, clone: bool) -> None:
        self._git, self._clone = git, clone
        self._index_seen: tuple[int, int, int] | None = None
        self._ignored_known: set[bytes] = set()

    def take(self, before: str, deadline: Deadline) -> tuple[str, list[bytes]]:
        """The tree of the present state, and what could not be kept; ``before`` is the latest tree.

        Raises:
            TooMuch, GitFailed, NoGit, OSError
        """
        self._add_tracked_but_ignored(deadline)
        status = self._status_within_nested(deadline)
        left_out, special = _examine(self._git.workspace, status)
        if len(left_out) > MAX_LEFT_OUT:
            raise TooMuch(
                f"more than {MAX_LEFT_OUT} new or changed files are larger than "
                f"{MAX_FILE_BYTES // 2**20} MiB"
            )
        if special:
            self._update_index(deadline, [b"0 " + self._null + b"\t" + each for each in special])
        if len(left_out) < len(status.changed) + len(status.nested):
            left_out = self._add(left_out, len(status.changed) > MANY_FILES, deadline)
        elif not status.staged and not special:
            return before, left_out
        return self._write_tree(deadline), left_out

    def begin(self, deadline: Deadline) -> str:
        """Make the shadow repository; the tree of the state that the project's index knows."""
        shadow, source = self._git.shadow, self._git.repository()
        object_format = "sha1" if source is None else source.object_format()
        self._ignored_known.clear()
        self._index_seen = None
        shadow.create(object_format)
        if source is not None:
            git = self._git(borrowing=True, locked=True)
            try:
                first_index.copy(source, shadow.path, self._git.workspace, git, deadline)
            except GitTimedOut:
                raise
            except (GitFailed, OSError, ValueError):  # then everything is read
                shadow.create(object_format)
            if self._clone:
                shadow.link_objects(source.objects)
        shadow.protect_content()
        return self._write_tree(deadline)

    def _status(self, deadline: Deadline) -> Status:
        arguments = ("status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=all")
        git = self._git(borrowing=False, locked=True)
        output = git.run(arguments, deadline, limit_bytes=LISTING_BYTES)
        if not output.complete:
            raise _too_many_files()
        status = Status([], [], [], False)
        for record in output.data.split(b"\0")[:-1]:
            index, tree, path = record[0:1], record[1:2], record[3:]
            if index == b"?" and path.endswith(b"/"):
                status.nested.append(path)
                continue
            if index == b"?":
                status.untracked.append(path)
            elif index != b" ":
                status = status._replace(staged=True)
            if tree != b" ":
                status.changed.append(path)
        return status

    def _status_within_nested(self, deadline: Deadline) -> Status:
        """The status, with files of nested repositories like all others.

        Git looks into a nested repository if the index has a path there, so it gets one.
        """
        placed: set[bytes] = set()
        status = self._status(deadline)
        for _ in range(MAX_NESTED_ROUNDS):
            nested = _repositories(self._git.workspace, status) - placed
            if not nested:
                break
            entry = b"100644 " + self._git.shadow.empty_blob() + b"\t"
            self._update_index(deadline, [entry + path + PLACEHOLDER for path in nested])
            placed |= nested
            status = self._status(deadline)
        return status

    def _add(self, left_out: list[bytes], many: bool, deadline: Deadline) -> list[bytes]:
        """Add what changed; returns all that could not be added."""
        excluded = [":(top,exclude,literal)" + os.fsdecode(path) for path in left_out]
        arguments = ("add", "-A", "--ignore-errors", "--", *excluded)
        for attempt in range(ATTEMPTS):
            # What is larger than the threshold goes into one pack: faster for many files, and a
            # fraction of the space. But it fails if one of them changes meanwhile.
            settings = {"core.bigFileThreshold": "1"} if many and attempt == 0 else {}
            git = self._git(borrowing=False, literal=False, settings=settings, locked=True)
            try:
                output = git.run(
                    arguments, deadline, limit_bytes=LISTING_BYTES, accepted=(0, NOT_ALL_ADDED)
                )
                break
            except GitTimedOut:
                raise
            except GitFailed:
                if attempt + 1 == ATTEMPTS:
                    raise
                self._git.shadow.remove_index_lock()
        if output.returncode != NOT_ALL_ADDED:
            return left_out
        status = self._status(deadline)
        return status.changed + status.nested

    def _add_tracked_but_ignored(self, deadline: Deadline) -> None:
        """Add the files that the project tracks although it ignores them, as ``add -f`` does."""
        source = self._git.repository()
        try:
            found = os.stat("" if source is None else source.index_file)
        except OSError:
            return
        state = (found.st_ino, found.st_mtime_ns, found.st_size)
        if source is None or state == self._index_seen:
            return
        variables = {"GIT_INDEX_FILE": source.index_file, "GIT_OPTIONAL_LOCKS": "0"}
        git = self._git(borrowing=False, variables=variables, locked=True)
        arguments = ("ls-files", "-z", "--cached", "--ignored", "--exclude-standard")
        try:
            listing = git.run(arguments, deadline, limit_bytes=LISTING_BYTES).data
            paths = set(listing.split(b"\0")[:-1]) - self._ignored_known
            paths = {path for path in paths if _may_be_kept(self._git.workspace, path)}
            if 0 < len(paths) <= MAX_IGNORED:
                git = self._git(borrowing=False, locked=True)
                names = b"\0".join(sorted(paths)) + b"\0"
                from_stdin = ("--pathspec-from-file=-", "--pathspec-file-nul")
                git.short(deadline, "add", "-f", *from_stdin, stdin=names)
                self._ignored_known |= paths
        except GitTimedOut:
            raise
        except GitFailed:  # for example a damaged index: then they are not kept
            return
        self._index_seen = state

    def _update_index(self, deadline: Deadline, lines: Sequence[bytes]) -> None:
        # The cache of untracked files would still have a nested repository as one untracked path.
        settings = {"core.untrackedCache": "false"}
        git = self._git(borrowing=False, settings=settings, locked=True)
        git.short(deadline, "update-index", "-z", "--index-info", stdin=b"\0".join(lines) + b"\0")

    def _write_tree(self, deadline: Deadline) -> str:
        git = self._git(borrowing=False, locked=True)
        return git.short(deadline, "write-tree", "--missing-ok").decode().strip()

    @property
    def _null(self) -> bytes:
        return b"0" * len(self._git.shadow.empty_blob())


def _too_many_files() -> TooMuch:
    return TooMuch(
        f"more than {MAX_NEW_FILES} files are new or changed; add build results to .gitignore"
    )


def _repositories(workspace: str, status: Status) -> set[bytes]:
    """The nested repositories that have untracked files, with a slash at the end.

    Git does not name those that had files in the index before, but would not look into them.
    """
    root, found, seen = os.fsencode(workspace), set(status.nested), {b""}
    for path in status.untracked:
        directory = os.path.dirname(path)
        while directory not in seen:
            seen.add(directory)
            if os.path.lexists(os.path.join(root, directory, b".git")):
                found.add(directory + b"/")
            directory = os.path.dirname(directory)
    return found


def _may_be_kept(workspace: str, path: bytes) -> bool:
    try:
        found = os.lstat(os.path.join(os.fsencode(workspace), path))
    except OSError:
        return False
    regular = stat.S_ISREG(found.st_mode) and found.st_size <= MAX_FILE_BYTES
    return regular or stat.S_ISLNK(found.st_mode)


def _examine(workspace: str, status: Status) -> tuple[list[bytes], list[bytes]]:
    """What must be left out, and what has become a FIFO or the like since it was kept.

    Raises:
        TooMuch
    """
    if len(status.changed) > MAX_NEW_FILES:
        raise _too_many_files()
    root, size = os.fsencode(workspace), 0
    left_out, special = list(status.nested), []
    for path in status.changed:
        try:
            found = os.lstat(os.path.join(root, path))
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode):
            if found.st_size > MAX_FILE_BYTES:
                left_out.append(path)
            else:
                size += found.st_size
        elif not stat.S_ISLNK(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            special.append(path)
    if size > MAX_NEW_BYTES:
        raise TooMuch(
            f"more than {MAX_NEW_BYTES // 2**20} MiB are new or changed; add build results to "
            ".gitignore"
        )
    return left_out, special
