"""What a session did to its workspace: changes, the way back, and what only the session has."""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from claude_mcp.agent.channel.connections import Answer, Request, RequestError
from claude_mcp.agent.store import files
from claude_mcp.agent.store.state import State, log
from claude_mcp.agent.workspace import changes, repository, restoring
from claude_mcp.agent.workspace.changes import Unsaved
from claude_mcp.agent.workspace.checkpoints import (
    APPLIED,
    CREATE,
    FIRST_TAKE_SECONDS,
    Checkpoint,
    Checkpoints,
)
from claude_mcp.agent.workspace.git import (
    Deadline,
    Git,
    GitFailed,
    GitStopped,
    Interruption,
    NoGit,
)
from claude_mcp.agent.workspace.seed import SEAL
from claude_mcp.agent.workspace.snapshot import TooMuch
from claude_mcp.contract import operations
from claude_mcp.contract.codes import Code
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.settings import Settings
from claude_mcp.contract.wording import named
from claude_mcp.contract.workspaces import BIND, CLONE

T = TypeVar("T")
BUNDLE = re.compile(r"work-[0-9a-f]+\.bundle(\.lock)?")
"""Names of bundles, and of collected objects: one for each caller, because several may take the
work at once."""
BUNDLE_SECONDS = 3600.0
"""An older one belongs to a caller that was killed."""
BEFORE_TURN_SECONDS = 2.0
COMMIT_SECONDS = 300.0
OUTPUT_BYTES = 16 * 1024 * 1024
TIDY_DELAY_SECONDS = 60.0
"""After a turn; a checkpoint stops what tidies."""
TIDY_INTERVAL_SECONDS = 1800.0
FAILURES = (changes.NoCheckpoint, TooMuch, GitFailed, NoGit, OSError)


