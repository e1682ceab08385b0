"""A turn as values, and how the agent's answers about it are read."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from claude_mcp.contract.numbers import amount
from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import AgentError
from claude_mcp.sessions.channel.answers import line, mapping
from claude_mcp.sessions.session import Session

# More than any honest agent gives.
MAX_EVENTS: Final = 100
MAX_NOTES: Final = 20
MAX_EVENT_CHARS: Final = 2_000
MAX_QUESTIONS: Final = 50
MAX_INPUT_CHARS: Final = 20_000
"""Of a question's input as JSON."""


class TurnStatus(StrEnum):
    RUNNING = "running"
    NEEDS_PERMISSION = "needs_permission"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """What holds for one turn only; None means as the session has it."""

    tools: tuple[str, ...] | None = None
    model: str | None = None
    max_turns: int | None = None
    max_budget_usd: float | None = None
    new_conversation: bool = False


@dataclass(frozen=True, slots=True)
class PermissionDenial:
    tool_name: str
    tool_input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What Claude asks permission for; ``description`` is Claude's own."""

    request_id: str
    tool_name: str
    tool_input: Mapping[str, Any]
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; ``left_out`` counts the characters of the text that are missing."""

    number: int
    time: str
    kind: str
    text: str
    left_out: int


@dataclass(frozen=True, slots=True)
class TurnResult:
    """A turn as far as it is known: one that runs has no result, cost or usage yet.

    ``questions`` are open ones; a turn that is over has those of its subagents, which go on.

    ``error`` says why it failed, ``ahead`` how many turns come before it in line, ``cursor`` from
    which event to read on; ``duration_ms`` is Claude's own figure.
    """

    session: Session
    turn_id: str
    status: TurnStatus
    result: str | None = None
    error: str | None = None
    conversation_id: str | None = None
    num_turns: int = 0
    duration_ms: int = 0
    cost_usd: float = 0.0
    usage: Mapping[str, int] = field(default_factory=dict)
    permission_denials: tuple[PermissionDenial, ...] = ()
    questions: tuple[Question, ...] = ()
    notes: tuple[str, ...] = ()
    ahead: int = 0
    events: tuple[Event, ...] = ()
    cursor: int = 0


def parse_result(session: Session, turn_id: str | None, answer: Mapping[str, Any]) -> TurnResult:
    """Read the agent's answer as what it is: input that the session may have forged.

    ``turn_id`` is the one that was asked for, if one was.

    Raises:
        AgentError: none was, and the answer names none.
    """
    if turn_id is None:
        try:
            turn_id = str(uuid.UUID(str(answer.get("turnId"))))
        except ValueError as error:
            raise AgentError("The session's agent gave an answer that makes no sense.") from error

    def text(key: str) -> str | None:
        value = answer.get(key)
        return redactor.redact(value) if isinstance(value, str) else None

    def number(key: str) -> float:
        return amount(answer.get(key)) or 0

    def items(key: str) -> list[Any]:
        value = answer.get(key)
        return value if isinstance(value, list) else []

    usage = answer.get("usage")
    try:
        status = TurnStatus(str(answer.get("status")))
    except ValueError:
        status = TurnStatus.FAILED
    return TurnResult(
        session=session,
        turn_id=turn_id,
        status=status,
        result=text("result"),
        error=text("error"),
        conversation_id=text("conversationId"),
        num_turns=int(number("numTurns")),
        duration_ms=int(number("durationMs")),
        cost_usd=float(number("costUsd")),
        usage={
            str(key): int(count)
            for key, value in (usage.items() if isinstance(usage, dict) else ())
            if (count := amount(value)) is not None
        },
        permission_denials=tuple(
            PermissionDenial(str(each.get("toolName", "")), mapping(each.get("toolInput") or {}))
            for each in items("permissionDenials")
            if isinstance(each, dict) and isinstance(each.get("toolInput") or {}, dict)
        ),
        questions=parse_questions(items("questions")),
        notes=tuple(
            redactor.redact(line(note))
            for note in items("notes")[:MAX_NOTES]
            if isinstance(note, str)
        ),
        ahead=int(number("ahead")),
        events=parse_events(items("events"), MAX_EVENT_CHARS),
        cursor=int(number("cursor")),
    )


def parse_questions(values: list[Any]) -> tuple[Question, ...]:
    return tuple(
        Question(
            request_id=line(each["requestId"], 100),
            tool_name=line(each.get("toolName", ""), 200),
            tool_input=_bounded(mapping(each.get("toolInput"))),
            description=redactor.redact(line(each.get("description") or "", 1_000)) or None,
        )
        for each in values[:MAX_QUESTIONS]
        if isinstance(each, dict) and each.get("requestId")
    )


def _bounded(tool_input: Mapping[str, Any]) -> Mapping[str, Any]:
    """An honest agent has cut it already."""
    text = json.dumps(tool_input, ensure_ascii=False)
    return tool_input if len(text) <= MAX_INPUT_CHARS else {"json": text[:MAX_INPUT_CHARS]}


def parse_events(values: list[Any], characters: int | None) -> tuple[Event, ...]:
    return tuple(
        Event(
            number=int(amount(each.get("number")) or 0),
            time=str(each.get("time"))[:40],
            kind=str(each.get("kind"))[:40],
            text=redactor.redact(str(each.get("text"))[:characters]),
            left_out=int(amount(each.get("leftOut")) or 0),
        )
        for each in values[:MAX_EVENTS]
        if isinstance(each, dict)
    )
