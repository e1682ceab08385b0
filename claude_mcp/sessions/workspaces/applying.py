"""Brings a clone's commits to the host's repository.

The session is asked for a bundle, which is copied out and checked in a repository of ours before
anything of the project is touched; see ``sessions.git.incoming``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, Final, Literal, get_args

import anyio.to_thread

from claude_mcp.contract import operations
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.workspaces import BIND, CLONE, COPY
from claude_mcp.errors import ClaudeMcpError, TransferError, UsageError
from claude_mcp.placing import descriptors
from claude_mcp.sessions.channel.answers import line, read
from claude_mcp.sessions.files.archive import Tally
from claude_mcp.sessions.files.unpacking import Limits, read_archive
from claude_mcp.sessions.git import identity, temporary
from claude_mcp.sessions.git.incoming import Incoming, incoming
from claude_mcp.sessions.git.merge import merge
from claude_mcp.sessions.git.program import Git
from claude_mcp.sessions.git.to_branch import to_branch
from claude_mcp.sessions.git.to_files import Outcome, to_files
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.paths import policy
from claude_mcp.sessions.progress import Progress, no_progress
from claude_mcp.sessions.session import Session, branch_name
from claude_mcp.sessions.workspaces import patch_file

Mode = Literal["branch", "merge", "patch", "files"]
MODES: Final[tuple[str, ...]] = get_args(Mode)
PATCH_BYTES: Final = 256 * 1024 * 1024
MAX_FILES: Final = 1000
TAKEN: Final = (Outcome.WRITTEN, Outcome.DELETED, Outcome.SAME)
CHANGED: Final = "it changed on the host since the session began"


@dataclass(frozen=True, slots=True)
class Applied:
    """``outcome`` says what became of the branch, or is ``written``; see the enumerations in
    ``sessions.git``. ``files`` were changed by the session; in the mode ``files``, ``left`` says of
    each that was not taken why not.
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
    """Bring the session's commits to the host.

    ``branch`` creates or forwards a branch; ``merge`` merges into the branch that is checked out;
    ``patch`` writes a file; ``files`` brings ``paths`` into the working tree. With ``commit``, a
    message, all that is uncommitted is committed in the session first.

    Raises:
        UsageError: the session has nothing to apply, or the arguments do not fit.
        WorkConflict: the host's repository is not in a state for it. Nothing was changed.
        WorkRefused: what the session sent is broken or dangerous. Nothing was changed.
        GitError, TransferError, SessionNotFound, SessionNotReady, AgentError, EngineError
    """
    handle = await handle.pinned()
    session = handle.session
    _check(session, mode, branch, paths, patch, overwrite)
    await progress("packing the session's commits")
    async with _bundle(handle, commit) as (packed, bundle):
        git = Git(handle.config.environment)
        await progress("checking them")
        assert session.base is not None
        async with incoming(
            git, session.project_path, bundle, branch=packed.branch, base=session.base
        ) as work:
            await progress("applying them")
            applied = await _apply(handle, work, mode, branch, paths, patch, overwrite)
            tip = work.tip
    warnings = list(applied.warnings)
    if mode in ("branch", "merge"):
        try:
            await handle.request(operations.APPLIED, to_json(operations.Applied(tip)))
        except ClaudeMcpError as error:
            warnings.append(f"The session does not know that its work was taken: {error.message}")
    if packed.uncommitted:
        count = packed.uncommitted
        are = "One file is" if count == 1 else f"{count} files are"
        warnings.append(
            f"{are} not committed in the session, so not applied: pass a commit message."
        )
    return replace(applied, warnings=tuple(warnings))


def _check(
    session: Session,
    mode: str,
    branch: str | None,
    paths: Sequence[str],
    patch: str | None,
    overwrite: bool,
) -> None:
    if session.workspace != CLONE:
        why = {
            BIND: "The project is mounted: its changes are on the host already.",
            COPY: "The session has a copy and no commits: copy its files out.",
        }
        raise UsageError(why.get(session.workspace, "The session has no clone."))
    if session.base is None:
        raise UsageError("The session began without a commit, so its work cannot be applied.")
    if mode not in MODES:
        raise UsageError(f"mode must be one of {', '.join(MODES)}.")
    for what, given, wanted in (
        ("branch", branch is not None, ("branch",)),
        ("paths", bool(paths), ("files",)),
        ("patch", patch is not None, ("patch",)),
        ("overwrite", overwrite, ("patch", "files")),
    ):
        if given and mode not in wanted:
            modes = " or ".join(map(repr, wanted))
            raise UsageError(f"{what} belongs to the mode {modes}.")
    if mode == "files" and not paths:
        raise UsageError("The mode 'files' needs paths.")
    if mode == "patch" and patch is None:
        raise UsageError("The mode 'patch' needs the patch's path on the host.")


@asynccontextmanager
async def _bundle(
    handle: SessionHandle, commit: str | None
) -> AsyncIterator[tuple[operations.Packed, str]]:
    """The session's bundle in a directory of ours."""
    answer = await handle.request(operations.PACK, to_json(operations.Pack(commit)))
    packed = read(operations.Packed, answer)
    packed = packed._replace(branch=line(packed.branch, 250))
    config, tally = handle.config, Tally()
    with temporary.directory() as directory:
        await handle.engine.copy_out(
            handle.session.container_id,
            packed.path,
            lambda pipe: _unpack(pipe, directory, tally, config.transfer_bytes),
        )
        await handle.request(operations.DROP, to_json(operations.Drop(packed.path)))
        names = await anyio.to_thread.run_sync(os.listdir, directory)
        if len(names) != 1:
            raise TransferError("The session sent something else than its commits.")
        yield packed, os.path.join(directory, names[0])


def _unpack(pipe: BinaryIO, directory: str, tally: Tally, size: int) -> None:
    opened = os.open(directory, descriptors.READ)
    try:
        unpacked = read_archive(pipe, opened, None, tally, Limits(size, 1))
    finally:
        os.close(opened)
    if not unpacked.complete:
        raise TransferError("The session's commits did not arrive completely. Try again.")


async def _apply(
    handle: SessionHandle,
    work: Incoming,
    mode: str,
    branch: str | None,
    paths: Sequence[str],
    patch: str | None,
    overwrite: bool,
) -> Applied:
    done = Applied(
        session=handle.session,
        mode=mode,
        outcome="written",
        branch=None,
        commit=work.tip,
        commits=work.commits,
        subjects=work.subjects,
        files=tuple(each.path for each in work.changes[:MAX_FILES]),
        warnings=work.warnings,
    )
    match mode:
        case "branch":
            moved = await to_branch(work, branch or branch_name(handle.session.name))
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
            assert patch is not None
            return replace(done, path=await _write_patch(handle, work, patch, overwrite))
        case _:
            taken = await to_files(work, paths, overwrite=overwrite)
            return replace(
                done,
                files=tuple(each.path for each in taken if each.outcome in TAKEN),
                left=tuple(
                    f"{each.path}: {each.reason or CHANGED}"
                    for each in taken
                    if each.outcome not in TAKEN
                ),
            )


async def _write_patch(handle: SessionHandle, work: Incoming, patch: str, overwrite: bool) -> str:
    given = policy.host_path(patch, "patch")
    done = await work.git.run(
        work.scratch,
        "diff-tree", "-p", "--binary", "--full-index", "--no-ext-diff", "--no-textconv",
        work.base, work.tip,
        output_bytes=PATCH_BYTES,
    )  # fmt: skip
    write = partial(patch_file.write, str(given), [done.stdout], handle.config, overwrite=overwrite)
    return await anyio.to_thread.run_sync(write)
