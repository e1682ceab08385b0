"""Prompts to a session's Claude Code: send one, follow it, read its events, interrupt it.

A turn belongs to the session. Whoever waits for it may go away; only ``interrupt`` ends it.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import replace
from typing import Any, Final

import anyio

from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    QuestionNotOpen,
    SessionNotReady,
    TurnNotFound,
    UsageError,
)
from claude_mcp.sessions import handover
from claude_mcp.sessions.channel.answers import line
from claude_mcp.sessions.channel.channels import AgentRefused, ChannelLost
from claude_mcp.sessions.registry import Progress, Sessions, no_progress
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns.permissions import Ask, respond
from claude_mcp.sessions.turns.results import (
    Event,
    TurnOptions,
    TurnResult,
    TurnStatus,
    parse_events,
    parse_result,
)

MAX_PROMPT_BYTES: Final = 8 * 1024 * 1024
MAX_PROGRESS_CHARS: Final = 200
"""More than any honest agent gives."""


NO_OPTIONS: Final = TurnOptions()


def new_turn_id(given: str | None = None) -> str:
    """The caller's own UUID in its usual form, or a new one.

    Raises:
        UsageError: it is no UUID.
    """
    if given is None:
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(given))
    except ValueError:
        raise UsageError(f"turnId must be a UUID, and {given[:60]!r} is not.") from None


async def prompt(
    sessions: Sessions,
    reference: str,
    text: str,
    *,
    options: TurnOptions = NO_OPTIONS,
    turn_id: str | None = None,
    wait_seconds: float | None = None,
    queue: bool = False,
    progress: Progress = no_progress,
    ask: Ask | None = None,
) -> TurnResult:
    """Send one prompt and wait for the turn's end, or ``wait_seconds``; the turn then goes on.

    What Claude asks permission for is put to ``ask``, and the waiting goes on; without it, or when
    it has no answer in time, the waiting ends there and the question stays open.

    The same ``turn_id`` again is the same turn, and never sends the prompt twice. With ``queue``,
    a prompt to a busy session waits in line instead of being refused. ``progress`` is told what
    Claude does. When cancelled, only the waiting ends.

    Raises:
        UsageError: the prompt, the id or an option cannot be used.
        SessionNotFound, SessionAmbiguous, SessionNotReady (also when another turn runs),
        AgentError, EngineError
    """
    _check(text, options)
    _check_wait(wait_seconds)
    identifier = new_turn_id(turn_id)
    deadline = _deadline(wait_seconds)
    args = {
        "turnId": identifier,
        "prompt": text,
        "tools": None if options.tools is None else list(options.tools),
        "model": options.model,
        "maxTurns": options.max_turns,
        "maxBudgetUsd": options.max_budget_usd,
        "newConversation": options.new_conversation,
        "waitSeconds": wait_seconds,
        "whenBusy": "wait" if queue else "refuse",
    }
    try:
        turn = await _ask(sessions, reference, "turn", args, progress)
    except AgentRefused as error:
        if error.code != "unconfigured":
            raise
        await handover.restore(sessions, await sessions.find(reference))
        turn = await _ask(sessions, reference, "turn", args, progress)
    return await _put(sessions, reference, turn, ask, deadline, None, progress)


async def follow(
    sessions: Sessions,
    reference: str,
    turn_id: str | None = None,
    *,
    cursor: int | None = None,
    wait_seconds: float | None = None,
    progress: Progress = no_progress,
    ask: Ask | None = None,
) -> TurnResult:
    """Wait for a turn's end (default: the latest turn), or ``wait_seconds``; ``ask`` as in
    ``prompt``.

    With a ``cursor``, wait only until there are events with higher numbers, and return those, as
    many as fit; without one, the last ones of a turn that still runs.

    Raises:
        UsageError, TurnNotFound, SessionNotFound, SessionAmbiguous, SessionNotReady,
        AgentError, EngineError
    """
    _check_wait(wait_seconds)
    if cursor is not None and cursor < 0:
        raise UsageError("cursor must be at least 0.")
    deadline = _deadline(wait_seconds)
    args = {
        "turnId": None if turn_id is None else new_turn_id(turn_id),
        "cursor": cursor,
        "waitSeconds": wait_seconds,
    }
    turn = await _ask(sessions, reference, "follow", args, progress)
    return await _put(sessions, reference, turn, ask, deadline, cursor, progress)


async def _put(
    sessions: Sessions,
    reference: str,
    turn: TurnResult,
    ask: Ask | None,
    deadline: float,
    cursor: int | None,
    progress: Progress,
) -> TurnResult:
    """Put what the turn asks to ``ask``, one after the other, and follow it on; the prompt is not
    sent again for that."""
    answered: set[str] = set()
    all_answered = True
    while ask is not None and turn.questions and all_answered:
        for question in turn.questions:
            answer = None
            if question.request_id not in answered:  # else the session repeats itself
                with anyio.CancelScope(deadline=deadline):
                    answer = await ask(question)
            if answer is None:
                all_answered = False
                continue
            answered.add(question.request_id)
            try:
                await respond(sessions, reference, question.request_id, answer)
            except QuestionNotOpen as error:  # somebody else was faster, or its time was up
                await progress(error.message)
        left = max(0.0, deadline - anyio.current_time()) if all_answered else 0.0
        args = {
            "turnId": turn.turn_id,
            "cursor": cursor,
            "waitSeconds": None if left == math.inf else left,
        }
        turn = await _ask(sessions, reference, "follow", args, progress)
    return turn


def _deadline(wait_seconds: float | None) -> float:
    return math.inf if wait_seconds is None else anyio.current_time() + wait_seconds


async def interrupt(
    sessions: Sessions, reference: str, turn_id: str | None = None
) -> TurnResult | None:
    """End a turn (default: the one that runs) and what it started, and wait until that is done.

    Returns the turn, unchanged if it was over already; None if no id was given and nothing runs.

    Raises:
        UsageError, TurnNotFound, SessionNotFound, SessionAmbiguous, SessionNotReady,
        AgentError, EngineError
    """
    args = {"turnId": None if turn_id is None else new_turn_id(turn_id)}
    try:
        # Without an id it is not repeated: by then another turn may be running.
        return await _ask(
            sessions, reference, "interrupt", args, no_progress, start=False, again=bool(turn_id)
        )
    except AgentRefused as error:
        if error.code != "not-running":
            raise
        return None


async def event(sessions: Sessions, reference: str, number: int) -> tuple[Session, Event]:
    """One event, uncut.

    Raises:
        TurnNotFound: it is gone, or never was.
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    try:
        session, answer = await sessions.request(reference, "event", {"number": number})
    except AgentRefused as error:
        if error.code != "no-event":
            raise
        raise TurnNotFound(
            f"There is no event {number} in this session (any more).",
            hint="Events are kept until newer ones need the room; results are kept.",
        ) from error
    found = parse_events([answer.get("event")], None)
    if not found:
        raise TurnNotFound(f"Event {number} is damaged.")
    return session, found[0]


