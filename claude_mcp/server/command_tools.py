"""The tools for shell commands: run one, follow it, stop it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Final

import anyio
from pydantic import Field

from claude_mcp.errors import ClaudeMcpError
from claude_mcp.server.arguments import WAIT_SECONDS, Arguments, SessionId
from claude_mcp.server.tool import Call, Declaration, changes
from claude_mcp.views import text
from claude_mcp.views.commands import CommandOutcome

if TYPE_CHECKING:
    from claude_mcp.sessions.handle import SessionHandle
    from claude_mcp.sessions.registry import Sessions

logger = logging.getLogger(__name__)

OUTPUT_CHARS: Final = 200_000
"""Two whole streams, and some escapes."""
CANCEL_SECONDS: Final = 10.0
"""How long a cancelled call waits until its command is killed."""


class CommandArguments(Arguments):
    session_id: SessionId
    command: Annotated[str, Field(description="Run by sh -c in /workspace.")]
    timeout_seconds: Annotated[
        float, Field(gt=0, description="Kill it then; no limit in the background.")
    ] = 600
    workdir: Annotated[str | None, Field(description="Run in this directory.")] = None
    wait_seconds: Annotated[
        float, Field(ge=0, description="Then answer 'running'; the command continues.")
    ] = WAIT_SECONDS
    background: Annotated[bool, Field(description="Return at once: for servers, watchers.")] = False
    command_id: Annotated[
        str | None, Field(description="A UUID of yours, for a safe repetition.")
    ] = None
    input: Annotated[str | None, Field(description="For its stdin.")] = None
    tty: Annotated[bool, Field(description="Give it a terminal.")] = False
    columns: int = 80
    rows: int = 24


async def _execute(sessions: Sessions, arguments: CommandArguments, call: Call) -> CommandOutcome:
    from claude_mcp.sessions.turns import commands

    given = arguments.model_fields_set
    limited = not arguments.background or "timeout_seconds" in given
    command_id = commands.new_command_id(arguments.command_id)
    handle = await sessions.open(arguments.session_id)
    try:
        completed = await commands.run(
            handle,
            arguments.command,
            timeout_seconds=arguments.timeout_seconds if limited else None,
            workdir=arguments.workdir,
            command_id=command_id,
            durable=arguments.command_id is not None,
            wait_seconds=arguments.wait_seconds,
            background=arguments.background,
            input=arguments.input,
            tty=commands.Terminal(arguments.columns, arguments.rows) if arguments.tty else None,
        )
    except anyio.get_cancelled_exc_class():
        # A client that only disconnected finds its command again.
        if await call.cancelled_by_client():
            with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                await _stop_cancelled(handle, command_id)
        raise
    return CommandOutcome.of(completed)


async def _stop_cancelled(handle: SessionHandle, command_id: str) -> None:
    from claude_mcp.sessions.turns import commands

    try:
        await commands.stop(handle, command_id)
    except ClaudeMcpError as error:  # it may never have begun, and the caller has gone
        logger.info("a cancelled command was not stopped: %s", error)


EXECUTE_COMMAND: Final = Declaration(
    name="execute_command",
    title="Run a shell command in a session",
    description=(
        "Runs a shell command in a session without Claude: tests, git, servers. A non-zero exit "
        "code is a result, not an error."
    ),
    arguments=CommandArguments,
    result=CommandOutcome,
    text=text.command,
    max_chars=OUTPUT_CHARS,
    call=_execute,
    hints=changes(destructive=True, idempotent=False, open_world=True),
)


class FollowArguments(Arguments):
    session_id: SessionId
    command_id: Annotated[str | None, Field(description="Default: the latest.")] = None
    cursor: Annotated[
        int | None,
        Field(ge=0, description="Output after it, as soon as there is any (0: all)."),
    ] = None
    wait_seconds: Annotated[float, Field(ge=0)] = WAIT_SECONDS
    merge: Annotated[bool, Field(description="With cursor: streams in order of arrival.")] = False
    input: Annotated[str | None, Field(description="Write to stdin (background or tty).")] = None
    end_input: Annotated[bool, Field(description="Close stdin.")] = False


async def _follow(sessions: Sessions, arguments: FollowArguments, call: Call) -> CommandOutcome:
    from claude_mcp.sessions.turns import commands

    followed = await commands.follow(
        await sessions.open(arguments.session_id),
        arguments.command_id,
        cursor=arguments.cursor,
        wait_seconds=arguments.wait_seconds,
        merge=arguments.merge,
        input=arguments.input,
        end_input=arguments.end_input,
    )
    return CommandOutcome.of(followed)


GET_COMMAND: Final = Declaration(
    name="get_command",
    title="Follow a shell command",
    description=(
        "Waits for a command of execute_command and returns its result or, with cursor, its "
        "output since."
    ),
    arguments=FollowArguments,
    result=CommandOutcome,
    text=text.command,
    max_chars=OUTPUT_CHARS,
    call=_follow,
    hints=changes(destructive=False, idempotent=False, open_world=True),
)


class StopArguments(Arguments):
    session_id: SessionId
    command_id: str


async def _stop(sessions: Sessions, arguments: StopArguments, call: Call) -> CommandOutcome:
    from claude_mcp.sessions.turns import commands

    handle = await sessions.open(arguments.session_id)
    return CommandOutcome.of(await commands.stop(handle, arguments.command_id))


STOP_COMMAND: Final = Declaration(
    name="stop_command",
    title="Stop a shell command",
    description="Kills a command and everything that it started.",
    arguments=StopArguments,
    result=CommandOutcome,
    text=text.command,
    max_chars=OUTPUT_CHARS,
    call=_stop,
    hints=changes(destructive=True, idempotent=True, open_world=False),
)
