"""A session's work as objects that are checked and read without git.

It is that of a copy, of a mounted project, and of a clone if the host has lost its git.
"""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

import anyio.to_thread

from claude_mcp.contract import operations
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.workspaces import BIND
from claude_mcp.errors import WorkRefused
from claude_mcp.sessions.channel.answers import read
from claude_mcp.sessions.git import bundle, objects, rules, sealing
from claude_mcp.sessions.git.objects import Objects
from claude_mcp.sessions.git.rules import ABSENT, Entry
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.progress import Progress, no_progress
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.workspaces.fetching import fetched

_NAME: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
UNSEALED: Final = (
    "What the session began with is not known for certain, so no file of the host is replaced "
    "unless it may be overwritten."
)


@dataclass(frozen=True, slots=True)
class Collected:
    """Work that has been checked; it exists while the file with its objects does.

    ``state`` is what the session is told if the host has all of it.
    """

    entries: tuple[Entry, ...]
    objects: Objects
    state: str
    commit: str
    """Of a clone; else empty."""
    uncommitted: int
    warnings: tuple[str, ...] = ()


@asynccontextmanager
async def collected(
    handle: SessionHandle,
    *,
    paths: Sequence[str] = (),
    both: bool,
    commit: str | None,
    progress: Progress = no_progress,
) -> AsyncIterator[Collected]:
    """What the session changed, of some paths only, if given; ``both`` brings the old files too.

    Raises:
        UsageError: it changed nothing.
        WorkRefused: what it sent is broken, too large or dangerous.
        TransferError, SessionNotFound, SessionNotReady, AgentError, EngineError
    """
    args = operations.Collect(tuple(paths), both, commit)
    told = read(operations.Collected, await handle.request(operations.COLLECT, to_json(args)))
    names = (told.before, told.after, told.state)
    if not all(_NAME.fullmatch(each) for each in names) or len(names[0]) != len(names[1]):
        raise WorkRefused("The session named states that cannot exist.")
    warnings = _beginning(handle.session, told)
    async with fetched(handle, told.path, progress) as path:
        with bundle.opened(path) as file:
            found = await _read(file, objects.FORMATS[len(told.before)])
            entries = await anyio.to_thread.run_sync(_examine, found, told, paths)
            if warnings and not both:
                entries = [_unknown(each) for each in entries]
            yield Collected(
                entries=tuple(entries),
                objects=found,
                state=told.state,
                commit=told.after if handle.session.base else "",
                uncommitted=told.uncommitted,
                warnings=warnings,
            )


def _beginning(session: Session, told: operations.Collected) -> tuple[str, ...]:
    """Check where the session says that it began; warns if that cannot be known."""
    if session.base is not None and session.workspace != BIND:
        if told.before != session.base:
            raise WorkRefused("The session names another commit than the one that it began with.")
        return ()
    is_known = session.workspace == BIND or sealing.is_intact(session.seal, told.before, told.seal)
    return () if is_known else (UNSEALED,)


async def _read(file: BinaryIO, object_format: str) -> Objects:
    stop = threading.Event()
    try:
        return await anyio.to_thread.run_sync(
            objects.read, file, object_format, stop, abandon_on_cancel=True
        )
    finally:
        stop.set()


def _examine(found: Objects, told: operations.Collected, paths: Sequence[str]) -> list[Entry]:
    """The entries that differ, which break no rule."""
    before, after = found.tree_of(told.before), found.tree_of(told.after)
    entries = objects.changed(found, before, after, paths)
    targets = {
        each.object: found.content(each.object, limit=rules.MAX_TARGET_BYTES)
        for each in entries
        if each.is_new_link
    }
    rules.check(entries, targets)
    return entries


def _unknown(entry: Entry) -> Entry:
    """As if nobody knew what was there: no content has an empty name."""
    return entry if entry.old_mode == ABSENT else replace(entry, old_object="")
