"""The events of a turn as they happen, each of them once and in order."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

import anyio

from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.turns.permissions import Ask
from claude_mcp.sessions.turns.prompts import follow
from claude_mcp.sessions.turns.results import Event, TurnResult

OnEvents = Callable[[Sequence[Event]], Awaitable[None]]


async def stream(
    handle: SessionHandle,
    turn_id: str | None,
    on_events: OnEvents,
    *,
    cursor: int = 0,
    wait_seconds: float | None = None,
    ask: Ask | None = None,
) -> TurnResult:
    """Follow a turn (default: the latest) to its end, or for ``wait_seconds``.

    ``on_events`` gets the events with numbers above ``cursor``. Without ``ask``, following ends
    when Claude asks something, as in ``prompts.prompt``.

    Raises:
        UsageError, TurnNotFound, SessionNotFound, SessionAmbiguous, SessionNotReady,
        AgentError, EngineError
    """
    deadline = math.inf if wait_seconds is None else anyio.current_time() + wait_seconds
    while True:
        left = max(0.0, deadline - anyio.current_time())
        turn = await follow(
            handle, turn_id, cursor=cursor, wait_seconds=None if left == math.inf else left, ask=ask
        )
        await on_events(turn.events)
        # Events that do not advance are forged, and would be followed for ever.
        if not turn.events or turn.cursor <= cursor:
            return turn
        turn_id, cursor = turn.turn_id, turn.cursor
