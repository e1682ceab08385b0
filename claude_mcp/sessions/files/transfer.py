"""Transfers files into and out of a session, completely or not at all."""

from __future__ import annotations

import functools
import os
import posixpath
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from claude_mcp.contract import operations, places
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.wording import named
from claude_mcp.engine.engine import CopyIncomplete, Engine, PathNotFound
from claude_mcp.errors import AgentError, NextStep, TransferError, UsageError
from claude_mcp.placing import descriptors, placement
from claude_mcp.placing.staging import staging
from claude_mcp.sessions.channel.answers import read
from claude_mcp.sessions.files.archive import Tally, write_archive
from claude_mcp.sessions.files.reporting import reported, size_of
from claude_mcp.sessions.files.unpacking import Limits, Unpacked, read_archive
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.paths import policy
from claude_mcp.sessions.progress import Progress, no_progress
from claude_mcp.sessions.session import Session


class Direction(StrEnum):
    TO_CONTAINER = "to_container"
    FROM_CONTAINER = "from_container"


@dataclass(frozen=True, slots=True)
class Transferred:
    """A finished transfer: ``path`` of the copy, and ``size`` of its files in bytes."""

    session: Session
    direction: Direction
    path: str
    files: int
    size: int
    warnings: tuple[str, ...] = ()


async def transfer(
    handle: SessionHandle,
    direction: Direction,
    source: str,
    destination: str,
    *,
    overwrite: bool = False,
    create_parents: bool = False,
    progress: Progress = no_progress,
) -> Transferred:
    """Copy a file or a directory.

    The source goes inside a destination that is a directory or ends with ``/``. Otherwise the
    destination is the new path. With ``create_parents``, missing directories are created. Paths
    in the session may be relative to /workspace; paths on the host must be absolute, and are named
    as the host or, if this program runs in a container, as that container names them. With
    ``overwrite``, files are replaced and directories merged.

    Raises:
        UsageError, TransferError, SessionNotFound, SessionAmbiguous, SessionNotReady,
        AgentError, EngineError: the destination is unchanged.
    """
    if "\0" in source or "\0" in destination or not source or not destination:
        raise UsageError(
            f"{named('sourcePath')} and {named('destPath')} must not be empty or contain a NUL "
            "character."
        )
    if direction is Direction.TO_CONTAINER:
        return await _send(handle, source, destination, overwrite, create_parents, progress)
    return await _fetch(handle, source, destination, overwrite, create_parents, progress)


async def _send(
    handle: SessionHandle,
    source: str,
    destination: str,
    overwrite: bool,
    create_parents: bool,
    progress: Progress,
) -> Transferred:
    path, name, is_directory = await anyio.to_thread.run_sync(
        _source, await handle.host_path(source), handle, abandon_on_cancel=True
    )
    args = operations.Receive(destination, name, is_directory, overwrite, create_parents)
    tally = Tally()
    pinned, engine = await handle.pinned(), _copying_engine(handle)
    await pinned.check_mounts()  # an engine also looks the paths up when it copies

    async def copy(event: dict[str, Any]) -> None:
        directory, owner = staging_of(event)
        with _opened(str(path.parent)) as parent:
            await engine.copy_in(
                pinned.session.container_id,
                directory,
                lambda pipe: write_archive(parent, str(path), name, owner, pipe, tally),
            )
        arrived = operations.Arrived(directory, tally.files)
        # A session that stopped meanwhile has lost the staging, and was perhaps stopped on purpose.
        await pinned.request(operations.ARRIVED, to_json(arrived), start=False)

    try:
        sizes = functools.partial(size_of, [("", str(path), [""])])
        async with reported(tally, progress, engine, "copying", sizes):
            answer = await pinned.request(operations.RECEIVE, to_json(args), copy)
    except PathNotFound as error:
        why = f"{destination} is on a tmpfs, which {engine.title} cannot access, or was removed"
        raise _nothing_copied(why) from error
    return Transferred(
        pinned.session,
        Direction.TO_CONTAINER,
        read(operations.Received, answer, operations.Received(destination)).path,
        tally.files,
        tally.size,
        tuple(tally.warnings),
    )


def _source(source: str, handle: SessionHandle) -> tuple[Path, str, bool]:
    """The real path of what is sent, its name, and whether it is a directory."""
    given = policy.host_path(source, named("sourcePath"))
    try:
        path = given.resolve(strict=True)
        status = path.stat()
    except (OSError, RuntimeError):
        raise UsageError(f"{source!r} does not exist on the host.") from None
    name = path.name if given.name in ("", "..") else given.name
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)) or not path.name:
        raise UsageError(f"{source!r} is neither a file nor a directory.")
    policy.check(str(path), f"The source {source!r}", handle.config, status.st_uid)
    return path, name, stat.S_ISDIR(status.st_mode)


