"""Resolves a reference: a session's id, an unambiguous prefix of it, or the session's name.

A name in another case counts if no session has exactly that name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from claude_mcp.engine.engine import Container, Engine, ReferenceAmbiguous
from claude_mcp.errors import NextStep, NotASession, SessionAmbiguous, SessionNotFound, UsageError
from claude_mcp.sessions.labels import session_of
from claude_mcp.sessions.network.access import PROXY_OF_LABEL
from claude_mcp.sessions.network.forwarding import PORTS_OF_LABEL
from claude_mcp.sessions.session import MAX_NAME_CHARS, Session, container_name

MAX_REFERENCE_CHARS: Final = 200
MAX_NAMED: Final = 10
"""How many sessions a message names."""

_ID: Final = re.compile(r"[0-9a-f]{4,64}")


def check(reference: str) -> None:
    """Raises ``UsageError`` for text that cannot be a reference."""
    if not reference.strip() or len(reference) > MAX_REFERENCE_CHARS or "\0" in reference:
        raise UsageError(
            "A session is named by its id, a prefix of its id, or its name; "
            f"{reference[:40]!r} is none of these."
        )


async def resolve(
    engine: Engine,
    reference: str,
    everything: Callable[[], Awaitable[Sequence[Session]]],
    owner: str = "",
) -> Session:
    """The session as the engine describes it now: one engine call in most cases.

    ``everything`` lists all sessions that the owner sees; it is called if that one call cannot
    decide. Nothing is said of any other container to an owner who is not the operator.

    Raises:
        SessionNotFound, SessionAmbiguous: with the sessions it could mean instead.
        NotASession
    """
    session, other = await _find(engine, reference, owner)
    if session is not None:
        return session
    try:
        return choose(reference, await everything())
    except SessionNotFound:
        if other is None or owner:
            raise
        raise NotASession(
            f"There is no session {reference!r}.", hint=foreign(engine, other)
        ) from None


def foreign(engine: Engine, container: Container) -> str:
    """About a container that has a session's name or id and is not one of ours."""
    if PORTS_OF_LABEL in container.labels:
        return f"{container.name} leads to the ports of a session and ends with it."
    if PROXY_OF_LABEL in container.labels:
        return f"{container.name} is the proxy of restricted sessions and ends with them."
    return (
        f"The container {container.name} of image {container.image} is not one of ours. If nobody "
        f"needs it, remove it with '{engine.program} rm --force {container.name}'."
    )


async def _find(
    engine: Engine, reference: str, owner: str
) -> tuple[Session | None, Container | None]:
    """The session, or a container that has its name or id and is none."""
    names = [container_name(reference, owner)] if len(reference) <= MAX_NAME_CHARS else []
    prefixes = [reference] if _ID.fullmatch(reference) else []
    try:
        containers = await engine.inspect([*names, *prefixes])
    except ReferenceAmbiguous:
        return None, None
    found = [
        session
        for each in containers
        if (session := session_of(each)) and session.is_visible_to(owner)
    ]
    by_name = [session for session in found if session.name == reference]
    # A session's name takes precedence over other sessions' ids with the same prefix.
    if by_name:
        return by_name[0], None
    if len(found) == 1 and found[0].container_id.startswith(reference):
        return found[0], None
    return None, next((each for each in containers if session_of(each) is None), None)


def choose(reference: str, sessions: Sequence[Session]) -> Session:
    """The one of all sessions that the reference means; raises as ``resolve`` does."""
    matching = (
        [each for each in sessions if each.name == reference]
        or [
            each
            for each in sessions
            if _ID.fullmatch(reference) and each.container_id.startswith(reference)
        ]
        or [each for each in sessions if each.name.casefold() == reference.casefold()]
    )
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise SessionAmbiguous(
            f"{reference!r} matches {len(matching)} sessions: {_named(matching)}."
        )
    raise not_found(reference, sessions)


def not_found(reference: str, sessions: Sequence[Session]) -> SessionNotFound:
    """What to say of a reference that means none of all sessions."""
    near = difflib.get_close_matches(reference, [each.name for each in sessions], n=1, cutoff=0.7)
    if near:
        hint = f"Did you mean {near[0]!r}?"
    elif sessions:
        hint = f"Existing sessions: {_named(sessions)}."
    else:
        hint = "There are no sessions."
    steps = () if sessions else (NextStep.CREATE,)
    return SessionNotFound(f"There is no session {reference!r}.", hint=hint, steps=steps)


def _named(sessions: Sequence[Session]) -> str:
    named = ", ".join(f"{each.id} ({each.name})" for each in sessions[:MAX_NAMED])
    more = len(sessions) - MAX_NAMED
    return f"{named} and {more} more" if more > 0 else named


def no_engine(name: str, engines: Sequence[str]) -> UsageError:
    near = difflib.get_close_matches(name, engines, n=1)
    known = f"Configured: {', '.join(engines)}."
    return UsageError(
        f"There is no engine {name[:60]!r} here.",
        hint=f"Did you mean {near[0]!r}? {known}" if near else known,
    )
