"""Send a prompt to a session's Claude Code and wait for its result."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from claude_mcp.credentials import redactor
from claude_mcp.errors import SessionNotReady, UsageError
from claude_mcp.sessions.answers import amount
from claude_mcp.sessions.channel import AgentRefused
from claude_mcp.sessions.labels import Session
from claude_mcp.sessions.lifecycle import Progress, Sessions, no_progress

MAX_PROMPT_BYTES: Final = 8 * 1024 * 1024


class TurnStatus(StrEnum):
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
class TurnResult:
    """A finished turn. ``error`` says why it failed; ``duration_ms`` is Claude's own figure."""

    session: Session
    turn_id: str
    status: TurnStatus
    result: str | None
    error: str | None
    conversation_id: str | None
    num_turns: int
    duration_ms: int
    cost_usd: float
    usage: Mapping[str, int]
    permission_denials: tuple[PermissionDenial, ...] = field(default=())


NO_OPTIONS: Final = TurnOptions()


async def prompt(
    sessions: Sessions,
    reference: str,
    text: str,
    *,
    options: TurnOptions = NO_OPTIONS,
    turn_id: str | None = None,
    progress: Progress = no_progress,
) -> TurnResult:
    """Send one prompt and wait for the turn's end; ``progress`` is told what Claude does.

    When cancelled, the turn is interrupted and its processes are killed.

    Raises:
        UsageError: the prompt, the id or an option cannot be used.
        SessionNotFound, SessionAmbiguous, SessionNotReady (also when another turn runs),
        AgentError, EngineError
    """
    _check(text, options)
    identifier = _turn_id(turn_id)
    args = {
        "turnId": identifier,
        "prompt": text,
        "tools": None if options.tools is None else list(options.tools),
        "model": options.model,
        "maxTurns": options.max_turns,
        "maxBudgetUsd": options.max_budget_usd,
        "newConversation": options.new_conversation,
    }

    async def on_event(event: dict[str, Any]) -> None:
        line = event.get("progress")
        if isinstance(line, str):
            await progress(redactor.redact(line))

    try:
        try:
            session, answer = await sessions.request(reference, "turn", args, on_event)
        except AgentRefused as error:
            if error.code != "unconfigured":
                raise
            await sessions.hand_in_credentials(await sessions.find(reference))
            session, answer = await sessions.request(reference, "turn", args, on_event)
    except AgentRefused as error:
        if error.code == "busy":
            raise SessionNotReady(
                f"The session is busy with turn {error.message}.",
                hint="One prompt at a time: wait for it to end, or use another session.",
            ) from error
        raise
    return parse_result(session, identifier, answer)


def _turn_id(given: str | None) -> str:
    if given is None:
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(given))
    except ValueError:
        raise UsageError(f"turnId must be a UUID, and {given[:60]!r} is not.") from None


def _check(text: str, options: TurnOptions) -> None:
    if not text.strip():
        raise UsageError("The prompt is empty.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise UsageError("The prompt must be valid Unicode.") from error
    if size > MAX_PROMPT_BYTES:
        raise UsageError(f"The prompt has {size} bytes; at most {MAX_PROMPT_BYTES} are taken.")
    if options.max_turns is not None and options.max_turns < 1:
        raise UsageError("maxTurns must be at least 1.")
    if options.max_budget_usd is not None and not 0 < options.max_budget_usd < math.inf:
        raise UsageError("maxBudgetUsd must be more than 0.")


def parse_result(session: Session, turn_id: str, answer: Mapping[str, Any]) -> TurnResult:
    """Read the agent's answer as what it is: input that the session may have forged."""

    def text(key: str) -> str | None:
        value = answer.get(key)
        return redactor.redact(value) if isinstance(value, str) else None

    def number(key: str) -> float:
        return amount(answer.get(key)) or 0

    usage = answer.get("usage")
    denials = answer.get("permissionDenials")
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
            PermissionDenial(str(each.get("toolName", "")), dict(each.get("toolInput") or {}))
            for each in (denials if isinstance(denials, list) else ())
            if isinstance(each, dict) and isinstance(each.get("toolInput") or {}, dict)
        ),
    )
