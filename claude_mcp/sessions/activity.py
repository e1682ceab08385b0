"""What sessions are doing at this moment, as they say themselves.

All are asked at once, over their channels. One that does not answer delays the others by a bounded
time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

import anyio

from claude_mcp.contract import operations
from claude_mcp.errors import ClaudeMcpError, SessionNotFound
from claude_mcp.sessions.channel.answers import line, read, said
from claude_mcp.sessions.channel.channel import NotRunning
from claude_mcp.sessions.channel.channels import Channels
from claude_mcp.sessions.channel.silence import StoppedMeanwhile
from claude_mcp.sessions.command_state import Entry, parse_entries
from claude_mcp.sessions.session import Session, Status

logger = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 2.0
"""How long one session may take to answer; opening a channel is part of it."""
TOTAL_SECONDS: Final = 5.0
AT_ONCE: Final = 8
"""How many sessions are asked at a time: opening a channel takes a process of the engine."""
MAX_TIME_CHARS: Final = 40
MAX_PROBLEM_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Activity:
    """What one session reports. ``turn_id`` is the running turn, or else the latest one."""

    turn_running: bool
    last_activity_at: str
    cost_usd: float
    turn_id: str | None = None
    turn_ms: int | None = None
    """How long the running turn has been running, or waiting."""
    last_step: str | None = None
    """A headline of what Claude did last."""
    model: str | None = None
    """The model that answered last, or else the session's own."""
    questions: int = 0
    """How many questions of Claude are open."""
    background: int = 0
    """How many commands run in the background, of Claude and of others."""
    commands: tuple[Entry, ...] = ()
    """Those of others: commands that run although nobody waits for them."""


ENDED: Final = "it ended while it was asked"
SILENT: Final = f"it did not answer within {ANSWER_SECONDS:g} s"
NOT_ASKED: Final = f"it was not asked within {TOTAL_SECONDS:g} s, because others took too long"


async def ask(channels: Channels, sessions: Sequence[Session]) -> dict[str, Activity | str]:
    """What each running session is doing, or why that is not known, by the sessions' ids.

    Takes ``TOTAL_SECONDS`` at most.
    """
    running = [each for each in sessions if each.status is Status.RUNNING]
    found: dict[str, Activity | str] = {each.id: NOT_ASKED for each in running}
    limiter = anyio.Semaphore(AT_ONCE)

    async def ask_one(session: Session) -> None:
        # One that has a channel answers without a process of the engine, and need not queue.
        was_open = channels.is_open(session.container_id)
        async with nullcontext() if was_open else limiter:
            try:
                with anyio.fail_after(ANSWER_SECONDS):
                    found[session.id] = SILENT
                    found[session.id] = await _ask(channels, session)
            except TimeoutError:
                if not was_open:
                    channels.close(session.container_id)
            except (SessionNotFound, NotRunning, StoppedMeanwhile) as error:
                logger.debug("session %s has ended: %s", session.id, error)
                found[session.id] = ENDED
            except Exception as error:  # one bad session must not hide the others
                logger.debug("session %s did not report its state: %s", session.id, error)
                why = error.message if isinstance(error, ClaudeMcpError) else repr(error)
                found[session.id] = line(why, MAX_PROBLEM_CHARS)

    with anyio.move_on_after(TOTAL_SECONDS):
        async with anyio.create_task_group() as tasks:
            for session in running:
                tasks.start_soon(ask_one, session)
    return found


async def _ask(channels: Channels, session: Session) -> Activity:
    answer = await channels.request(session.container_id, operations.STATUS, {})
    status = read(operations.Status, answer)
    commands = tuple(parse_entries(status.commands))
    return Activity(
        turn_running=status.turn_running,
        last_activity_at=status.last_activity_at[:MAX_TIME_CHARS],
        cost_usd=status.cost_usd,
        turn_id=said(status.turn_id),
        turn_ms=status.turn_ms,
        last_step=said(status.last_step),
        model=said(status.model),
        questions=status.questions,
        background=status.background + len(commands),
        commands=commands,
    )
