"""Removes sessions that have expired or are broken, but never one with a running turn, and none
whose clone or copy holds work that is nowhere else, unless that is wanted.

An expired session ends itself (``agent.expiry``), so usually only a stopped container is left to
remove. One that still runs is asked whether a turn is running. If it does not answer it may be
busy, and is left alone for an hour.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from claude_mcp.contract import operations
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import ClaudeMcpError
from claude_mcp.sessions.channel.answers import read
from claude_mcp.sessions.channel.channels import Channels
from claude_mcp.sessions.network import enforcement, forwarders, proxies
from claude_mcp.sessions.session import Session, Status, is_over, overdue_seconds

logger = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 10.0
UNANSWERED_SECONDS: Final = 3600.0
"""How long after expiry a session that does not answer is spared."""
KNOWN: Final = "It holds work that is nowhere else."
UNKNOWN: Final = "It may hold work that is nowhere else."

Held = Callable[[Session], Awaitable[str]]
"""What would be lost with a session; empty if nothing would."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """``removed`` is False in a dry run, if the removal failed, and if it was ``kept``."""

    session: Session
    reason: str
    removed: bool
    kept: str = ""
    """What it holds that would be lost with it, or why that cannot be told."""


async def prune(
    engine: Engine,
    channels: Channels,
    sessions: Sequence[Session],
    *,
    broken: bool,
    dry_run: bool = False,
    discard: bool = False,
    held: Held | None = None,
) -> list[Pruned]:
    """Remove expired sessions and, with ``broken``, those whose creation was interrupted.

    ``held`` says what would be lost with a session, and may start it for that; without it, a
    session that may hold work is left alone. With ``discard``, its work is removed too.
    """
    found: dict[str, Pruned] = {}

    async def kept(session: Session) -> str | None:
        if discard or not session.may_hold_work:
            return ""
        if held is None:
            return None
        if session.unsaved or dry_run:
            return KNOWN if session.unsaved else UNKNOWN
        return await held(session)

    async def look(session: Session) -> None:
        if is_over(session):
            if session.status is not Status.EXPIRED and await _has_turn(channels, session):
                return
            reason = "expired"
            why = await kept(session)
            if why is None:
                return
            if why:
                found[session.id] = Pruned(session, reason, removed=False, kept=why)
                return
        elif broken and session.status in (Status.BROKEN, Status.REMOVING):
            reason = "broken"
        else:
            return
        removed = not dry_run and await _remove(engine, channels, session)
        found[session.id] = Pruned(session, reason, removed)

    async with anyio.create_task_group() as tasks:
        for session in sessions:
            tasks.start_soon(look, session)
    return [found[session.id] for session in sessions if session.id in found]


async def _has_turn(channels: Channels, session: Session) -> bool:
    if session.status is not Status.RUNNING:
        return False
    try:
        with anyio.fail_after(ANSWER_SECONDS):
            answer = await channels.request(session.container_id, operations.STATUS, {})
            status = read(operations.Status, answer)
    except (ClaudeMcpError, TimeoutError) as error:
        logger.info("the expired session %s did not answer: %s", session.name, error)
        return overdue_seconds(session) < UNANSWERED_SECONDS
    return status.turn_running


async def _remove(engine: Engine, channels: Channels, session: Session) -> bool:
    channels.close(session.container_id)
    try:
        if session.status is Status.RUNNING:
            await enforcement.silence(engine, session.container_id, session.egress)
        await engine.remove(session.container_id)
    except ClaudeMcpError as error:
        logger.warning("session %s could not be removed: %s", session.name, error)
        return False
    await proxies.release_or_log(engine, session.proxy)
    await forwarders.release_or_log(engine, session.forwarding)
    return True