async def _fetch(
    handle: SessionHandle,
    source: str,
    destination: str,
    overwrite: bool,
    create_parents: bool,
    progress: Progress,
) -> Transferred:
    path = posixpath.normpath(posixpath.join(places.WORKSPACE, source))
    name = posixpath.basename(path)
    if not name:
        raise UsageError("The session's root directory cannot be copied.")
    given = policy.host_path(await handle.host_path(destination), named("destPath"))
    pinned, engine = await handle.pinned(), _copying_engine(handle)
    await pinned.check_mounts()
    session = pinned.session
    tally = Tally()
    limits = Limits(handle.config.transfer_bytes, handle.config.transfer_files)
    unpacked: list[Unpacked] = []
    try:
        written = f"{given}/" if destination.endswith("/") else str(given)
        target = placement.target_of(written, name, create_parents)
        above = os.path.dirname(target)
        await _check_target(target, handle)
        with placement.created_parents(above), _opened(above) as parent:
            status = os.fstat(parent)
            # The source's type is still unknown; this only refuses an existing target early.
            if not overwrite:
                placement.check(False, parent, target, overwrite)
            # As root, give the files to the owner of the target's directory.
            owner = (status.st_uid, status.st_gid) if policy.current_uid() == 0 else None
            async with _staged(parent, target) as directory:
                async with reported(tally, progress, engine, "copying"):
                    await engine.copy_out(
                        session.container_id,
                        path,
                        lambda pipe: unpacked.append(
                            read_archive(pipe, directory, owner, tally, limits)
                        ),
                    )
                await anyio.to_thread.run_sync(
                    _place, unpacked[0], directory, parent, target, overwrite, tally
                )
    except placement.NoDirectory as error:
        raise _nothing_copied(str(error), NextStep.CREATE_PARENTS) from error
    except placement.PlaceError as error:
        raise _nothing_copied(str(error)) from error
    except CopyIncomplete as error:
        raise TransferError(
            f"Nothing was copied: {error.message}",
            hint="Either the session was removed, or something in it deletes files. Try again "
            "while nothing changes them.",
        ) from error
    except PathNotFound as error:
        raise TransferError(
            f"{source!r} does not exist in session {session.name!r}.",
            hint="Files in a tmpfs cannot be copied; copy them elsewhere in the session first.",
        ) from error
    return Transferred(
        session, Direction.FROM_CONTAINER, target, tally.files, tally.size, tuple(tally.warnings)
    )


async def _check_target(target: str, handle: SessionHandle) -> None:
    """Apply the rules for host paths before anything is created there."""
    with _opened(placement.nearest_directory(os.path.dirname(target))) as nearest:
        owner = os.fstat(nearest).st_uid
    await anyio.to_thread.run_sync(
        policy.check,
        target,
        f"The destination {target!r}",
        handle.config,
        owner,
        abandon_on_cancel=True,
    )


def _copying_engine(handle: SessionHandle) -> Engine:
    engine = handle.engine
    if not engine.dialect.archive_copies:
        raise TransferError(
            f"{engine.title} cannot copy files into or out of a session.",
            hint="Move them with commands inside the session.",
        )
    return engine


@contextmanager
def _opened(directory: str) -> Iterator[int]:
    """Open a checked directory of the host; fails if its path now contains a link."""
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(descriptors.opened(directory))
        except OSError as error:
            raise TransferError(
                f"Nothing was copied: {directory} cannot be opened or was replaced meanwhile: "
                f"{error.strerror}."
            ) from error
        yield descriptor


@asynccontextmanager
async def _staged(parent: int, target: str) -> AsyncIterator[int]:
    """A staging directory beside the target, created and removed in a worker thread."""
    made = staging(parent)
    try:
        _, directory = await anyio.to_thread.run_sync(made.__enter__)
    except OSError as error:
        why = f"{os.path.dirname(target)}: {error.strerror}"
        raise TransferError(f"Nothing was copied: {why}.") from error
    try:
        yield directory
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(made.__exit__, None, None, None)


def _place(
    unpacked: Unpacked, directory: int, parent: int, target: str, overwrite: bool, tally: Tally
) -> None:
    if not unpacked.complete:
        raise TransferError("Nothing was copied: the session's data is incomplete.")
    if unpacked.name not in os.listdir(directory):
        raise TransferError(f"Nothing was copied: {tally.warnings[0]}")
    try:
        placement.place(directory, unpacked.name, parent, target, overwrite)
    except OSError as error:
        raise TransferError(f"Nothing was copied: {target}: {error.strerror}.") from error
    unpacked.set_modes(parent, os.path.basename(target))


def staging_of(event: object) -> tuple[str, tuple[int, int]]:
    """The staging directory in the session and its owner (uid, gid), as the agent reports them.

    Raises:
        AgentError: it reports something else.
    """
    told = read(operations.Staging, event)
    if not posixpath.isabs(told.staging) or "\0" in told.staging:
        raise AgentError("The session's agent sent an unusable answer.")
    return told.staging, (told.uid, told.gid)


def _nothing_copied(why: str, *steps: NextStep) -> TransferError:
    message = f"Nothing was copied: {why}."
    if "overwrite" in why:
        return TransferError(message, hint="Allow it to be replaced.", steps=(NextStep.OVERWRITE,))
    return TransferError(message, hint="Choose another destination.", steps=steps)
