"""Brings a session's work to the host.

The session is asked for its work, which is copied out and checked by us before anything of the
project is touched. Commits come as a bundle, which the host's git checks; see
``sessions.git.incoming``. A copy has none, and a host may have no git: then the work comes as
objects, which are checked here; see ``sessions.workspaces.collected``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, get_args

import anyio.to_thread

from claude_mcp.contract import operations
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.wording import named
from claude_mcp.contract.workspaces import BIND, CLONE, COPY
from claude_mcp.errors import ClaudeMcpError, GitNotFound, TransferError, UsageError
from claude_mcp.sessions.channel.answers import line, read
from claude_mcp.sessions.git import identity, to_files
from claude_mcp.sessions.git import patch as patches
from claude_mcp.sessions.git.incoming import Incoming, incoming
from claude_mcp.sessions.git.merge import merge
from claude_mcp.sessions.git.program import Git
from claude_mcp.sessions.git.to_branch import to_branch
from claude_mcp.sessions.git.to_files import Outcome, Taken
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.paths import policy
from claude_mcp.sessions.progress import Progress, no_progress
from claude_mcp.sessions.session import Session, branch_name
from claude_mcp.sessions.workspaces import patch_file
from claude_mcp.sessions.workspaces.collected import Collected, collected
from claude_mcp.sessions.workspaces.fetching import fetched

Mode = Literal["branch", "merge", "patch", "files"]
MODES: Final[tuple[str, ...]] = get_args(Mode)
OF_COMMITS: Final = ("branch", "merge")
ALL: Final = "."
PATCH_BYTES: Final = 256 * 1024 * 1024
MAX_FILES: Final = 1000
TAKEN: Final = (Outcome.WRITTEN, Outcome.DELETED, Outcome.SAME)
CHANGED: Final = "it changed on the host since the session began"


@dataclass(frozen=True, slots=True)
class Applied:
    """``outcome`` says what became of the branch, or is ``written``; see the enumerations in
    ``sessions.git``. ``files`` were changed by the session; in the mode ``files``, ``left`` says of
    each that was not taken why not. Work that came without git has no commits here, and that of a
    copy no ``commit``.
    """

    session: Session
    mode: str
    outcome: str
    branch: str | None
    commit: str
    commits: int
    subjects: tuple[str, ...]
    files: tuple[str, ...]
    left: tuple[str, ...] = ()
    path: str | None = None
    """Of the patch."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wish:
    """The arguments of ``apply_changes``."""

    mode: str
    branch: str | None
    paths: tuple[str, ...]
    commit: str | None
    patch: str | None
    overwrite: bool

    @property
    def is_whole(self) -> bool:
        """Whether all of the work is wanted."""
        return self.mode != "files" or ALL in self.paths


