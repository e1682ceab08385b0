"""A session's latest turns as they were, and word of what happens next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from claude_mcp.contract import operations
from claude_mcp.contract.messages import to_json
from claude_mcp.errors import TurnNotFound
from claude_mcp.sessions.channel.answers import read
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import listing
from claude_mcp.sessions.turns.listing import ListedTurn
from claude_mcp.sessions.turns.results import TurnResult, parse_result

READ_TURNS: Final = 20


@dataclass(frozen=True, slots=True)
class Told:
    """One turn of the history: as it is listed, and with its prompt and first events."""

    listed: ListedTurn
    turn: TurnResult


@dataclass(frozen=True, slots=True)
class History:
    """The latest turns, oldest first; ``more`` says whether there are older ones."""

    session: Session
    turns: tuple[Told, ...]
    more: bool


async def history(handle: SessionHandle) -> History:
    """The latest turns of a session, each with its first events.

    Raises:
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    found = await listing.turns(handle, limit=READ_TURNS)
    told = []
    for each in reversed(found.turns):
        args = operations.FollowTurn(each.turn_id, cursor=0, wait_seconds=0, with_prompt=True)
        try:
            answer = await handle.request(operations.FOLLOW, to_json(args))
        except TurnNotFound:  # its record was removed in the session
            continue
        told.append(Told(each, parse_result(handle.session, each.turn_id, answer)))
    return History(handle.session, tuple(told), found.cursor is not None)


async def changed(handle: SessionHandle, seen: int | None, wait_seconds: float) -> int:
    """Wait until something has happened in a turn since ``seen``, the mark of an earlier call.

    Returns the new mark, or the same one when the time is up. Does not start a stopped session.

    Raises:
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    args = to_json(operations.Watch(seen, wait_seconds))
    answer = await handle.request(operations.WATCH, args, start=False)
    return read(operations.Watched, answer).mark
