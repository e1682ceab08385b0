"""The limits on running sessions, whichever front end created them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from claude_mcp.config import Config
from claude_mcp.contract.numbers import counted
from claude_mcp.engine.engine import Container, Engine
from claude_mcp.errors import TooManySessions
from claude_mcp.sessions import labels, marks
from claude_mcp.sessions.session import parse_time

OF_ALL, OF_OWNER = " (MAX_CONCURRENT_SESSIONS)", " of this token"
VISIBLE_SECONDS: Final = 5.0
"""How long a busy engine may say of a container that runs that it does not."""
AGAIN_SECONDS: Final = 0.1


async def check(engine: Engine, config: Config) -> None:
    """Check that one more session may be started; without limits, this makes no engine call.

    Raises:
        TooManySessions
    """
    if _is_limited(config):
        running = [each for each in await _sessions(engine) if each.status in labels.RUNNING]
        _check(config, running)


async def check_started(engine: Engine, config: Config, id: str) -> None:
    """The same for a container that has been started, ``id``: whether it may stay.

    The one that started first stays, so that all front ends come to the same decision. For that,
    each must know of all that started before its own. One that does not run yet, as far as a busy
    engine says, may be one of them; so it is waited for where it matters. What is not even created
    has not started. If the engine does not say when one started, it counts as the earlier one.

    Raises:
        TooManySessions
    """
    if not _is_limited(config):
        return
    end = anyio.current_time() + VISIBLE_SECONDS
    while True:
        found = await _sessions(engine)
        own = [each for each in found if each.id == id and each.status in labels.RUNNING]
        others = [each for each in found if each.id != id]
        ahead = [
            each
            for each in others
            if each.status in labels.RUNNING and all(_is_ahead(each, new) for new in own)
        ]
        is_over = anyio.current_time() > end
        if own or is_over:
            _check(config, ahead)
        unsure = [each for each in others if all(_may_have_started(each, new) for new in own)]
        if is_over or (own and _refusal(config, ahead + unsure) is None):
            return
        await anyio.sleep(AGAIN_SECONDS)


def _is_limited(config: Config) -> bool:
    return config.max_sessions is not None or config.max_own_sessions is not None


async def _sessions(engine: Engine) -> list[Container]:
    return sorted(await engine.containers(marks.SESSION), key=lambda each: each.started)


def _may_have_started(other: Container, new: Container) -> bool:
    """Whether one that does not run may have been started, and not abandoned long ago."""
    created, began = parse_time(other.created), parse_time(new.started)
    if other.status not in labels.NOT_STARTED:
        return False
    if created is None or began is None:
        return True
    return (began - created).total_seconds() < labels.CREATING_SECONDS


def _is_ahead(other: Container, new: Container) -> bool:
    started, began = parse_time(other.started), parse_time(new.started)
    if started is None or began is None:
        return True
    return (started, other.id) < (began, new.id)


def _check(config: Config, ahead: Sequence[Container]) -> None:
    refusal = _refusal(config, ahead)
    if refusal is not None:
        raise refusal


def _refusal(config: Config, ahead: Sequence[Container]) -> TooManySessions | None:
    """Why there is no room for one more beside these."""
    own = [each for each in ahead if each.labels.get(labels.OWNER, "") == config.owner]
    return _over(own, own, config.max_own_sessions, OF_OWNER) or _over(
        ahead, own if config.owner else ahead, config.max_sessions, OF_ALL
    )


def _over(
    ahead: Sequence[Container], named: Sequence[Container], limit: int | None, whose: str
) -> TooManySessions | None:
    """``named`` are those that the caller may know of."""
    if limit is None or len(ahead) < limit:
        return None
    found = [session for each in named if (session := labels.session_of(each))]
    names = ", ".join(f"{one.name} ({one.id})" for one in found[:10])
    return TooManySessions(
        f"The limit of {counted(limit, 'running session')}{whose} is reached"
        f"{f': {names}' if names else ''}.",
        hint="Destroy one that is no longer needed." if names else "Try again later.",
    )
