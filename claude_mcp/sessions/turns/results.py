"""A turn as values, and how the agent's answers about it are read."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from claude_mcp.contract import operations
from claude_mcp.contract.numbers import amount
from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import AgentError
from claude_mcp.sessions.channel.answers import line, mapping, read, said
from claude_mcp.sessions.session import Session

# More than an honest agent sends.
MAX_EVENTS: Final = 100
MAX_NOTES: Final = 20
MAX_EVENT_CHARS: Final = 2_000
MAX_QUESTIONS: Final = 50
MAX_RESULT_CHARS: Final = 256 * 1024
"""The length of a result or an error, which become part of a model's context."""
MAX_USAGE_ENTRIES: Final = 50
MAX_DENIALS: Final = 50
MAX_REASON_CHARS: Final = 1_000
MAX_INPUT_CHARS: Final = 20_000
"""The length of a question's input as JSON."""


class TurnStatus(StrEnum):
    QUEUED = "queued"
    """Other turns come first."""
    RUNNING = "running"
    NEEDS_PERMISSION = "needs_permission"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class PermissionDenial:
    """``reason`` is what a person wrote, or why nobody could be asked."""

    tool_name: str
    tool_input: Mapping[str, Any]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What Claude asks, as the call of a tool; Claude wrote the ``description``.

    ``questions`` tells the kinds apart and shows each as text.
    """

    request_id: str
    tool_name: str
    tool_input: Mapping[str, Any]
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a turn; ``left_out`` is how many characters of its text are missing."""

    number: int
    time: str
    kind: str
    text: str
    left_out: int


@dataclass(frozen=True, slots=True)
class TurnResult:
    """A turn as far as it is known: a running one has no result, cost or usage yet.

    ``questions`` are the open ones. A turn that has ended may still have questions from its
    subagents, which continue.

    ``error`` says why the turn failed, and ``ahead`` how many turns come before it in the queue.
    Pass ``cursor`` to read the events that follow. ``duration_ms`` is what Claude reports, or
    while the turn runs, the time since the prompt was accepted.
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
    model: str | None = None
    """The model that answered, as far as one has."""
    last_step: str | None = None
    prompt: str | None = None
    """The beginning of the prompt, if it was asked for."""
    retry_at: str | None = None
    """When the usage limit that stopped the turn ends, UTC in RFC 3339."""
    needs_new_conversation: bool = False
    """Whether the model's service refuses what the conversation contains."""
    """While the turn runs: a headline of what Claude did last."""
    questions: tuple[Question, ...] = ()
    notes: tuple[str, ...] = ()
    ahead: int = 0
    events: tuple[Event, ...] = ()
    cursor: int = 0


NOTHING: Final = operations.TurnState(turn_id="", status="", cursor=0, events=())
"""What an empty answer is read as."""


def parse_result(session: Session, turn_id: str | None, answer: Mapping[str, Any]) -> TurnResult:
    """A turn from the agent's answer, which may be forged.

    ``turn_id`` is the one that was asked for, if one was.

    Raises:
        AgentError: none was, and the answer names none.
    """
    state = read(operations.TurnState, answer, NOTHING)
    if turn_id is None:
        try:
            turn_id = str(uuid.UUID(state.turn_id))
        except ValueError as error:
            raise AgentError("The session's agent sent an unusable answer.") from error
    try:
        status = TurnStatus(state.status)
    except ValueError:
        status = TurnStatus.FAILED
    if status is TurnStatus.RUNNING and state.ahead:
        status = TurnStatus.QUEUED
    return TurnResult(
        session=session,
        turn_id=turn_id,
        status=status,
        result=_redacted(state.result),
        error=_redacted(state.error),
        conversation_id=_redacted(state.conversation_id),
        num_turns=state.num_turns,
        duration_ms=state.duration_ms,
        cost_usd=state.cost_usd,
        usage={
            line(key, 100): int(count)
            for key, value in [*state.usage.items()][:MAX_USAGE_ENTRIES]
            if (count := amount(value)) is not None
        },
        permission_denials=tuple(
            PermissionDenial(
                line(each.tool_name, 200),
                _bounded(mapping(each.tool_input)),
                redactor.redact(line(each.reason or "", MAX_REASON_CHARS)) or None,
            )
            for each in state.permission_denials[:MAX_DENIALS]
        ),
        model=said(state.model),
        last_step=said(state.last_step),
        prompt=_redacted(state.prompt),
        retry_at=said(state.retry_at),
        needs_new_conversation=state.needs_new_conversation,
        questions=tuple(
            parse_question(each) for each in state.questions[:MAX_QUESTIONS] if each.request_id
        ),
        notes=tuple(redactor.redact(line(note)) for note in state.notes[:MAX_NOTES]),
        ahead=state.ahead,
        events=tuple(parse_event(each, MAX_EVENT_CHARS) for each in state.events[:MAX_EVENTS]),
        cursor=state.cursor,
    )


def _redacted(text: str | None) -> str | None:
    if text is None:
        return None
    cut = len(text) - MAX_RESULT_CHARS
    if cut > 0:
        half = MAX_RESULT_CHARS // 2
        text = f"{text[:half]}\n[{cut} characters left out]\n{text[-half:]}"
    return redactor.redact(text)


def parse_question(sent: operations.Question) -> Question:
    return Question(
        request_id=line(sent.request_id, 100),
        tool_name=line(sent.tool_name, 200),
        tool_input=_bounded(mapping(sent.tool_input)),
        description=redactor.redact(line(sent.description or "", 1_000)) or None,
    )


def _bounded(tool_input: Mapping[str, Any]) -> Mapping[str, Any]:
    """A bound for a forged answer; an honest agent has cut the input already."""
    text = json.dumps(tool_input, ensure_ascii=False)
    return tool_input if len(text) <= MAX_INPUT_CHARS else {"json": text[:MAX_INPUT_CHARS]}


def parse_event(sent: operations.JournalEvent, characters: int | None) -> Event:
    return Event(
        number=sent.number,
        time=sent.time[:40],
        kind=sent.kind[:40],
        text=redactor.redact(sent.text[:characters]),
        left_out=sent.left_out,
    )
