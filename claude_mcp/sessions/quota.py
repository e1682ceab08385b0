"""How many sessions may run at a time, whoever made them."""

from __future__ import annotations

from datetime import UTC, datetime

from claude_mcp.engine.engine import Engine
from claude_mcp.errors import TooManySessions
from claude_mcp.sessions import labels
from claude_mcp.sessions.session import parse_time


async def check(engine: Engine, limit: int, newcomer: str | None = None) -> None:
    """Whether one more session may run.

    A new session (``newcomer``, its container's id) asks when it runs already and can be seen by
    all others that ask: who started first stays, so that two servers come to the same answer.

    Raises:
        TooManySessions
    """
    running = [
        (parse_time(each.started) or datetime.max.replace(tzinfo=UTC), each.id, each)
        for each in await engine.containers(labels.SESSION)
        if each.status in ("running", "paused")
    ]
    ahead = []
    for _, id, each in sorted(running):
        if id == newcomer:
            break
        ahead.append(each)
    if len(ahead) < limit:
        return
    found = [session for each in ahead if (session := labels.session_of(each))]
    names = ", ".join(f"{one.name} ({one.id})" for one in found[:10])
    raise TooManySessions(
        f"{len(ahead)} of the {limit} sessions run that MAX_CONCURRENT_SESSIONS allows: {names}.",
        hint="Destroy one that is no longer needed.",
    )
