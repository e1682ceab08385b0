"""The limit on running sessions, whichever front end created them."""

from __future__ import annotations

from datetime import UTC, datetime

from claude_mcp.contract.numbers import counted
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import TooManySessions
from claude_mcp.sessions import labels
from claude_mcp.sessions.session import parse_time


async def check(engine: Engine, limit: int | None, newcomer: str | None = None) -> None:
    """Check that one more session may run; without a limit, this makes no engine call.

    A new session calls this when its container (``newcomer`` is its id) already runs, so that
    all others that check at the same time see it. The session that started first stays, so two
    servers come to the same decision.

    Raises:
        TooManySessions
    """
    if limit is None:
        return
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
        f"The limit of {counted(limit, 'running session')} (MAX_CONCURRENT_SESSIONS) is reached: "
        f"{names}.",
        hint="Destroy one that is no longer needed.",
    )
