"""What each tool does: checked arguments in, a result and its text out.

What works on sessions is imported by the first call: a client that only asks which tools
there are does not wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import anyio

from claude_mcp.credentials import Secret
from claude_mcp.errors import ClaudeMcpError, UsageError
from claude_mcp.server import text
from claude_mcp.server.arguments import (
    CancelArguments,
    CommandArguments,
    CreateArguments,
    DestroyArguments,
    ListArguments,
    LogsArguments,
    PromptArguments,
    TransferArguments,
    TurnArguments,
)
from claude_mcp.server.results import (
    CancelResult,
    CommandOutcome,
    CreateResult,
    DestroyResult,
    ListResult,
    LogsResult,
    PromptResult,
    Result,
    TransferResult,
    TurnView,
)

if TYPE_CHECKING:
    from claude_mcp.sessions.lifecycle import Progress, Sessions

logger = logging.getLogger(__name__)

CANCEL_SECONDS: Final = 15.0
"""How long a cancelled call may take to see its turn interrupted."""

Outcome = tuple[Result, str]


@dataclass(frozen=True, slots=True)
class Call:
    """The circumstances of one call: how to report progress, and whether the client ended it."""

    progress: Progress
    cancelled_by_client: Callable[[], Awaitable[bool]]


async def create(sessions: Sessions, arguments: CreateArguments, call: Call) -> Outcome:
    from claude_mcp.sessions import creation

    _refuse_bedrock(arguments)
    config = arguments.mcp_config
    request = creation.CreateRequest(
        project_path=arguments.project_path,
        session_name=arguments.session_name,
        api_key=arguments.api_key,
        image=arguments.image,
        model=arguments.model,
        strict_permissions=arguments.strict_permissions,
        mounts=tuple(
            creation.Mount(each.host_path, each.container_path, each.read_only)
            for each in arguments.mcp_mounts or ()
        ),
        mcp_config=config.model_dump() if config else None,
        limits={
            name: str(value)
            for name, value in (arguments.limits.model_dump() if arguments.limits else {}).items()
            if value is not None
        },
        read_only_root=arguments.read_only_rootfs,
        runtime=arguments.runtime,
        timeout_seconds=arguments.timeout_seconds,
        idle_timeout_seconds=arguments.idle_timeout_seconds,
    )
    created = await creation.create(sessions, request, call.progress)
    result = CreateResult.of(created, config.mcpServers if config else {})
    return result, text.create(result)


def _refuse_bedrock(arguments: CreateArguments) -> None:
    for secret in (
        arguments.aws_access_key_id,
        arguments.aws_secret_access_key,
        arguments.aws_session_token,
    ):
        if secret:
            Secret(secret)  # known to the redactor from here on
    given = [
        str(field.alias)
        for name, field in CreateArguments.model_fields.items()
        if name.startswith(("use_bedrock", "aws_", "bedrock_")) and getattr(arguments, name)
    ]
    if given:
        raise UsageError(
            f"This version does not support Bedrock ({', '.join(given)}); no session was made.",
            hint="Leave these arguments out and use an Anthropic API key, a subscription token "
            "or a gateway.",
        )


async def prompt(sessions: Sessions, arguments: PromptArguments, call: Call) -> Outcome:
    from claude_mcp.sessions import turns
    from claude_mcp.sessions.turn_results import TurnOptions

    options = TurnOptions(
        tools=None if arguments.tools is None else tuple(arguments.tools),
        model=arguments.model,
        max_turns=arguments.max_turns,
        max_budget_usd=arguments.max_budget_usd,
        new_conversation=arguments.new_conversation,
    )
    turn_id = turns.new_turn_id(arguments.turn_id)
    try:
        turn = await turns.prompt(
            sessions,
            arguments.session_id,
            arguments.prompt,
            options=options,
            turn_id=turn_id,
            wait_seconds=arguments.wait_seconds,
            queue=arguments.when_busy == "wait",
            progress=call.progress,
        )
    except anyio.get_cancelled_exc_class():
        # A client that merely went away gets its answer when it asks again.
        if await call.cancelled_by_client():
            with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                await _interrupt(sessions, arguments.session_id, turn_id)
        raise
    result = PromptResult.of(turn)
    return result, text.prompt(result)


async def _interrupt(sessions: Sessions, reference: str, turn_id: str) -> None:
    from claude_mcp.sessions import turns

    try:
        await turns.interrupt(sessions, reference, turn_id)
    except ClaudeMcpError as error:  # it may never have begun, and nobody is left to be told
        logger.info("a cancelled turn was not interrupted: %s", error)


async def turn(sessions: Sessions, arguments: TurnArguments, call: Call) -> Outcome:
    from claude_mcp.sessions import turns

    reference, number = arguments.session_id, arguments.event
    found = await turns.follow(
        sessions,
        reference,
        arguments.turn_id,
        cursor=arguments.cursor,
        wait_seconds=0 if number else arguments.wait_seconds,
        progress=call.progress,
    )
    if number:
        _, event = await turns.event(sessions, reference, number)
        found = replace(found, events=(event,))
    result = TurnView.of(found)
    return result, text.turn(result)


async def cancel(sessions: Sessions, arguments: CancelArguments, call: Call) -> Outcome:
    from claude_mcp.sessions import turns

    reference = arguments.session_id
    turn = await turns.interrupt(sessions, reference, arguments.turn_id)
    session = turn.session if turn else await sessions.find(reference)
    result = CancelResult.of(session.id, turn)
    return result, text.cancelled(result)


async def list_sessions(sessions: Sessions, arguments: ListArguments, call: Call) -> Outcome:
    result = ListResult.of(await sessions.list())
    return result, text.sessions(result)


async def destroy(sessions: Sessions, arguments: DestroyArguments, call: Call) -> Outcome:
    result = DestroyResult.of(await sessions.destroy(arguments.session_id))
    return result, text.destroy(result)


async def transfer(sessions: Sessions, arguments: TransferArguments, call: Call) -> Outcome:
    from claude_mcp.sessions import transfer as transfers

    transferred = await transfers.transfer(
        sessions,
        arguments.session_id,
        transfers.Direction(arguments.direction),
        arguments.source_path,
        arguments.dest_path,
        overwrite=arguments.overwrite,
        progress=call.progress,
    )
    result = TransferResult.of(transferred)
    return result, text.transfer(result)


async def command(sessions: Sessions, arguments: CommandArguments, call: Call) -> Outcome:
    from claude_mcp.sessions import commands

    completed = await commands.execute(
        sessions,
        arguments.session_id,
        arguments.command,
        timeout_seconds=arguments.timeout_seconds,
        workdir=arguments.workdir,
    )
    result = CommandOutcome.of(completed)
    return result, text.command(result)


async def logs(sessions: Sessions, arguments: LogsArguments, call: Call) -> Outcome:
    from claude_mcp.sessions import commands

    session, lines = await commands.logs(sessions, arguments.session_id, arguments.tail)
    result = LogsResult.of(session, lines)
    return result, text.logs(result)