async def apply_changes(
    handle: SessionHandle,
    mode: Mode = "branch",
    *,
    branch: str | None = None,
    paths: Sequence[str] = (),
    commit: str | None = None,
    patch: str | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Applied:
    """Bring the session's work to the host.

    ``branch`` creates or forwards a branch; ``merge`` merges into the branch that is checked out;
    ``patch`` writes a file; ``files`` brings ``paths`` into the working tree. Of a clone, what was
    committed is taken; with ``commit``, a message, all that is uncommitted is committed in the
    session first. A copy has no commits, so ``patch`` and ``files`` only; a mounted project has a
    ``patch`` only.

    Raises:
        UsageError: the session has nothing to apply, or the arguments do not fit.
        WorkConflict: the host's repository is not in a state for it. Nothing was changed.
        WorkRefused: what the session sent is broken or dangerous. Nothing was changed.
        GitError, TransferError, SessionNotFound, SessionNotReady, AgentError, EngineError
    """
    handle = await handle.pinned()
    wish = _Wish(mode, branch, tuple(paths), commit, patch, overwrite)
    _check(handle.session, wish)
    if await _has_git(handle, wish):
        applied, state, uncommitted = await _by_bundle(handle, wish, progress)
    else:
        applied, state, uncommitted = await _by_objects(handle, wish, progress)
    warnings = list(applied.warnings)
    if wish.is_whole and not applied.left and handle.session.workspace != BIND:
        try:
            await handle.request(operations.APPLIED, to_json(operations.Applied(state)))
        except ClaudeMcpError as error:
            warnings.append(f"The session does not know that its work was taken: {error.message}")
    if uncommitted:
        are = "One file is" if uncommitted == 1 else f"{uncommitted} files are"
        warnings.append(
            f"{are} not committed in the session, so not applied: pass {named('commit')} with a "
            "message."
        )
    return replace(applied, warnings=tuple(warnings))


def _check(session: Session, wish: _Wish) -> None:
    if wish.mode not in MODES:
        raise UsageError(f"mode must be one of {', '.join(MODES)}.")
    if session.workspace not in (BIND, CLONE, COPY):
        raise UsageError(
            f"The workspace {session.workspace!r} of this session is not known to this program."
        )
    if session.workspace == BIND and wish.mode != "patch":
        raise UsageError(
            "The project is mounted: its changes are on the host already.",
            hint="Only a patch of them can be taken.",
        )
    if session.base is None and wish.mode in OF_COMMITS:
        raise UsageError(
            "The session began without a commit, so its work is no branch that could be taken.",
            hint="Take it as files, or as a patch.",
        )
    for what, given, wanted in (
        ("branch", wish.branch is not None, ("branch",)),
        ("paths", bool(wish.paths), ("files",)),
        ("patch", wish.patch is not None, ("patch",)),
        ("overwrite", wish.overwrite, ("patch", "files")),
    ):
        if given and wish.mode not in wanted:
            modes = " or ".join(map(repr, wanted))
            raise UsageError(f"{what} belongs to the mode {modes}.")
    if wish.commit is not None and session.workspace != CLONE:
        raise UsageError(
            f"commit belongs to the workspace {CLONE!r}, not to {session.workspace!r}."
        )
    if wish.mode == "files" and not wish.paths:
        raise UsageError(f"The mode 'files' needs paths; {ALL!r} stands for all.")
    if wish.mode == "patch" and wish.patch is None:
        raise UsageError("The mode 'patch' needs the patch's path on the host.")


async def _has_git(handle: SessionHandle, wish: _Wish) -> bool:
    """Whether the host's git takes the work.

    Raises:
        GitNotFound: it must, and there is none.
    """
    if handle.session.workspace != CLONE or handle.session.base is None:
        return False
    try:
        await Git(handle.config.environment).version()
    except GitNotFound as error:
        if wish.mode in OF_COMMITS:
            hint = f"{error.hint or ''} Or take the work as files, or as a patch.".strip()
            raise GitNotFound(error.message, hint=hint) from error
        return False
    return True


async def _by_bundle(
    handle: SessionHandle, wish: _Wish, progress: Progress
) -> tuple[Applied, str, int]:
    session = handle.session
    assert session.base is not None
    await progress("packing the session's commits")
    answer = await handle.request(operations.PACK, to_json(operations.Pack(wish.commit)))
    packed = read(operations.Packed, answer)
    async with fetched(handle, packed.path, progress) as bundle:
        git = Git(handle.config.environment)
        await progress("checking them")
        name = line(packed.branch, 250)
        async with incoming(
            git, session.project_path, bundle, branch=name, base=session.base, paths=wish.paths
        ) as work:
            await progress("applying them")
            return await _apply(handle, work, wish), work.tip, packed.uncommitted


async def _apply(handle: SessionHandle, work: Incoming, wish: _Wish) -> Applied:
    done = Applied(
        session=handle.session,
        mode=wish.mode,
        outcome="written",
        branch=None,
        commit=work.tip,
        commits=work.commits,
        subjects=work.subjects,
        files=tuple(each.path for each in work.changes[:MAX_FILES]),
        warnings=work.warnings,
    )
    match wish.mode:
        case "branch":
            moved = await to_branch(work, wish.branch or branch_name(handle.session.name))
            return replace(done, outcome=moved.how.value, branch=moved.branch)
        case "merge":
            who = await identity.look_up(handle.session.project_path, handle.config.environment)
            merged = await merge(work, who)
            return replace(
                done,
                outcome=merged.how.value,
                branch=merged.branch,
                commit=merged.new,
                files=merged.paths[:MAX_FILES],
                warnings=(*work.warnings, *merged.warnings),
            )
        case "patch":
            text = await work.git.run(
                work.scratch,
                "diff-tree", "-p", "--binary", "--full-index", "--no-ext-diff", "--no-textconv",
                work.base, work.tip,
                output_bytes=PATCH_BYTES,
            )  # fmt: skip
            return replace(done, path=await _write_patch(handle, wish, [text.stdout]))
        case _:
            taken = await to_files.to_files(work, wish.paths, overwrite=wish.overwrite)
            return _with_files(done, taken)


async def _by_objects(
    handle: SessionHandle, wish: _Wish, progress: Progress
) -> tuple[Applied, str, int]:
    await progress("collecting the session's work")
    is_patch = wish.mode == "patch"
    async with collected(
        handle, paths=wish.paths, both=is_patch, commit=wish.commit, progress=progress
    ) as work:
        await progress("applying it")
        done = Applied(
            session=handle.session,
            mode=wish.mode,
            outcome="written",
            branch=None,
            commit=work.commit,
            commits=0,
            subjects=(),
            files=tuple(each.path for each in work.entries[:MAX_FILES]),
            warnings=() if is_patch else work.warnings,
        )
        if is_patch:
            text = patches.patch(work.entries, work.objects.content)
            done = replace(done, path=await _write_patch(handle, wish, text))
        else:
            done = _with_files(done, await _take(handle, work, wish))
        return done, work.state, work.uncommitted


async def _take(handle: SessionHandle, work: Collected, wish: _Wish) -> tuple[Taken, ...]:
    project = handle.session.top
    chosen = to_files.choose(work.entries, wish.paths)
    try:
        return await to_files.take(
            project, work.objects.object_format, chosen, work.objects, overwrite=wish.overwrite
        )
    except OSError as error:
        raise TransferError(f"{project} cannot be written to: {error.strerror}.") from error


def _with_files(done: Applied, taken: Sequence[Taken]) -> Applied:
    return replace(
        done,
        files=tuple(each.path for each in taken if each.outcome in TAKEN),
        left=tuple(
            f"{each.path}: {each.reason or CHANGED}" for each in taken if each.outcome not in TAKEN
        ),
    )


async def _write_patch(handle: SessionHandle, wish: _Wish, text: Iterable[bytes]) -> str:
    assert wish.patch is not None
    given = str(policy.host_path(await handle.host_path(wish.patch), "patch"))
    write = partial(patch_file.write, given, text, handle.config, overwrite=wish.overwrite)
    return await anyio.to_thread.run_sync(write)
