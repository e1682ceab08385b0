"""Prompts to a session's Claude Code: send one, follow it, read its events, interrupt it.

A turn belongs to the session. Whoever waits for it may go away; only ``interrupt`` ends it.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import anyio

from claude_mcp.contract import operations
from claude_mcp.contract.codes import Code
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import (
    AgentError,
    QuestionNotOpen,
    SessionNotReady,
    TurnNotFound,
    UsageError,
)
from claude_mcp.sessions import handover
from claude_mcp.sessions.channel.answers import line, read
from claude_mcp.sessions.channel.channels import ChannelLost
from claude_mcp.sessions.channel.refusals import code_of
from claude_mcp.sessions.registry import Progress, Sessions, no_progress
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns.options import TurnOptions
from claude_mcp.sessions.turns.permissions import Ask, respond
from claude_mcp.sessions.turns.results import (
    Event,
    TurnResult,
    TurnStatus,
    parse_event,
    parse_result,
)

MAX_PROMPT_BYTES: Final = 8 * 1024 * 1024
MAX_PROGRESS_CHARS: Final = 200
"""More than any honest agent gives."""
NO_OPTIONS: Final = TurnOptions()
NO_PROGRESS: Final = operations.Progress("")

AboutTurn = operations.SubmitTurn | operations.FollowTurn | operations.InterruptTurn
OPERATIONS: Final[Mapping[type[AboutTurn], str]] = {
    operations.SubmitTurn: operations.TURN,
    operations.FollowTurn: operations.FOLLOW,
    operations.InterruptTurn: operations.INTERRUPT,
}


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
    args = operations.SubmitTurn(
        turn_id=identifier,
        prompt=text,
        tools=options.tools,
        model=options.model,
        max_turns=options.max_turns,
        max_budget_usd=options.max_budget_usd,
        new_conversation=options.new_conversation,
        wait_seconds=wait_seconds,
        when_busy=operations.WAIT if queue else operations.REFUSE,
    )
    try:
        turn = await _ask(sessions, reference, args, progress)
    except SessionNotReady as error:
        if code_of(error) is not Code.UNCONFIGURED:
            raise
        await handover.restore(sessions, await sessions.find(reference))
        turn = await _ask(sessions, reference, args, progress)
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
    args = operations.FollowTurn(
        turn_id=None if turn_id is None else new_turn_id(turn_id),
        cursor=cursor,
        wait_seconds=wait_seconds,
    )
    turn = await _ask(sessions, reference, args, progress)
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
        wait_seconds = None if left == math.inf else left
        args = operations.FollowTurn(turn.turn_id, cursor, wait_seconds)
        turn = await _ask(sessions, reference, args, progress)
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
    args = operations.InterruptTurn(None if turn_id is None else new_turn_id(turn_id))
    try:
        # Without an id it is not repeated: by then another turn may be running.
        return await _ask(sessions, reference, args, no_progress, start=False, again=bool(turn_id))
    except TurnNotFound as error:
        if code_of(error) is not Code.NOT_RUNNING:
            raise
        return None


async def event(sessions: Sessions, reference: str, number: int) -> tuple[Session, Event]:
    """One event, uncut.

    Raises:
        TurnNotFound: it is gone, or never was.
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    args = to_json(operations.ReadEvent(number))
    session, answer = await sessions.request(reference, operations.EVENT, args)
    try:
        found = read(operations.WholeEvent, answer).event
    except AgentError as error:
        raise TurnNotFound(f"Event {number} is damaged.") from error
    return session, parse_event(found, None)


async def _ask(
    sessions: Sessions,
    reference: str,
    args: AboutTurn,
    progress: Progress,
    *,
    start: bool = True,
    again: bool = True,
) -> TurnResult:
    """Ask about a turn, and once more (``again``) when the channel is lost: nothing is lost with
    it, the turn is found again by its id."""

    async def on_event(event: dict[str, Any]) -> None:
        text = read(operations.Progress, event, NO_PROGRESS).progress
        if text:
            await progress(redactor.redact(line(text, MAX_PROGRESS_CHARS)))

    op = OPERATIONS[type(args)]
    wait = None if isinstance(args, operations.InterruptTurn) else args.wait_seconds
    deadline = _deadline(wait)
    try:
        session, answer = await sessions.request(
            reference, op, to_json(args), on_event, start=start
        )
    except AgentError as error:
        if not again or not isinstance(error.__cause__, ChannelLost):
            raise
        if wait is not None and not isinstance(args, operations.InterruptTurn):
            args = args._replace(wait_seconds=max(0.0, deadline - anyio.current_time()))
        # If the container was stopped meanwhile, that was intended: do not start it.
        session, answer = await sessions.request(
            reference, op, to_json(args), on_event, start=False
        )
    turn = parse_result(session, args.turn_id, answer)
    if turn.status is TurnStatus.RUNNING:
        return turn
    return replace(turn, notes=(*await sessions.git.differences(session), *turn.notes))


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
