"""Asking again after the connection to a session was lost, until its engine is reached again.

Only for what may be asked twice: a turn, a command or an answer that is found by its id. What ran
goes on in the session meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio

from claude_mcp.engine.engine import Engine
from claude_mcp.errors import ClaudeMcpError, EngineUnavailable, NextStep
from claude_mcp.sessions.channel.channel import ChannelLost
from claude_mcp.sessions.channel.silence import LinkLost
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.progress import Progress, no_progress

OUTAGE_SECONDS: Final = 120.0
"""How long an engine that is reached over a network may be away."""
FIRST_PAUSE_SECONDS: Final = 0.5
MOST_PAUSE_SECONDS: Final = 4.0
MOST_OUTAGES: Final = 20
"""A link that is lost more often while one caller waits is not worth waiting for."""

GOES_ON: Final = "What was asked of the session goes on in it, and its result is kept."


def is_lost(error: ClaudeMcpError) -> bool:
    """Whether a request was written and its answer cannot come any more."""
    return isinstance(error, LinkLost) or isinstance(error.__cause__, ChannelLost)


async def again(
    handle: SessionHandle,
    ask: Callable[[], Awaitable[dict[str, Any]]],
    deadline: float,
    progress: Progress = no_progress,
    *,
    steps: tuple[NextStep, ...] = (),
) -> dict[str, Any]:
    """The answer to ``ask``, once the engine of a lost request is reached again.

    An engine of this machine is asked once. One that is reached over a network may be away for
    ``OUTAGE_SECONDS``, but not beyond ``deadline`` on the event loop's clock.

    Raises:
        LinkLost: it was away for longer.
        ClaudeMcpError: what ``ask`` raises.
    """
    engine = handle.engine
    if not engine.dialect.over_network:
        return await ask()
    pause = FIRST_PAUSE_SECONDS
    for left in reversed(range(MOST_OUTAGES)):
        await _reached(engine, deadline, progress, steps)
        try:
            return await ask()
        except EngineUnavailable as error:
            # The engine may answer, but not the node that the session is on.
            if not left or anyio.current_time() + pause >= deadline:
                hint = " ".join(filter(None, (error.hint, GOES_ON)))
                raise LinkLost(error.message, hint=hint, steps=steps) from error
        await anyio.sleep(pause)
        pause = min(2 * pause, MOST_PAUSE_SECONDS)
    raise AssertionError  # the last try returns or raises


async def _reached(
    engine: Engine, deadline: float, progress: Progress, steps: tuple[NextStep, ...]
) -> None:
    """Wait until the engine answers."""
    began = anyio.current_time()
    end = min(deadline, began + OUTAGE_SECONDS)
    pause = FIRST_PAUSE_SECONDS
    told = False
    while True:
        failure: EngineUnavailable | None = None
        with anyio.CancelScope(deadline=end) as late:
            try:
                return await engine.check()
            except EngineUnavailable as error:
                failure = error
        if late.cancelled_caught or anyio.current_time() + pause >= end:
            seconds = round(anyio.current_time() - began)
            raise LinkLost(
                f"The connection to {engine.title} was lost, and it could not be reached again for "
                f"{seconds} s.",
                hint=f"{GOES_ON} Ask for it once the engine is reached again.",
                steps=steps,
            ) from failure
        if not told:
            await progress("the engine is not reached; trying again")
            told = True
        await anyio.sleep(pause)
        pause = min(2 * pause, MOST_PAUSE_SECONDS)
