"""The turns of a session as a list, so that an older one can be found and read again."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from claude_mcp.contract import operations
from claude_mcp.contract.messages import to_json
from claude_mcp.errors import UsageError
from claude_mcp.sessions.channel.answers import line, read, said
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.session import Session

DEFAULT_LISTED: Final = 20
MAX_LISTED: Final = 100


@dataclass(frozen=True, slots=True)
class ListedTurn:
    """One turn. ``at`` is when its prompt was accepted; ``prompt`` is the first line.

    Without a ``prompt``, Claude Code began the turn by itself.
    """

    turn_id: str
    status: str
    at: str | None
    prompt: str | None
    cost_usd: float
    duration_ms: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Turns, newest first. ``cursor`` reads on with older ones; None if there are none."""

    session: Session
    turns: tuple[ListedTurn, ...]
    cursor: str | None = None


async def turns(
    handle: SessionHandle, *, cursor: str | None = None, limit: int = DEFAULT_LISTED
) -> Listing:
    """The turns of a session; it starts if it is stopped.

    Raises:
        UsageError: the cursor or the limit cannot be used.
        TurnNotFound, SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    if not 1 <= limit <= MAX_LISTED:
        raise UsageError(f"limit must be between 1 and {MAX_LISTED}.")
    if cursor is not None and not _is_turn(cursor):
        raise UsageError("cursor must be the cursor of an earlier answer.")
    answer = await handle.request(
        operations.TURNS, to_json(operations.ListTurns(cursor and cursor.lower(), limit))
    )
    found = read(operations.TurnList, answer)
    listed = tuple(_turn(each) for each in found.turns[:limit] if _is_turn(each.turn_id))
    more = found.more and bool(listed)
    return Listing(handle.session, listed, listed[-1].turn_id if more else None)


def _turn(sent: operations.TurnSummary) -> ListedTurn:
    return ListedTurn(
        turn_id=sent.turn_id,
        status=line(sent.status, 40),
        at=said(sent.at),
        prompt=said(sent.prompt),
        cost_usd=sent.cost_usd,
        duration_ms=sent.duration_ms,
        error=said(sent.error),
    )


def _is_turn(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
