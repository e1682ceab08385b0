"""The tools for a session's life: create, list, credentials, log, destroy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from claude_mcp.config_names import Toolset
from claude_mcp.errors import UsageError
from claude_mcp.server.arguments import FROM_TEXT, Arguments, SessionId
from claude_mcp.server.create_arguments import (
    CreateArguments,
    CredentialOptions,
    McpConfigArgument,
    create_request,
)
from claude_mcp.server.errors import error_text
from claude_mcp.server.tool import READS, Call, Declaration, changes
from claude_mcp.views import text
from claude_mcp.views.commands import LogsResult
from claude_mcp.views.sessions import CreateResult, CredentialsResult, DestroyResult, ListResult

MOST_AT_ONCE: Final = 100

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions


async def _create(sessions: Sessions, arguments: Arguments, call: Call) -> CreateResult:
    from claude_mcp.sessions.create.start import create

    return CreateResult.of(
        await create(sessions, create_request(arguments, call.client), call.progress)
    )


CREATE_SESSION: Final = Declaration(
    name="create_session",
    title="Create a Claude Code session",
    description=(
        "Starts an isolated container with Claude Code on a project of the host, one for each "
        "task. Pass its sessionId to the other tools, first to execute_in_session."
    ),
    arguments=CreateArguments,
    result=CreateResult,
    text=text.create,
    call=_create,
    hints=changes(destructive=False, idempotent=False, open_world=True),
)


class ListArguments(Arguments):
    cursor: str | None = None


async def _list(sessions: Sessions, arguments: ListArguments, call: Call) -> ListResult:
    part = ListResult.part_of(await sessions.survey(), arguments.cursor)
    if part is None:
        raise UsageError(
            f"There is no session {arguments.cursor!r} (any more) after which to go on.",
            hint="List the sessions again without cursor.",
        )
    return part


LIST_SESSIONS: Final = Declaration(
    name="list_sessions",
    title="List sessions",
    description=(
        "Lists all sessions, also those of other servers and the command line: id, name, project, "
        "and what each is doing."
    ),
    arguments=ListArguments,
    result=ListResult,
    text=text.sessions,
    call=_list,
    hints=READS,
)


class CredentialsArguments(Arguments):
    session_id: SessionId
    provider_options: Annotated[
        CredentialOptions | None,
        Field(description="Credentials for the session's provider; default: the server's."),
    ] = None
    mcp_config: McpConfigArgument | None = None


async def _set_credentials(sessions: Sessions, arguments: Any, call: Call) -> CredentialsResult:
    from claude_mcp.sessions import handover

    options, config = arguments.provider_options, arguments.mcp_config
    given = await handover.give(
        await sessions.open(arguments.session_id),
        options.model_dump(by_alias=True, exclude_none=True) if options else {},
        config.model_dump() if config else None,
    )
    return CredentialsResult.of(given)


SET_CREDENTIALS: Final = Declaration(
    name="set_credentials",
    title="Set credentials",
    description=(
        "Gives a session its own credentials or MCP servers: again, after a restart of its "
        "container lost them, or new ones. With neither, it gets the server's credentials."
    ),
    arguments=CredentialsArguments,
    result=CredentialsResult,
    text=text.credentials,
    call=_set_credentials,
    hints=changes(destructive=False, idempotent=True, open_world=False),
    toolset=Toolset.CREDENTIALS,
)


class LogsArguments(Arguments):
    session_id: SessionId
    tail: Annotated[int, Field(ge=1, le=10_000, description="Last lines.")] = 100
    before: Annotated[str | None, Field(description="Older lines.")] = None


async def _logs(sessions: Sessions, arguments: LogsArguments, call: Call) -> LogsResult:
    from claude_mcp.sessions.turns import commands

    handle = await sessions.open(arguments.session_id)
    session, lines = await commands.logs(handle, arguments.tail, before=arguments.before)
    return LogsResult.part_of(session, lines, arguments.tail)


GET_SESSION_LOGS: Final = Declaration(
    name="get_session_logs",
    title="Read a session's log",
    description=(
        "Lists starts, stops, crashes, killed commands and Claude's stderr, with times. Use it "
        "to find out why a session misbehaves."
    ),
    arguments=LogsArguments,
    result=LogsResult,
    text=text.logs,
    call=_logs,
    hints=READS,
)


class DestroyArguments(Arguments):
    session_id: SessionId | None = None
    session_ids: Annotated[
        list[str] | None, FROM_TEXT, Field(max_length=MOST_AT_ONCE, description="Several at once.")
    ] = None
    mine: Annotated[bool, Field(description="All that this client's name created.")] = False
    discard_changes: Annotated[bool, Field(description="With its work.")] = False


async def _destroy(sessions: Sessions, arguments: DestroyArguments, call: Call) -> DestroyResult:
    one, several = arguments.session_id, arguments.session_ids
    if [one is not None, several is not None, arguments.mine].count(True) != 1:
        raise UsageError("Nothing was destroyed: pass one of sessionId, sessionIds and mine.")
    if one is not None:
        return DestroyResult.of(await sessions.destroy(one, discard=arguments.discard_changes))
    silent: tuple[str, ...] = ()
    if several is None:
        mine = await sessions.everywhere(lambda each: each.created_by(call.client))
        several = [each.id for part in mine.found for each in part]
        silent = tuple(map(str, mine.unreachable))
    outcomes = await sessions.destroy_each(several, discard=arguments.discard_changes)
    return DestroyResult.of_several(
        [
            (
                reference,
                error_text(each, "destroy_session") if isinstance(each, Exception) else each,
            )
            for reference, each in zip(several, outcomes, strict=True)
        ],
        silent,
    )


DESTROY_SESSION: Final = Declaration(
    name="destroy_session",
    title="Destroy a session",
    description=(
        "Kills everything in a session and removes it with its data, except the "
        "project. Copy results out with transfer_files first. Succeeds if the session "
        "is already gone. Of several, each has its own outcome."
    ),
    arguments=DestroyArguments,
    result=DestroyResult,
    text=text.destroy,
    call=_destroy,
    hints=changes(destructive=True, idempotent=True, open_world=False),
)
