"""Answers to what Claude asks permission for, in a session that was created to ask.

A question belongs to the session: it is open until somebody answers it, whoever that is, and is
denied by the session itself after a time.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from claude_mcp.contract import operations
from claude_mcp.contract.messages import to_json
from claude_mcp.errors import AgentError, UsageError
from claude_mcp.sessions.channel.answers import read
from claude_mcp.sessions.channel.channels import ChannelLost
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns.results import Question

MAX_MESSAGE_CHARS: Final = 10_000
MAX_REQUEST_ID_CHARS: Final = 100


class Decision(StrEnum):
    ALLOW = operations.ALLOW
    DENY = operations.DENY


@dataclass(frozen=True, slots=True)
class Answer:
    """``message`` is for Claude when it is denied, and for the log in any case."""

    decision: Decision
    message: str | None = None


Ask = Callable[[Question], Awaitable[Answer | None]]
"""Asks somebody; None leaves the question open."""


@dataclass(frozen=True, slots=True)
class Decided:
    """``turn_id`` is None for what was asked outside any turn that still runs."""

    session: Session
    request_id: str
    decision: Decision
    turn_id: str | None


async def respond(sessions: Sessions, reference: str, request_id: str, answer: Answer) -> Decided:
    """Answer one open question.

    Raises:
        UsageError: the message is too long.
        QuestionNotOpen: it is answered already, was closed, or never was asked.
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    if len(answer.message or "") > MAX_MESSAGE_CHARS:
        raise UsageError(f"The message is too long: at most {MAX_MESSAGE_CHARS} characters.")
    args = operations.Respond(
        request_id[:MAX_REQUEST_ID_CHARS], answer.decision.value, answer.message
    )
    session, told = await _request(sessions, reference, to_json(args))
    turn_id = read(operations.Responded, told).turn_id
    return Decided(session, request_id, answer.decision, _turn_id(turn_id))


async def _request(
    sessions: Sessions, reference: str, args: dict[str, Any]
) -> tuple[Session, dict[str, Any]]:
    """Ask the agent, and once more when the channel was lost: the answer counts once anyway."""
    try:
        return await sessions.request(reference, operations.RESPOND, args, start=False)
    except AgentError as error:
        if not isinstance(error.__cause__, ChannelLost):
            raise
    return await sessions.request(reference, operations.RESPOND, args, start=False)


def _turn_id(value: object) -> str | None:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        return None
