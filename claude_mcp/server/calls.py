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
from mcp.types import InputRequiredResult

from claude_mcp.errors import ClaudeMcpError
from claude_mcp.server.arguments import (
    CancelArguments,
    CommandArguments,
    CreateArguments,
    CredentialsArguments,
    DestroyArguments,
    ListArguments,
    LogsArguments,
    PermissionArguments,
    PromptArguments,
    TransferArguments,
    TurnArguments,
)
from claude_mcp.server.elicitation import NOBODY, Elicitation
from claude_mcp.views import text
from claude_mcp.views.results import (
    CancelResult,
    CommandOutcome,
    CreateResult,
    CredentialsResult,
    DestroyResult,
    ListResult,
    LogsResult,
    PermissionResult,
    PromptResult,
    Result,
    TransferResult,
    TurnView,
)

if TYPE_CHECKING:
    from claude_mcp.sessions.providers.options import ProviderRequest
    from claude_mcp.sessions.registry import Progress, Sessions
    from claude_mcp.sessions.turns.results import TurnResult

logger = logging.getLogger(__name__)

CANCEL_SECONDS: Final = 15.0
"""How long a cancelled call may take to see its turn interrupted."""

Outcome = tuple[Result, str] | InputRequiredResult


@dataclass(frozen=True, slots=True)
class Call:
    """The circumstances of one call: how to report progress, whether the client ended it, and
    how its user is asked."""

    progress: Progress
    cancelled_by_client: Callable[[], Awaitable[bool]]
    elicitation: Elicitation = NOBODY


async def create(sessions: Sessions, arguments: CreateArguments, call: Call) -> Outcome:
    from claude_mcp.sessions.create import plan as creation
    from claude_mcp.sessions.create.request import CreateRequest, Mount

    config = arguments.mcp_config
    request = CreateRequest(
        project_path=arguments.project_path,
        session_name=arguments.session_name,
        provider=provider_of(arguments),
        image=arguments.image,
        model=arguments.model,
        strict_permissions=arguments.strict_permissions,
        trust_project=arguments.trust_project,
        trust_git=arguments.trust_git,
        mounts=tuple(
            Mount(each.host_path, each.container_path, each.read_only)
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
        network=arguments.network,
        allowed_hosts=tuple(arguments.allowed_hosts or ()),
    )
    created = await creation.create(sessions, request, call.progress)
    result = CreateResult.of(created)
    return result, text.create(result)


def provider_of(arguments: CreateArguments) -> ProviderRequest:
    """What the arguments say of the session's provider; its secrets are redacted from here on."""
    from claude_mcp.sessions.providers.options import ARGUMENTS, ProviderRequest

    options = arguments.provider_options
    given = arguments.model_dump(by_alias=True, exclude_none=True)
    return ProviderRequest(
        provider=arguments.provider,
        options=options.model_dump(by_alias=True, exclude_none=True) if options else {},
        use_bedrock=arguments.use_bedrock,
        arguments={name: given[name] for name in ARGUMENTS if name in given},
    )


async def credentials(sessions: Sessions, arguments: CredentialsArguments, call: Call) -> Outcome:
    from claude_mcp.sessions import handover

    options, config = arguments.provider_options, arguments.mcp_config
    handed = await handover.hand_in(
        sessions,
        arguments.session_id,
        options.model_dump(by_alias=True, exclude_none=True) if options else {},
        config.model_dump() if config else None,
    )
    result = CredentialsResult.of(handed)
    return result, text.credentials(result)


async def prompt(sessions: Sessions, arguments: PromptArguments, call: Call) -> Outcome:
    from claude_mcp.sessions.turns import prompts as turns
    from claude_mcp.sessions.turns.options import TurnOptions

    options = TurnOptions(
        tools=None if arguments.tools is None else tuple(arguments.tools),
        model=arguments.model,
        max_turns=arguments.max_turns,
        max_budget_usd=arguments.max_budget_usd,
        new_conversation=arguments.new_conversation,
    )
    begun = call.elicitation.turn_id
    turn_id = begun or turns.new_turn_id(arguments.turn_id)
    try:
        if begun:
            turn = await _follow(sessions, arguments, begun, call)
        else:
            turn = await turns.prompt(
                sessions,
                arguments.session_id,
                arguments.prompt,
                options=options,
                turn_id=turn_id,
                wait_seconds=arguments.wait_seconds,
                queue=arguments.when_busy == "wait",
                progress=call.progress,
                ask=call.elicitation.ask if arguments.wait_seconds else None,
            )
    except anyio.get_cancelled_exc_class():
        # A client that merely went away gets its answer when it asks again.
        if await call.cancelled_by_client():
            with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                await _interrupt(sessions, arguments.session_id, turn_id)
        raise
    required = call.elicitation.required(turn) if arguments.wait_seconds else None
    result = PromptResult.of(turn)
    return required or (result, text.prompt(result))


async def _follow(
    sessions: Sessions, arguments: PromptArguments | TurnArguments, turn_id: str | None, call: Call
) -> TurnResult:
    from claude_mcp.sessions.turns import prompts as turns

    return await turns.follow(
        sessions,
        arguments.session_id,
        turn_id,
        cursor=arguments.cursor if isinstance(arguments, TurnArguments) else None,
        wait_seconds=arguments.wait_seconds,
        progress=call.progress,
        ask=call.elicitation.ask if arguments.wait_seconds else None,
    )


async def _interrupt(sessions: Sessions, reference: str, turn_id: str) -> None:
    from claude_mcp.sessions.turns import prompts as turns

    try:
        await turns.interrupt(sessions, reference, turn_id)
    except ClaudeMcpError as error:  # it may never have begun, and nobody is left to be told
        logger.info("a cancelled turn was not interrupted: %s", error)


async def turn(sessions: Sessions, arguments: TurnArguments, call: Call) -> Outcome:
    from claude_mcp.sessions.turns import prompts as turns

    number = arguments.event
    if number:
        arguments = arguments.model_copy(update={"wait_seconds": 0})
    found = await _follow(sessions, arguments, call.elicitation.turn_id or arguments.turn_id, call)
    if number:
        _, event = await turns.event(sessions, arguments.session_id, number)
        found = replace(found, events=(event,))
    required = call.elicitation.required(found) if arguments.wait_seconds else None
    result = TurnView.of(found)
    return required or (result, text.turn(result))


async def respond(sessions: Sessions, arguments: PermissionArguments, call: Call) -> Outcome:
    from claude_mcp.sessions.turns import permissions

    answer = permissions.Answer(permissions.Decision(arguments.decision), arguments.message)
    decided = await permissions.respond(
        sessions, arguments.session_id, arguments.request_id, answer
    )
    result = PermissionResult.of(decided)
    return result, text.decided(result)


async def cancel(sessions: Sessions, arguments: CancelArguments, call: Call) -> Outcome:
    from claude_mcp.sessions.turns import prompts as turns

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
    from claude_mcp.sessions.files import transfer as transfers

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
    from claude_mcp.sessions.turns import commands

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
    from claude_mcp.sessions.turns import commands

    session, lines = await commands.logs(sessions, arguments.session_id, arguments.tail)
    result = LogsResult.of(session, lines)
    return result, text.logs(result)
