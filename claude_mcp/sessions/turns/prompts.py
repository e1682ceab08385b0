"""Prompts to a session's Claude Code: send one, follow its turn, read events, interrupt.

A turn belongs to the session. A caller that stops waiting does not end it; only ``interrupt`` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio

from claude_mcp.contract import operations
from claude_mcp.contract.codes import Code
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.wording import named
from claude_mcp.errors import (
    AgentError,
    NextStep,
    QuestionNotOpen,
    SessionNotReady,
    TurnNotFound,
    UsageError,
)
from claude_mcp.sessions import handover
from claude_mcp.sessions.channel.answers import read
from claude_mcp.sessions.channel.refusals import code_of
from claude_mcp.sessions.channel.silence import LinkLost, StoppedMeanwhile
from claude_mcp.sessions.handle import SessionHandle, SessionStopped
from claude_mcp.sessions.progress import Progress, no_progress
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import reconnecting
from claude_mcp.sessions.turns.identifiers import canonical
from claude_mcp.sessions.turns.listening import Listener, hear
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

NO_OPTIONS: Final = TurnOptions()

AboutTurn = operations.SubmitTurn | operations.FollowTurn | operations.InterruptTurn
OPERATIONS: Final[Mapping[type[AboutTurn], str]] = {
    operations.SubmitTurn: operations.TURN,
    operations.FollowTurn: operations.FOLLOW,
    operations.InterruptTurn: operations.INTERRUPT,
}


@dataclass(frozen=True, slots=True)
class _Waiting:
    """How a caller waits for a turn."""

    deadline: float
    """On the event loop's clock."""
    progress: Progress
    ask: Ask | None
    listener: Listener | None = None
    cursor: int | None = None


def new_turn_id(given: str | None = None) -> str:
    """The caller's own UUID in its canonical form, or a new one.

    Raises:
        UsageError: the caller's is not a UUID.
    """
    return canonical(given, "turn")


async def prompt(
    handle: SessionHandle,
    text: str,
    *,
    options: TurnOptions = NO_OPTIONS,
    turn_id: str | None = None,
    wait_seconds: float | None = None,
    queue: bool = False,
    answerable: bool = False,
    output_schema: str | None = None,
    progress: Progress = no_progress,
    listener: Listener | None = None,
    ask: Ask | None = None,
) -> TurnResult:
    """Send one prompt and wait until the turn ends, or for ``wait_seconds``; it then continues.

    Questions are put to ``ask``, and the waiting continues. Without ``ask``, or if it has no answer
    in time, the waiting ends and the question stays open. Questions of Claude's own are put only
    if somebody can answer them, now or by ``respond``, as ``answerable`` says; otherwise Claude is
    told at once that nobody is there.

    Repeating a ``turn_id`` means the same turn and never sends the prompt twice. With ``queue``,
    a prompt to a busy session waits in the queue instead of being refused. With ``output_schema``,
    a JSON Schema as text, the result is JSON that follows it, or the turn fails. ``progress`` hears
    what Claude does; a ``listener`` does so instead, and hears what Claude says. Cancelling this
    only ends the waiting.

    Raises:
        UsageError: the prompt, the id or an option cannot be used.
        SessionNotFound, SessionAmbiguous, SessionNotReady (also if another turn is running),
        AgentError, EngineError
    """
    _check(text, options)
    _check_wait(wait_seconds)
    args = operations.SubmitTurn(
        turn_id=new_turn_id(turn_id),
        prompt=text,
        tools=options.tools,
        model=options.model,
        max_turns=options.max_turns,
        max_budget_usd=options.max_budget_usd,
        new_conversation=options.new_conversation,
        wait_seconds=wait_seconds,
        when_busy=operations.WAIT if queue else operations.REFUSE,
        answerable=answerable,
        output_schema=output_schema,
        live=listener is not None,
    )
    waiting = _Waiting(_deadline(wait_seconds), progress, ask, listener)
    try:
        turn = await _request(handle, args, progress, listener)
    except SessionNotReady as error:
        if code_of(error) is not Code.UNCONFIGURED:
            raise
        await handover.restore(handle)
        turn = await _request(handle, args, progress, listener)
    return await _settle_questions(handle, turn, waiting)


async def follow(
    handle: SessionHandle,
    turn_id: str | None = None,
    *,
    cursor: int | None = None,
    wait_seconds: float | None = None,
    progress: Progress = no_progress,
    listener: Listener | None = None,
    ask: Ask | None = None,
) -> TurnResult:
    """Wait until a turn (default: the latest) ends, or for ``wait_seconds``.

    With a ``cursor``, wait only until there are events with higher numbers, and return as many of
    them as fit. Without one, a running turn has its last events. ``listener`` and ``ask`` are as
    in ``prompt``.

    Raises:
        UsageError, TurnNotFound, SessionNotFound, SessionAmbiguous, SessionNotReady,
        AgentError, EngineError
    """
    _check_wait(wait_seconds)
    if cursor is not None and cursor < 0:
        raise UsageError("cursor must be at least 0.")
    args = operations.FollowTurn(
        turn_id=None if turn_id is None else new_turn_id(turn_id),
        cursor=cursor,
        wait_seconds=wait_seconds,
        live=listener is not None,
    )
    waiting = _Waiting(_deadline(wait_seconds), progress, ask, listener, cursor)
    turn = await _request(handle, args, progress, listener)
    return await _settle_questions(handle, turn, waiting)


