"""Checkpoints: snapshots of the workspace's files in a shadow repository in the session's home.

Nothing is written to the workspace or to its own repository. What its repository ignores is not
kept. Files are kept byte for byte, with the executable bit and symbolic links, in nested
repositories and submodules too. Any program in the session can damage the shadow repository; then
there are errors, or no checkpoints, but nothing else.
"""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from claude_mcp.agent.workspace import first_index, repository
from claude_mcp.agent.workspace.git import Deadline, Git, GitFailed, GitTimedOut, NoGit
from claude_mcp.agent.workspace.repository import Head, Repository
from claude_mcp.agent.workspace.shadow import LABEL, Shadow

CREATE = "create"
"""The label of the state at the session's creation, which is never dropped."""
BEFORE_DISCARD = "before-discard-"

TAKE_SECONDS = 5.0
FIRST_TAKE_SECONDS = 60.0
"""For the first checkpoint, which may have to read every file."""
MAX_KEPT = 200
MAX_NEW_FILES = 100_000
MAX_NEW_BYTES = 1024 * 1024 * 1024
MAX_FILE_BYTES = 128 * 1024 * 1024
"""A larger file that is new or changed is left out, and named."""
MAX_LEFT_OUT = 100
MAX_IGNORED = 1000
"""The number of files that the project tracks although it ignores them; of more, none is added."""
LISTING_BYTES = 16 * 1024 * 1024
MESSAGE_BYTES = 64 * 1024
MANY_FILES = 500
MAX_NESTED_ROUNDS = 8
ATTEMPTS = 3
"""A file that is truncated while git reads it ends git."""
LOOSE_OBJECTS = 4000
NOT_ALL_ADDED = 1
"""The exit code of ``git add --ignore-errors`` that added all it could."""
PLACEHOLDER = b".claude-mcp-placeholder"


class TooMuch(Exception):
    """More is new than a checkpoint may hold; the message says what."""


class Checkpoint(NamedTuple):
    """``head`` and ``branch`` are those of the workspace's own repository, if it has one.

    ``left_out`` are paths that could not be kept: too large, unreadable, or names that git refuses.
    """

    commit: str
    tree: str
    head: str | None = None
    branch: str | None = None
    left_out: tuple[str, ...] = ()


class Taken(NamedTuple):
    """``checkpoint`` is None if there is none; ``reason`` says why, in words for a person."""

    checkpoint: Checkpoint | None
    reason: str = ""

    @property
    def tree(self) -> str | None:
        return None if self.checkpoint is None else self.checkpoint.tree


class Status(NamedTuple):
    """What differs from the latest snapshot; ``untracked`` is a part of ``changed``.

    ``nested`` are repositories within the workspace, with a slash at the end. ``staged`` tells that
    an earlier snapshot was not completed.
    """

    changed: list[bytes]
    untracked: list[bytes]
    nested: list[bytes]
    staged: bool


def text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