async def _ask(
    sessions: Sessions,
    reference: str,
    op: str,
    args: dict[str, Any],
    progress: Progress,
    *,
    start: bool = True,
    again: bool = True,
) -> TurnResult:
    """Ask about a turn, and once more (``again``) when the channel is lost: nothing is lost with
    it, the turn is found again by its id."""

    async def on_event(event: dict[str, Any]) -> None:
        text = event.get("progress")
        if isinstance(text, str):
            await progress(redactor.redact(line(text, MAX_PROGRESS_CHARS)))

    wait = args.get("waitSeconds")
    deadline = _deadline(wait)
    try:
        try:
            session, answer = await sessions.request(reference, op, args, on_event, start=start)
        except AgentError as error:
            if not again or not isinstance(error.__cause__, ChannelLost):
                raise
            if wait is not None:
                args = {**args, "waitSeconds": max(0.0, deadline - anyio.current_time())}
            # Whoever stopped the container meanwhile wanted it to be stopped.
            session, answer = await sessions.request(reference, op, args, on_event, start=False)
    except AgentRefused as error:
        refusal = _refusal(error, reference)
        if refusal is None:
            raise
        raise refusal from error
    turn = parse_result(session, args.get("turnId"), answer)
    if turn.status is TurnStatus.RUNNING:
        return turn
    return replace(turn, notes=(*await sessions.git.differences(session), *turn.notes))


def _refusal(error: AgentRefused, reference: str) -> ClaudeMcpError | None:
    """What an agent's no means for the caller; None: just what it says."""
    said = line(error.message, 100)
    match error.code:
        case "busy":
            return SessionNotReady(
                f"The session is busy with turn {said}.",
                hint="Wait for it (get_turn, or 'claude-mcp turn'), end it (cancel_turn, or "
                "'claude-mcp cancel'), or stand in line (whenBusy 'wait', or --queue).",
            )
        case "full":
            return SessionNotReady(
                f"{said} prompts are waiting for this session already.",
                hint="Wait until some are done, or use another session.",
            )
        case "other-prompt":
            return UsageError(
                f"turnId {said} was used for another prompt.",
                hint="Repeat a turn with the prompt it had, or leave turnId out.",
            )
        case "no-network":
            return SessionNotReady(
                f"Session {reference!r} has no network, so its provider cannot be reached.",
                hint="Commands and transfers work. For prompts, create a session with network "
                "'restricted' or 'open'.",
            )
        case "no-turn":
            which = f"turn {said}" if said else "turn yet"
            return TurnNotFound(f"Session {reference!r} has no {which}.")
        case _:
            return None


def _check_wait(seconds: float | None) -> None:
    if seconds is not None and not 0 <= seconds < math.inf:
        raise UsageError("waitSeconds must be at least 0.")


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