async def _settle_questions(
    handle: SessionHandle, turn: TurnResult, waiting: _Waiting
) -> TurnResult:
    """Put the turn's questions to the caller, one at a time, and follow the turn further."""
    answered: set[str] = set()
    all_answered = True
    while waiting.ask is not None and turn.questions and all_answered:
        for question in turn.questions:
            answer = None
            if question.request_id not in answered:  # otherwise the session repeats itself
                with anyio.CancelScope(deadline=waiting.deadline):
                    answer = await waiting.ask(question)
            if answer is None:
                all_answered = False
                continue
            answered.add(question.request_id)
            try:
                await respond(handle, question.request_id, answer)
            except QuestionNotOpen as error:  # answered elsewhere, or denied by the session
                await waiting.progress(error.message)
            except UsageError:  # too large to be shown with its parts, or forged
                all_answered = False
        left = max(0.0, waiting.deadline - anyio.current_time()) if all_answered else 0.0
        wait_seconds = None if left == math.inf else left
        live = waiting.listener is not None
        args = operations.FollowTurn(turn.turn_id, waiting.cursor, wait_seconds, live=live)
        turn = await _request(handle, args, waiting.progress, waiting.listener)
    return turn


def _deadline(wait_seconds: float | None) -> float:
    return math.inf if wait_seconds is None else anyio.current_time() + wait_seconds


async def interrupt(handle: SessionHandle, turn_id: str | None = None) -> TurnResult | None:
    """End a turn (default: the running one) and what it started, and wait until that is done.

    Returns the turn, unchanged if it had already ended; None if no id was given and no turn is
    running.

    Raises:
        UsageError, TurnNotFound, SessionNotFound, SessionAmbiguous, SessionNotReady,
        AgentError, EngineError
    """
    args = operations.InterruptTurn(None if turn_id is None else new_turn_id(turn_id))
    try:
        # Without an id it is not repeated: by then another turn may be running.
        return await _request(handle, args, no_progress, start=False, again=bool(turn_id))
    except TurnNotFound as error:
        if code_of(error) is not Code.NOT_RUNNING:
            raise
        return None


async def event(handle: SessionHandle, number: int) -> tuple[Session, Event]:
    """One event with its whole text.

    Raises:
        TurnNotFound: there is no such event, or it was deleted.
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    answer = await handle.request(operations.EVENT, to_json(operations.ReadEvent(number)))
    try:
        found = read(operations.WholeEvent, answer).event
    except AgentError as error:
        raise TurnNotFound(f"Event {number} is damaged.") from error
    return handle.session, parse_event(found, None)


async def _request(
    handle: SessionHandle,
    args: AboutTurn,
    progress: Progress,
    listener: Listener | None = None,
    *,
    start: bool = True,
    again: bool = True,
) -> TurnResult:
    """Ask about a turn; with ``again``, ask once more if the channel was lost.

    Asking again is safe: the turn goes on without the channel and is found by its id.
    """

    async def on_event(event: dict[str, Any]) -> None:
        await hear(event, progress, listener)

    op = OPERATIONS[type(args)]
    wait = None if isinstance(args, operations.InterruptTurn) else args.wait_seconds
    deadline = _deadline(wait)
    try:
        answer = await handle.request(op, to_json(args), on_event, start=start)
    except StoppedMeanwhile:
        if args.turn_id is None:
            raise
        return _failed(handle, args.turn_id)
    except (AgentError, LinkLost) as error:
        if not again or not reconnecting.is_lost(error):
            raise

        async def ask() -> dict[str, Any]:
            left = args
            if wait is not None and not isinstance(left, operations.InterruptTurn):
                left = left._replace(wait_seconds=max(0.0, deadline - anyio.current_time()))
            # A container that was stopped in the meantime was stopped on purpose.
            return await handle.request(op, to_json(left), on_event, start=False)

        try:
            answer = await reconnecting.again(
                handle, ask, deadline, progress, steps=(NextStep.READ_TURN,)
            )
        except (StoppedMeanwhile, SessionStopped):
            if args.turn_id is None:
                raise
            return _failed(handle, args.turn_id)
    turn = parse_result(handle.session, args.turn_id, answer)
    turn = replace(turn, notes=(*handle.notes, *turn.notes))
    if turn.status in (TurnStatus.RUNNING, TurnStatus.QUEUED):
        return turn
    return replace(turn, notes=(*await handle.git_warnings(), *turn.notes))


def _failed(handle: SessionHandle, turn_id: str) -> TurnResult:
    """A turn whose session stopped while it was asked about."""
    return TurnResult(
        session=handle.session,
        turn_id=turn_id,
        status=TurnStatus.FAILED,
        error="The session stopped before it answered. The model may have seen the prompt, and it "
        "is not sent again. If the turn had ended by then, its result is kept: ask for the turn "
        "again, which starts the session.",
    )


def _check_wait(seconds: float | None) -> None:
    if seconds is not None and not 0 <= seconds < math.inf:
        raise UsageError(f"{named('waitSeconds')} must be at least 0.")


def _check(text: str, options: TurnOptions) -> None:
    if not text.strip():
        raise UsageError("The prompt is empty.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise UsageError("The prompt is not valid Unicode: write it in UTF-8.") from error
    if size > MAX_PROMPT_BYTES:
        raise UsageError(f"The prompt has {size} bytes; the maximum is {MAX_PROMPT_BYTES}.")
    if options.max_turns is not None and options.max_turns < 1:
        raise UsageError(f"{named('maxTurns')} must be at least 1.")
    if options.max_budget_usd is not None and not 0 < options.max_budget_usd < math.inf:
        raise UsageError(f"{named('maxBudgetUsd')} must be more than 0.")
