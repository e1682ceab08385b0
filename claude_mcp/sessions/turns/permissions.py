"""Answers to what Claude asks: for permission, to have a plan approved, or a question of its own.

A question belongs to the session. It is open until any front end answers it; the session denies an
unanswered question after a while.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import anyio

from claude_mcp.contract import operations
from claude_mcp.contract.messages import to_json
from claude_mcp.errors import AgentError, UsageError
from claude_mcp.sessions.channel.answers import read
from claude_mcp.sessions.channel.silence import PLAIN_SECONDS, LinkLost
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import reconnecting
from claude_mcp.sessions.turns.results import Question

MAX_MESSAGE_CHARS: Final = 10_000
MAX_REQUEST_ID_CHARS: Final = 100


class Decision(StrEnum):
    ALLOW = operations.ALLOW
    DENY = operations.DENY


@dataclass(frozen=True, slots=True)
class Answer:
    """Claude reads ``message`` if the answer is a denial; the log always has it.

    ``answers`` are those to Claude's own questions, one for each, in order: the label of a choice,
    several labels separated by commas, or any other text. They go with ``ALLOW``.
    """

    decision: Decision
    message: str | None = None
    answers: tuple[str, ...] = ()


Ask = Callable[[Question], Awaitable[Answer | None]]
"""Puts a question to a person; None leaves it open."""


@dataclass(frozen=True, slots=True)
class Decided:
    """``turn_id`` is None if the question belonged to no running turn."""

    session: Session
    request_id: str
    decision: Decision
    turn_id: str | None


async def respond(handle: SessionHandle, request_id: str, answer: Answer) -> Decided:
    """Answer one open question.

    Raises:
        UsageError: the message is too long, or the number of answers is wrong.
        QuestionNotOpen: the question is closed, or never was asked.
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    if max(map(len, (answer.message or "", *answer.answers))) > MAX_MESSAGE_CHARS:
        raise UsageError(
            f"A message or an answer is too long: at most {MAX_MESSAGE_CHARS} characters."
        )
    args = operations.Respond(
        request_id[:MAX_REQUEST_ID_CHARS], answer.decision.value, answer.message, answer.answers
    )
    responded = read(operations.Responded, await _request(handle, to_json(args)))
    turn_id = responded.turn_id
    return Decided(handle.session, request_id, answer.decision, _turn_id(turn_id))


async def _request(handle: SessionHandle, args: dict[str, Any]) -> dict[str, Any]:
    """Ask the agent, and ask again if the channel was lost: an answer counts only once."""

    async def ask() -> dict[str, Any]:
        return await handle.request(operations.RESPOND, args, start=False)

    try:
        return await ask()
    except (AgentError, LinkLost) as error:
        if not reconnecting.is_lost(error):
            raise
    return await reconnecting.again(handle, ask, anyio.current_time() + PLAIN_SECONDS)


def _turn_id(value: object) -> str | None:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        return None