class Work:
    """The workspace of a session. ``directory`` is the agent's own, in the session's home."""

    def __init__(
        self, settings: Settings, directory: str, environment: dict[str, str], state: State
    ) -> None:
        self._settings = settings
        self._workspace = os.getcwd()
        self._directory = directory
        self._environment = environment
        self._state = state
        self._packing = threading.Lock()
        self._packed_by = Deadline(0.0)
        """Of whoever holds the lock."""
        self._tidying: threading.Timer | None = None
        self._tidied = time.monotonic()
        self.checkpoints = Checkpoints(
            directory, self._workspace, clone=settings.workspace == CLONE
        )

    def begin(self) -> None:
        """Keep the state at the session's creation."""
        if self._is_kept:
            taken = self.checkpoints.take(CREATE, FIRST_TAKE_SECONDS)
            if taken.checkpoint is None:
                log(f"changes cannot be told: {taken.reason}")

    def before_turn(self, turn_id: str) -> None:
        """Keep the state before a turn; without it, the turn's changes cannot be told.

        Never raises: a turn goes on without a checkpoint.
        """
        if self._tidying is not None:
            self._tidying.cancel()
        try:
            if not self._is_kept or self.checkpoints.find(CREATE) is None:
                return
            reason = self.checkpoints.take(turn_id, BEFORE_TURN_SECONDS).reason
        except FAILURES as error:  # for example a process in the session damaged the checkpoints
            reason = str(error)
        if reason:
            log(f"no checkpoint before turn {turn_id}: {reason}")

    def after_turn(self) -> None:
        """Tidy the checkpoints in a while, unless another turn begins before."""
        if time.monotonic() - self._tidied < TIDY_INTERVAL_SECONDS:
            return
        self._tidying = threading.Timer(TIDY_DELAY_SECONDS, self._tidy)
        self._tidying.daemon = True
        with suppress(RuntimeError):  # the session's process limit is reached
            self._tidying.start()

    def _tidy(self) -> None:
        try:
            self.checkpoints.tidy()
        except GitStopped:
            return  # a checkpoint was due; the next turn's end tries again
        except FAILURES as error:
            log(f"the checkpoints could not be tidied: {error}")
        self._tidied = time.monotonic()

    @property
    def _is_kept(self) -> bool:
        # A mounted directory without a repository may hold anything, and nothing tells what
        # belongs to the project.
        is_bind = self._settings.workspace == BIND
        return not is_bind or repository.find(self._workspace) is not None

    # Operations, each on its own thread.

    def changes(self, request: Request) -> Answer:
        args = request.read(operations.ReadChanges)
        return to_json(self._told(Code.NO_CHANGES, lambda: self._changes(args)))

    def _changes(self, args: operations.ReadChanges) -> operations.Changes:
        self._check_kept()
        since = args.turn_id or CREATE
        until = self.checkpoints.next_after(since) if args.turn_id else None
        if args.diff:
            part = changes.diff(
                self.checkpoints, since, args.until or until, args.paths or None, args.offset
            )
            return operations.Changes(
                (), diff=part.text, next_offset=part.next_offset, until=part.until
            )
        until = args.until or until
        found = changes.summary(self.checkpoints, since, until, args.paths or None, args.offset)
        files = tuple(operations.FileChange(*each) for each in found.files)
        state = found.repository
        report = operations.Changes(
            files,
            found.more,
            found.left_out,
            next_offset=args.offset + len(files) if found.more else None,
            until=found.until,
            complete=found.complete,
        )
        if state is None:
            return report
        return report._replace(
            is_repository=True,
            branch=state.branch,
            head=state.head,
            ahead=state.ahead,
            committed=state.committed,
        )

    def discard(self, request: Request) -> Answer:
        args = request.read(operations.Discard)

        def restore() -> restoring.Restored:
            self._check_kept()
            return restoring.restore(self.checkpoints, args.turn_id or CREATE, args.paths or None)

        done = self._told(Code.NOT_DISCARDED, restore)
        return to_json(
            operations.Discarded(
                done.restored,
                done.removed,
                tuple(f"{each.path}: {each.reason}" for each in done.left),
                done.branch,
            )
        )

    def pack(self, request: Request) -> Answer:
        args = request.read(operations.Pack)
        if self._settings.workspace != CLONE:
            raise RequestError(Code.NO_WORK, "the workspace is not a clone")
        with self._packing_for(request):
            return to_json(self._pack(args))

    @contextmanager
    def _packing_for(self, request: Request) -> Iterator[None]:
        """Pack for one caller at a time; git is stopped when that caller gives up."""
        interruption = Interruption()
        with interruption.possible() as stop:
            request.on_cancel(interruption.request)
            with self._packing:
                self._packed_by = Deadline(COMMIT_SECONDS, stop)
                yield

    def _pack(self, args: operations.Pack) -> operations.Packed:
        base = self._base()
        branch = self._git("symbolic-ref", "--quiet", "--short", "HEAD")
        if not branch:
            raise RequestError(Code.NO_WORK, "HEAD is detached; check out a branch in the session")
        if args.commit is not None:
            self._commit(args.commit)
        uncommitted = self._uncommitted()
        if self._git("rev-list", "--max-count=1", f"{base}..HEAD") == "":
            take = f"; to take what is uncommitted, pass {named('commit')} with a message"
            more = take if uncommitted else ""
            raise RequestError(Code.NO_WORK, f"nothing was committed there{more}")
        bundle = self._new_bundle()
        self._git("bundle", "create", "--quiet", bundle, f"refs/heads/{branch}", f"^{base}")
        return operations.Packed(bundle, branch, uncommitted)

    def _new_bundle(self) -> str:
        """The path for one more; old ones are removed."""
        for name in filter(BUNDLE.fullmatch, os.listdir(self._directory)):
            path = os.path.join(self._directory, name)
            with suppress(OSError):
                if time.time() - os.lstat(path).st_mtime > BUNDLE_SECONDS:
                    os.unlink(path)
        return os.path.join(self._directory, f"work-{secrets.token_hex(8)}.bundle")

    def _commit(self, message: str) -> None:
        if self._git("ls-files", "--unmerged"):
            why = "there are conflicts; resolve them in the session"
            raise RequestError(Code.NO_WORK, why)
        self._git("add", "--all")
        # Not ``status``, which also names what ``add`` cannot: a submodule's uncommitted files.
        if self._git("diff", "--cached", "--name-only", "--ignore-submodules=none"):
            self._git("commit", "--quiet", "--no-verify", f"--message={message}")

    def collect(self, request: Request) -> Answer:
        args = request.read(operations.Collect)
        with self._packing_for(request):
            return to_json(self._told(Code.NO_WORK, lambda: self._collect(args)))

    def _collect(self, args: operations.Collect) -> operations.Collected:
        from claude_mcp.agent.workspace import collecting

        self._check_kept()
        uncommitted, seal = 0, b""
        if self._settings.base is not None and self._settings.workspace == CLONE:
            if args.commit is not None:
                self._commit(args.commit)
            uncommitted = self._uncommitted()
            before, after = self._base(), self._git("rev-parse", "--verify", "HEAD")
            state = after
        else:
            last = self.checkpoints.now(FIRST_TAKE_SECONDS)
            before, after, state = self._begun().tree, last.tree, last.commit
            with suppress(OSError):
                seal = files.read(os.path.join(self._directory, SEAL))
        if before == after:
            raise RequestError(Code.NO_WORK, "nothing was changed there")
        git, bundle = self.checkpoints.git(borrowing=True), self._new_bundle()
        collecting.collect(git, before, after, args.paths, args.both, bundle, self._packed_by)
        said = seal.decode("ascii", "replace")
        return operations.Collected(bundle, before, after, state, uncommitted, said)

    def _begun(self) -> Checkpoint:
        found = self.checkpoints.find(CREATE)
        if found is None:
            raise changes.NoCheckpoint(CREATE)
        return found

    def _base(self) -> str:
        if self._settings.base is None:
            raise RequestError(Code.NO_WORK, "the project has no commit to begin at")
        return self._settings.base

    def _uncommitted(self) -> int:
        return len(self._git("status", "--porcelain").splitlines())

    def drop(self, request: Request) -> Answer:
        name = os.path.basename(request.read(operations.Drop).path)
        if BUNDLE.fullmatch(name):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self._directory, name))
        return {}

    def unsaved(self, request: Request) -> Answer:
        if self._settings.workspace == BIND:
            return {}
        found = self._told(Code.NO_CHANGES, self._unsaved)
        commits = tuple(f"{each.oid[:10]} {each.subject}" for each in found.commits)
        more = found.more_commits + found.more_files
        return to_json(
            operations.Unsaved(commits, found.files, more, found.reason, found.more_commits)
        )

    def _unsaved(self) -> Unsaved:
        since = APPLIED if self.checkpoints.find(APPLIED) else CREATE
        return changes.work_elsewhere(self.checkpoints, self._state.applied, since)

    def holds_work(self) -> bool:
        """Whether something would be lost with the session; in doubt it would."""
        try:
            return any(self._unsaved())
        except (changes.NoCheckpoint, *FAILURES) as error:
            log(f"whether there is unsaved work cannot be told: {error}")
            return True

    def applied(self, request: Request) -> Answer:
        commit = request.read(operations.Applied).commit
        if self._settings.base is None:
            self._told(Code.NO_WORK, lambda: self.checkpoints.keep(APPLIED, commit))
            return {}
        others = [each for each in self._state.applied if each != commit]
        self._state.applied = [*others, commit]
        return {}

    def _check_kept(self) -> None:
        if not self._is_kept:
            raise RequestError(
                Code.NO_CHANGES, "the project is mounted and is no git repository of its own"
            )

    @staticmethod
    def _told(code: Code, work: Callable[[], T]) -> T:
        try:
            return work()
        except changes.NoCheckpoint as error:
            what = "of the session's creation" if str(error) == CREATE else f"before {error}"
            raise RequestError(code, f"there is no checkpoint {what}") from error
        except (*FAILURES, restoring.CannotDiscard) as error:
            raise RequestError(code, str(error) or type(error).__name__) from error

    def _git(self, *arguments: str) -> str:
        git = Git.of_user(self._workspace, self._environment)
        accepted = (0, 1) if arguments[0] == "symbolic-ref" else (0,)
        try:
            done = git.run(arguments, self._packed_by, limit_bytes=OUTPUT_BYTES, accepted=accepted)
        except (GitFailed, NoGit) as error:
            raise RequestError(Code.NO_WORK, str(error)) from error
        return done.data.decode("utf-8", "replace").strip()
