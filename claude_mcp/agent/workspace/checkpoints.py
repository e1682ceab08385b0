"""Checkpoints: snapshots of the workspace's files in a shadow repository in the session's home.

Nothing is written to the workspace or to its own repository. What its repository ignores is not
kept. Files are kept byte for byte, with the executable bit and symbolic links, in nested
repositories and submodules too. Any program in the session can damage the shadow repository; then
there are errors, or no checkpoints, but nothing else.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from claude_mcp.agent.workspace import repository
from claude_mcp.agent.workspace.git import (
    Deadline,
    GitFailed,
    GitStopped,
    GitTimedOut,
    Interruption,
    NoGit,
)
from claude_mcp.agent.workspace.repository import Head
from claude_mcp.agent.workspace.shadow import LABEL, Shadow
from claude_mcp.agent.workspace.shadow_git import ShadowGit
from claude_mcp.agent.workspace.snapshot import MAX_LEFT_OUT, Snapshot, TooMuch

CREATE = "create"
"""The label of the state at the session's creation, which is never dropped."""
APPLIED = "applied"
"""The label of the latest state of a copy that the host has, which is not dropped either."""
BEFORE_DISCARD = "before-discard-"

TAKE_SECONDS = 5.0
FIRST_TAKE_SECONDS = 60.0
"""For the first checkpoint, which may have to read every file."""
TIDY_SECONDS = 120.0
MAX_KEPT = 200
LOOSE_OBJECTS = 4000


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
        self.git = ShadowGit(self._shadow, workspace)
        self._snapshot = Snapshot(self.git, clone=clone)
        self._lock = threading.Lock()
        self._tidying = Interruption()
        self._known: dict[str, Checkpoint] = {}

    def take(self, label: str, seconds: float = TAKE_SECONDS) -> Taken:
        """Keep the present state under a label, in place of what had that label.

        Never raises: a turn goes on without a checkpoint.
        """
        if not LABEL.fullmatch(label):
            return Taken(None, f"{label[:80]!r} is no name for a checkpoint")
        try:
            with self._used(seconds) as deadline:
                checkpoint = self._present(deadline)
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
        with self._used(seconds) as deadline:
            return self._present(deadline)

    def keep(self, label: str, commit: str) -> None:
        """Label a snapshot.

        Raises:
            GitFailed, NoGit, OSError: there is no such snapshot.
        """
        with self._used(TAKE_SECONDS) as deadline:
            self._load(commit, deadline)
            self._shadow.label(label, commit)

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
        labels = [each for each in self.kept() if not each.startswith((BEFORE_DISCARD, APPLIED))]
        following = labels[labels.index(label) + 1 :] if label in labels else []
        return following[0] if following else None

    def tidy(self, seconds: float = TIDY_SECONDS) -> None:
        """Free what dropped checkpoints held. It stops as soon as a checkpoint is to be taken.

        Raises:
            GitStopped: for that reason; nothing was lost.
            GitFailed, NoGit, OSError
        """
        with self._tidying.possible() as stop, self._locked(Deadline(seconds, stop)) as deadline:
            if not self._shadow.ready:
                return
            self._shadow.remove_view()
            git = self.git(borrowing=True, locked=True)
            if self._shadow.loose_objects() > LOOSE_OBJECTS:
                try:
                    git.short(deadline, "repack", "-a", "-d", "-l", "-q")
                except GitStopped:
                    raise
                except GitFailed:
                    pass  # the project's repository has lost objects that were borrowed
            git.short(deadline, "prune", "--expire=now")

    @contextmanager
    def _used(self, seconds: float) -> Iterator[Deadline]:
        """Hold the lock, which a tidy that runs gives up."""
        self._tidying.request()
        with self._locked(Deadline(seconds)) as deadline:
            yield deadline

    @contextmanager
    def _locked(self, deadline: Deadline) -> Iterator[Deadline]:
        if not self._lock.acquire(timeout=deadline.seconds):
            raise GitTimedOut("the checkpoints are in use")
        try:
            with self._shadow.locked(deadline) as self.git.lock:
                yield deadline
        finally:
            self.git.lock = None
            self._lock.release()

    def _present(self, deadline: Deadline) -> Checkpoint:
        if not self._shadow.ready:
            self._known.clear()
            self._commit(self._snapshot.begin(deadline), None, [])
        latest = self._shadow.head
        assert latest is not None, "a shadow repository that is ready has a snapshot"
        before = self._load(latest, deadline)
        tree, left_out = self._snapshot.take(before.tree, deadline)
        return self._commit(tree, before, left_out)

    def _commit(
        self, tree: str, before: Checkpoint | None, left_out: Sequence[bytes]
    ) -> Checkpoint:
        """A commit of this tree; the one before if nothing is different."""
        source = self.git.repository()
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
        data = self.git(borrowing=False).short(deadline, "cat-file", "commit", commit)
        checkpoint = _parse(commit, data)
        self._remember(checkpoint)
        return checkpoint

    def _remember(self, checkpoint: Checkpoint) -> None:
        while len(self._known) >= 2 * MAX_KEPT:
            self._known.pop(next(iter(self._known)), None)
        self._known[checkpoint.commit] = checkpoint

    def _drop_old(self) -> None:
        labels = [label for label in self._shadow.labels() if label not in (CREATE, APPLIED)]
        for label in labels[:-MAX_KEPT]:
            self._shadow.drop(label)


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