class Checkpoints:
    """The checkpoints of one workspace; may be used by several threads.

    ``clone`` says that the workspace is the session's own clone, so that its branch may be moved
    by ``restoring.restore``, and its objects may be linked to.
    """

    def __init__(self, state_directory: str, workspace: str, *, clone: bool = False) -> None:
        self.workspace, self.clone = workspace, clone
        self._shadow = Shadow(state_directory)
        self._lock = threading.Lock()
        self._view_lock = threading.Lock()
        self._descriptor: int | None = None
        self._known: dict[str, Checkpoint] = {}
        self._index_seen: tuple[int, int, int] | None = None
        self._ignored_known: set[bytes] = set()

    def take(self, label: str, seconds: float = TAKE_SECONDS) -> Taken:
        """Keep the present state under a label, in place of what had that label.

        Never raises: a turn goes on without a checkpoint.
        """
        if not LABEL.fullmatch(label):
            return Taken(None, f"{label[:80]!r} is no name for a checkpoint")
        try:
            with self._locked(seconds) as deadline:
                checkpoint = self._snapshot(deadline)
                self._shadow.label(label, checkpoint.commit)
                self._drop_old()
                return Taken(checkpoint)
        except (TooMuch, GitFailed, NoGit) as error:
            return Taken(None, str(error))
        except OSError as error:
            return Taken(None, f"{error.filename or self._shadow.path}: {error.strerror}")

    def now(self, seconds: float = TAKE_SECONDS) -> Checkpoint:
        """The present state, without a label: the next ``tidy`` may remove it.

        Raises:
            TooMuch, GitFailed, NoGit, OSError
        """
        with self._locked(seconds) as deadline:
            return self._snapshot(deadline)

    def kept(self) -> list[str]:
        """The labels, from the oldest to the newest."""
        return self._shadow.labels()

    def find(self, label: str) -> Checkpoint | None:
        """The checkpoint with this label, or the snapshot with this commit's id.

        Raises:
            GitFailed, NoGit: the shadow repository is damaged.
        """
        is_id = repository.OBJECT_ID.fullmatch(label)
        commit = label if is_id else self._shadow.commit_of(label)
        return None if commit is None else self._load(commit, Deadline(TAKE_SECONDS))

    def next_after(self, label: str) -> str | None:
        """The label of the next checkpoint of a turn, which ends what this one begins."""
        labels = [each for each in self.kept() if not each.startswith(BEFORE_DISCARD)]
        following = labels[labels.index(label) + 1 :] if label in labels else []
        return following[0] if following else None

    def tidy(self, seconds: float = 120.0) -> None:
        """Free what dropped checkpoints held. Takes seconds, so not to be called before a turn.

        Raises:
            GitFailed, NoGit, OSError
        """
        with self._locked(seconds) as deadline:
            if not self._shadow.ready:
                return
            self._shadow.remove_view()
            git = self.git(borrowing=True, descriptor=self._descriptor)
            if self._shadow.loose_objects() > LOOSE_OBJECTS:
                # This fails if the project's repository has lost objects that were borrowed.
                with suppress(GitFailed):
                    _run(git, deadline, "repack", "-a", "-d", "-l", "-q")
            _run(git, deadline, "prune", "--expire=now")

    def git(
        self,
        *,
        borrowing: bool,
        literal: bool = True,
        variables: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        descriptor: int | None = None,
    ) -> Git:
        """Git on the shadow repository; ``borrowing`` also reads the objects of the workspace's.

        Without it, everything that is added is written to the shadow, so that a ``gc`` in the
        workspace takes nothing from a checkpoint. With ``literal``, paths are no patterns.
        """
        source, excludes = self.repository(), os.devnull
        paths = {"GIT_DIR": self._shadow.path, "GIT_WORK_TREE": self.workspace}
        if literal:
            paths["GIT_LITERAL_PATHSPECS"] = "1"
        if source is not None:
            own = os.path.join(source.common, "info/exclude")
            excludes = own if os.path.isfile(own) else excludes
        if source is not None and borrowing:
            paths["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = _quoted(source.objects)
            shallow = os.path.join(source.common, "shallow")
            if os.path.isfile(shallow):
                paths["GIT_SHALLOW_FILE"] = shallow
        return Git(
            {**paths, **(variables or {})},
            {"core.excludesFile": excludes, **(settings or {})},
            descriptor,
        )

    def git_with_index_of(self, source: Repository) -> Git:
        """Git that sees HEAD and index of the workspace's repository, and writes neither.

        It obeys the attributes and the configuration of the shadow repository.
        """
        with self._view_lock:
            view = self._shadow.make_view(source.head().commit)
        variables = {
            "GIT_DIR": view,
            "GIT_INDEX_FILE": source.index_file,
            "GIT_OPTIONAL_LOCKS": "0",
        }
        return self.git(borrowing=True, variables=variables)

    def repository(self) -> Repository | None:
        """The workspace's own repository."""
        return repository.find(self.workspace)

    @contextmanager
    def _locked(self, seconds: float) -> Iterator[Deadline]:
        deadline = Deadline(seconds)
        if not self._lock.acquire(timeout=seconds):
            raise GitTimedOut("the checkpoints are in use")
        try:
            with self._shadow.locked(deadline) as self._descriptor:
                yield deadline
        finally:
            self._descriptor = None
            self._lock.release()

    def _snapshot(self, deadline: Deadline) -> Checkpoint:
        if not self._shadow.ready:
            self._begin(deadline)
        latest = self._shadow.head
        assert latest is not None, "a shadow repository that is ready has a snapshot"
        before = self._load(latest, deadline)
        self._add_tracked_but_ignored(deadline)
        status = self._status_within_nested(deadline)
        left_out, special = _examine(self.workspace, status)
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
            return self._commit(before.tree, before, left_out)
        return self._commit(self._write_tree(deadline), before, left_out)

    def _begin(self, deadline: Deadline) -> None:
        """Make the shadow repository, with the state that the project's index knows."""
        source = self.repository()
        object_format = "sha1" if source is None else source.object_format()
        self._known.clear()
        self._ignored_known.clear()
        self._index_seen = None
        self._shadow.create(object_format)
        if source is not None:
            git = self.git(borrowing=True, descriptor=self._descriptor)
            try:
                first_index.copy(source, self._shadow.path, self.workspace, git, deadline)
            except GitTimedOut:
                raise
            except (GitFailed, OSError, ValueError):  # then everything is read
                self._shadow.create(object_format)
            if self.clone:
                self._shadow.link_objects(source.objects)
        self._shadow.protect_content()
        self._commit(self._write_tree(deadline), None, [])

    def _status(self, deadline: Deadline) -> Status:
        arguments = ("status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=all")
        git = self.git(borrowing=False, descriptor=self._descriptor)
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
            nested = _repositories(self.workspace, status) - placed
            if not nested:
                break
            entry = b"100644 " + self._shadow.empty_blob() + b"\t"
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
            git = self.git(
                borrowing=False, literal=False, settings=settings, descriptor=self._descriptor
            )
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
                self._shadow.remove_index_lock()
        if output.returncode != NOT_ALL_ADDED:
            return left_out
        status = self._status(deadline)
        return status.changed + status.nested

    def _add_tracked_but_ignored(self, deadline: Deadline) -> None:
        """Add the files that the project tracks although it ignores them, as ``add -f`` does."""
        source = self.repository()
        try:
            found = os.stat("" if source is None else source.index_file)
        except OSError:
            return
        state = (found.st_ino, found.st_mtime_ns, found.st_size)
        if source is None or state == self._index_seen:
            return
        variables = {"GIT_INDEX_FILE": source.index_file, "GIT_OPTIONAL_LOCKS": "0"}
        git = self.git(borrowing=False, variables=variables, descriptor=self._descriptor)
        arguments = ("ls-files", "-z", "--cached", "--ignored", "--exclude-standard")
        try:
            listing = git.run(arguments, deadline, limit_bytes=LISTING_BYTES).data
            paths = set(listing.split(b"\0")[:-1]) - self._ignored_known
            paths = {path for path in paths if _may_be_kept(self.workspace, path)}
            if 0 < len(paths) <= MAX_IGNORED:
                git = self.git(borrowing=False, descriptor=self._descriptor)
                names = b"\0".join(sorted(paths)) + b"\0"
                from_stdin = ("--pathspec-from-file=-", "--pathspec-file-nul")
                _run(git, deadline, "add", "-f", *from_stdin, stdin=names)
                self._ignored_known |= paths
        except GitTimedOut:
            raise
        except GitFailed:  # for example a damaged index: then they are not kept
            return
        self._index_seen = state

    def _update_index(self, deadline: Deadline, lines: Sequence[bytes]) -> None:
        # The cache of untracked files would still have a nested repository as one untracked path.
        settings = {"core.untrackedCache": "false"}
        git = self.git(borrowing=False, settings=settings, descriptor=self._descriptor)
        _run(git, deadline, "update-index", "-z", "--index-info", stdin=b"\0".join(lines) + b"\0")

    def _write_tree(self, deadline: Deadline) -> str:
        git = self.git(borrowing=False, descriptor=self._descriptor)
        return _run(git, deadline, "write-tree", "--missing-ok").decode().strip()

    def _commit(
        self, tree: str, before: Checkpoint | None, left_out: Sequence[bytes]
    ) -> Checkpoint:
        """A commit of this tree; the one before if nothing is different."""
        source = self.repository()
        head = Head(None, None) if source is None else source.head()
        names = tuple(text(path) for path in left_out[:MAX_LEFT_OUT])
        checkpoint = Checkpoint("", tree, head.commit, head.branch, names)
        if before is not None and before._replace(commit="") == checkpoint:
            return before
        who = f"claude-mcp <claude-mcp@localhost> {int(time.time())} +0000"
        message = json.dumps(checkpoint._asdict())
        content = f"tree {tree}\nauthor {who}\ncommitter {who}\n\n{message}\n"
        checkpoint = checkpoint._replace(commit=self._shadow.write("commit", content.encode()))
        self._shadow.head = checkpoint.commit
        self._remember(checkpoint)
        return checkpoint

    def _load(self, commit: str, deadline: Deadline) -> Checkpoint:
        if commit in self._known:
            return self._known[commit]
        data = _run(self.git(borrowing=False), deadline, "cat-file", "commit", commit)
        checkpoint = _parse(commit, data)
        self._remember(checkpoint)
        return checkpoint

    def _remember(self, checkpoint: Checkpoint) -> None:
        while len(self._known) >= 2 * MAX_KEPT:
            self._known.pop(next(iter(self._known)), None)
        self._known[checkpoint.commit] = checkpoint

    def _drop_old(self) -> None:
        labels = [label for label in self._shadow.labels() if label != CREATE]
        for label in labels[:-MAX_KEPT]:
            self._shadow.drop(label)

    @property
    def _null(self) -> bytes:
        return b"0" * len(self._shadow.empty_blob())


def _run(git: Git, deadline: Deadline, *arguments: str, stdin: bytes = b"") -> bytes:
    return git.run(arguments, deadline, limit_bytes=MESSAGE_BYTES, stdin=stdin).data


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


def _parse(commit: str, data: bytes) -> Checkpoint:
    """A checkpoint from its commit, which may be forged."""
    header, _, message = data.partition(b"\n\n")
    tree = header.split(b"\n")[0].decode("ascii", "replace")[len("tree ") :]
    try:
        facts = json.loads(message)
        head, branch, names = facts["head"], facts["branch"], facts["left_out"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise GitFailed("the checkpoint is damaged") from None
    valid = repository.OBJECT_ID.fullmatch(tree) and isinstance(names, list)
    for value in (head, branch):
        valid = valid and (value is None or isinstance(value, str))
    if not valid:
        raise GitFailed("the checkpoint is damaged")
    return Checkpoint(commit, tree, head, branch, tuple(str(name) for name in names))


def _quoted(path: str) -> str:
    """A path in a variable that lists several, in which ``:`` and quotes are special."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
