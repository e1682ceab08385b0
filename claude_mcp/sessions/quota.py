"""The limits on running sessions, whichever front end created them."""

from __future__ import annotations

from collections.abc import Sequence

from claude_mcp.config import Config
from claude_mcp.contract.numbers import counted
from claude_mcp.engine.engine import Container, Engine
from claude_mcp.errors import TooManySessions
from claude_mcp.sessions import labels, marks
from claude_mcp.sessions.session import parse_time

OF_ALL, OF_OWNER = " (MAX_CONCURRENT_SESSIONS)", " of this token"


async def check(engine: Engine, config: Config, newcomer: str | None = None) -> None:
    """Check that one more session may run; without limits, this makes no engine call.

    A new session calls this when its container (``newcomer`` is its id) already runs, so that
    all others that check at the same time see it. The session that started first stays, so two
    servers come to the same decision. A busy engine may not say when one started: then it counts
    as the earlier one, so that there are never too many.

    Raises:
        TooManySessions
    """
    if config.max_sessions is None and config.max_own_sessions is None:
        return
    running = {
        each.id: each
        for each in sorted(await engine.containers(marks.SESSION), key=lambda each: each.started)
        if each.status in ("running", "paused")
    }
    new = running.pop(newcomer, None) if newcomer else None
    ahead = [each for each in running.values() if new is None or _is_ahead(each, new)]
    own = [each for each in ahead if each.labels.get(labels.OWNER, "") == config.owner]
    _compare(own, own, config.max_own_sessions, OF_OWNER)
    _compare(ahead, own if config.owner else ahead, config.max_sessions, OF_ALL)


def _is_ahead(other: Container, new: Container) -> bool:
    started, began = parse_time(other.started), parse_time(new.started)
    if started is None or began is None:
        return True
    return (started, other.id) < (began, new.id)


def _compare(
    ahead: Sequence[Container], named: Sequence[Container], limit: int | None, whose: str
) -> None:
    """``named`` are those that the caller may know of."""
    if limit is None or len(ahead) < limit:
        return
    found = [session for each in named if (session := labels.session_of(each))]
    names = ", ".join(f"{one.name} ({one.id})" for one in found[:10])
    raise TooManySessions(
        f"The limit of {counted(limit, 'running session')}{whose} is reached"
        f"{f': {names}' if names else ''}.",
        hint="Destroy one that is no longer needed." if names else "Try again later.",
    )
