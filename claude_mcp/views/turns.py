"""Results about turns: prompts, events, cancellations and answered permission requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from claude_mcp.contract.messages import key
from claude_mcp.contract.numbers import counted
from claude_mcp.sessions.turns.questions import kind_of
from claude_mcp.views.results import PART_CHARS, USD_DIGITS, Result

if TYPE_CHECKING:
    from claude_mcp.sessions.turns.listing import ListedTurn, Listing
    from claude_mcp.sessions.turns.permissions import Decided
    from claude_mcp.sessions.turns.results import Event, Question, TurnResult


@dataclass(frozen=True, slots=True)
class PermissionDenial(Result):
    tool_name: str
    tool_input: dict[str, Any]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class QuestionEntry(Result):
    request_id: str
    kind: str
    """``permission``, ``question`` or ``plan``."""
    tool_name: str
    tool_input: dict[str, Any]
    """Of a question: ``questions``, each with its ``options``. Of a plan: ``plan``."""
    description: str | None

    @classmethod
    def of(cls, question: Question) -> QuestionEntry:
        return cls(
            request_id=question.request_id,
            kind=kind_of(question.tool_name),
            tool_name=question.tool_name,
            tool_input=dict(question.tool_input),
            description=question.description,
        )


@dataclass(frozen=True, slots=True)
class EventEntry(Result):
    number: int
    time: str
    kind: str
    text: str
    left_out: int
    """Characters that were cut from ``text``."""

    @classmethod
    def of(cls, event: Event) -> EventEntry:
        return cls(event.number, event.time, event.kind, event.text, event.left_out)


@dataclass(frozen=True, slots=True)
class PromptResult(Result):
    session_id: str
    turn_id: str
    status: Literal["completed", "running", "queued", "failed", "cancelled", "needs_permission"]
    result: str | None
    error: str | None
    conversation_id: str | None
    num_turns: int
    duration_ms: int
    cost_usd: float
    usage: dict[str, int]
    permission_denials: list[PermissionDenial]
    questions: list[QuestionEntry]
    notes: list[str]
    cursor: int
    model: str | None
    """The model that answered, as far as one has."""
    last_step: str | None
    """While the turn runs: a headline of what Claude did last."""
    retry_at: str | None
    """When the usage limit that stopped the turn ends."""
    needs_new_conversation: bool
    """Whether the model's service refuses what the conversation contains."""
    next_offset: int | None
    """Where the rest of ``result`` begins, if it is longer than one part."""

    @classmethod
    def of(cls, turn: TurnResult) -> PromptResult:
        return cls(**_turn_fields(turn))


@dataclass(frozen=True, slots=True)
class TurnView(PromptResult):
    events: list[EventEntry]

    @classmethod
    def of(cls, turn: TurnResult, offset: int = 0) -> TurnView:
        """With a part of the result that begins at ``offset``, in characters."""
        events = [EventEntry.of(each) for each in turn.events]
        return cls(**_turn_fields(turn, offset), events=events)

    @classmethod
    def of_event(cls, turn: TurnResult, event: Event, offset: int = 0) -> TurnView:
        """With a part of one event's text, and without the result."""
        text, following = _part(event.text, offset)
        entry = replace(
            EventEntry.of(event),
            text=text or "",
            left_out=len(event.text) - following if following else 0,
        )
        view = replace(cls.of(replace(turn, result=None)), events=[entry], next_offset=following)
        return replace(view, notes=list(turn.notes))


def _part(text: str | None, offset: int) -> tuple[str | None, int | None]:
    """What begins at ``offset``, and where the next part does."""
    if text is None:
        return None, None
    end = offset + PART_CHARS
    return text[offset:end], end if end < len(text) else None


def _turn_fields(turn: TurnResult, offset: int = 0) -> dict[str, Any]:
    result, following = _part(turn.result, offset)
    silent = turn.status == "completed" and not turn.result
    ahead = counted(turn.ahead, "prompt is", "prompts are")
    return dict(
        session_id=turn.session.id,
        turn_id=turn.turn_id,
        status=turn.status.value,
        result=result,
        error=turn.error or ("Claude Code gave no reason." if turn.status == "failed" else None),
        conversation_id=turn.conversation_id,
        num_turns=turn.num_turns,
        duration_ms=turn.duration_ms,
        cost_usd=round(turn.cost_usd, USD_DIGITS),
        usage={key(name): count for name, count in turn.usage.items()},
        permission_denials=[
            PermissionDenial(each.tool_name, dict(each.tool_input), each.reason)
            for each in turn.permission_denials
        ],
        questions=[QuestionEntry.of(each) for each in turn.questions],
        notes=[
            *turn.notes,
            *([f"{ahead} ahead of this one."] if turn.ahead else []),
            *(["Claude finished without a final message."] if silent else []),
        ],
        cursor=turn.cursor,
        model=turn.model,
        last_step=turn.last_step,
        retry_at=turn.retry_at,
        needs_new_conversation=turn.needs_new_conversation,
        next_offset=following,
    )


@dataclass(frozen=True, slots=True)
class TurnEntry(Result):
    turn_id: str
    status: str
    at: str | None
    """When the prompt was accepted."""
    prompt: str | None
    """Its first line; None if Claude Code began the turn by itself."""
    cost_usd: float
    duration_ms: int
    error: str | None

    @classmethod
    def of(cls, turn: ListedTurn) -> TurnEntry:
        return cls(
            turn_id=turn.turn_id,
            status=turn.status,
            at=turn.at,
            prompt=turn.prompt,
            cost_usd=round(turn.cost_usd, USD_DIGITS),
            duration_ms=turn.duration_ms,
            error=turn.error,
        )


@dataclass(frozen=True, slots=True)
class TurnsResult(Result):
    session_id: str
    turns: list[TurnEntry]
    cursor: str | None
    """For the older ones; None if there are none."""

    @classmethod
    def of(cls, listing: Listing) -> TurnsResult:
        return cls(
            session_id=listing.session.id,
            turns=[TurnEntry.of(each) for each in listing.turns],
            cursor=listing.cursor,
        )


@dataclass(frozen=True, slots=True)
class CancelResult(Result):
    session_id: str
    turn_id: str | None
    status: str | None

    @classmethod
    def of(cls, session_id: str, turn: TurnResult | None) -> CancelResult:
        if turn is None:
            return cls(session_id, turn_id=None, status=None)
        return cls(session_id, turn.turn_id, turn.status.value)


@dataclass(frozen=True, slots=True)
class PermissionResult(Result):
    session_id: str
    turn_id: str | None

    @classmethod
    def of(cls, decided: Decided) -> PermissionResult:
        return cls(decided.session.id, decided.turn_id)
