"""The tools for turns: prompt, follow, cancel, and answers to permission requests."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import anyio
from mcp.types import InputRequiredResult
from pydantic import Field, create_model

from claude_mcp.errors import ClaudeMcpError
from claude_mcp.server.arguments import (
    FROM_TEXT,
    WAIT_SECONDS,
    Arguments,
    SessionId,
    WaitSeconds,
    declared,
    given,
)
from claude_mcp.server.tool import READS, Call, Declaration, changes
from claude_mcp.sessions.turns.options import TurnOptions
from claude_mcp.views import text
from claude_mcp.views.turns import CancelResult, PermissionResult, PromptResult, TurnView

if TYPE_CHECKING:
    from claude_mcp.sessions.handle import SessionHandle
    from claude_mcp.sessions.registry import Sessions
    from claude_mcp.sessions.turns.results import TurnResult

logger = logging.getLogger(__name__)

CANCEL_SECONDS: Final = 15.0
"""How long a cancelled call may take to interrupt its turn."""


class PromptFields(Arguments):
    session_id: SessionId
    prompt: Annotated[str, Field(description="Sent literally; a leading / is text.")]
    wait_seconds: WaitSeconds = WAIT_SECONDS
    turn_id: Annotated[
        str | None,
        Field(description="A UUID of yours; a repeated call with it never runs the prompt twice."),
    ] = None
    when_busy: Annotated[
        Literal["refuse", "wait"],
        Field(description="If another turn runs: refuse this prompt, or queue it."),
    ] = "refuse"


PromptArguments: type[PromptFields] = create_model(
    "PromptArguments", __base__=PromptFields, **declared(TurnOptions)
)


async def _prompt(
    sessions: Sessions, arguments: PromptFields, call: Call
) -> PromptResult | InputRequiredResult:
    from claude_mcp.sessions.turns import prompts

    resumed = call.elicitation.turn_id
    turn_id = resumed or prompts.new_turn_id(arguments.turn_id)
    handle = await sessions.open(arguments.session_id)
    try:
        if resumed:
            turn = await _follow(handle, arguments, resumed, None, call)
        else:
            turn = await prompts.prompt(
                handle,
                arguments.prompt,
                options=TurnOptions(**given(arguments, TurnOptions)),
                turn_id=turn_id,
                wait_seconds=arguments.wait_seconds,
                queue=arguments.when_busy == "wait",
                answerable=True,  # by respond_permission, if not by the client's user
                progress=call.progress,
                ask=call.elicitation.ask if arguments.wait_seconds else None,
            )
    except anyio.get_cancelled_exc_class():
        # A client that only disconnected gets its result when it asks again.
        if await call.cancelled_by_client():
            with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                await _interrupt(handle, turn_id)
        raise
    required = call.elicitation.required(turn) if arguments.wait_seconds else None
    return required or PromptResult.of(turn)


async def _follow(
    handle: SessionHandle, arguments: Any, turn_id: str | None, cursor: int | None, call: Call
) -> TurnResult:
    from claude_mcp.sessions.turns import prompts

    return await prompts.follow(
        handle,
        turn_id,
        cursor=cursor,
        wait_seconds=arguments.wait_seconds,
        progress=call.progress,
        ask=call.elicitation.ask if arguments.wait_seconds else None,
    )


async def _interrupt(handle: SessionHandle, turn_id: str) -> None:
    from claude_mcp.sessions.turns import prompts

    try:
        await prompts.interrupt(handle, turn_id)
    except ClaudeMcpError as error:  # the turn may never have begun, and the caller has gone
        logger.info("a cancelled turn was not interrupted: %s", error)


EXECUTE_IN_SESSION: Final = Declaration(
    name="execute_in_session",
    title="Prompt Claude Code in a session",
    description=(
        "Sends a prompt to the Claude Code in a session and waits for its answer. Claude "
        "remembers earlier prompts: state the goal, then follow up with corrections. After "
        "waitSeconds the answer is status 'running': continue with get_turn. For a plain shell "
        "command, execute_command is faster and free."
    ),
    arguments=PromptArguments,
    result=PromptResult,
    text=text.prompt,
    call=_prompt,
    hints=changes(destructive=True, idempotent=False, open_world=True),
)


class TurnArguments(Arguments):
    session_id: SessionId
    turn_id: Annotated[str | None, Field(description="Default: the latest.")] = None
    cursor: Annotated[
        int | None,
        Field(ge=0, description="Return as soon as there are events after this number (0: all)."),
    ] = None
    wait_seconds: WaitSeconds = WAIT_SECONDS
    event: Annotated[
        int | None,
        Field(ge=1, description="Return only this event, in full, without waiting."),
    ] = None
    offset: Annotated[int, Field(ge=0, description="nextOffset of the part before.")] = 0


async def _turn(
    sessions: Sessions, arguments: TurnArguments, call: Call
) -> TurnView | InputRequiredResult:
    from claude_mcp.sessions.turns import prompts

    number = arguments.event
    if number:
        arguments = arguments.model_copy(update={"wait_seconds": 0})
    turn_id = call.elicitation.turn_id or arguments.turn_id
    handle = await sessions.open(arguments.session_id)
    turn = await _follow(handle, arguments, turn_id, arguments.cursor, call)
    if number:
        _, event = await prompts.event(handle, number)
        return TurnView.of_event(turn, event, arguments.offset)
    required = call.elicitation.required(turn) if arguments.wait_seconds else None
    return required or TurnView.of(turn, arguments.offset)


GET_TURN: Final = Declaration(
    name="get_turn",
    title="Follow a prompt",
    description=(
        "Waits for a turn that execute_in_session left running and returns its result, as often "
        "as you ask. With cursor, returns what Claude has done since."
    ),
    arguments=TurnArguments,
    result=TurnView,
    text=text.turn,
    call=_turn,
    hints=READS,
)


class CancelArguments(Arguments):
    session_id: SessionId
    turn_id: Annotated[str | None, Field(description="Default: the running turn.")] = None


async def _cancel(sessions: Sessions, arguments: CancelArguments, call: Call) -> CancelResult:
    from claude_mcp.sessions.turns import prompts

    handle = await sessions.open(arguments.session_id)
    turn = await prompts.interrupt(handle, arguments.turn_id)
    return CancelResult.of(handle.session.id, turn)


CANCEL_TURN: Final = Declaration(
    name="cancel_turn",
    title="Interrupt a prompt",
    description=(
        "Interrupts Claude and kills the turn's commands. The conversation is kept; the next "
        "prompt continues it."
    ),
    arguments=CancelArguments,
    result=CancelResult,
    text=text.cancelled,
    call=_cancel,
    hints=changes(destructive=True, idempotent=True, open_world=False),
)


class PermissionArguments(Arguments):
    session_id: SessionId
    request_id: str
    decision: Annotated[Literal["allow", "deny"], Field(description="allow, with answers.")]
    message: Annotated[str | None, Field(description="The reason, for Claude.")] = None
    answers: Annotated[
        list[str] | None,
        FROM_TEXT,
        Field(
            description="One per question of Claude: an option's label, several with commas, or "
            "your own text."
        ),
    ] = None


async def _respond(
    sessions: Sessions, arguments: PermissionArguments, call: Call
) -> PermissionResult:
    from claude_mcp.sessions.turns.permissions import Answer, Decision, respond

    answers = tuple(arguments.answers or ())
    answer = Answer(Decision(arguments.decision), arguments.message, answers)
    handle = await sessions.open(arguments.session_id)
    decided = await respond(handle, arguments.request_id, answer)
    return PermissionResult.of(decided)


RESPOND_PERMISSION: Final = Declaration(
    name="respond_permission",
    title="Answer what Claude asks",
    description=(
        "Answers what Claude asks (a permission, a plan, questions) when a turn has status "
        "'needs_permission'. Then get_turn waits for the result."
    ),
    arguments=PermissionArguments,
    result=PermissionResult,
    text=text.decided,
    call=_respond,
    hints=changes(destructive=True, idempotent=False, open_world=True),
)
