"""The tools as clients see them: names, descriptions, hints, schemas.

The names and the arguments are fixed. All of it is paid for in every conversation: short.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from mcp.types import Tool, ToolAnnotations

from claude_mcp.server import calls
from claude_mcp.server.arguments import (
    Arguments,
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
from claude_mcp.server.schemas import input_schema, output_schema
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
    from claude_mcp.sessions.registry import Sessions

INSTRUCTIONS: Final = (
    "Isolated Claude Code sessions, each in a container of its own with one project of the host "
    "as /workspace. create_session once for a project, then execute_in_session as often as you "
    "like: the conversation goes on. execute_command runs a shell command there without Claude. "
    "destroy_session removes the container; the project stays."
)


@dataclass(frozen=True, slots=True)
class Declaration:
    """One tool; ``call`` gets what ``arguments`` made of the caller's words."""

    name: str
    title: str
    description: str
    arguments: type[Arguments]
    result: type[Result]
    call: Callable[[Sessions, Any, calls.Call], Awaitable[calls.Outcome]]
    hints: ToolAnnotations

    def tool(self) -> Tool:
        return Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=input_schema(self.arguments),
            output_schema=output_schema(self.result),
            annotations=self.hints,
        )


def _changes(*, destructive: bool, idempotent: bool, open_world: bool) -> ToolAnnotations:
    return ToolAnnotations(
        read_only_hint=False,
        destructive_hint=destructive,
        idempotent_hint=idempotent,
        open_world_hint=open_world,
    )


_READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)

DECLARATIONS: Final = (
    Declaration(
        name="create_session",
        title="Create a Claude Code session",
        description=(
            "Starts an isolated container with Claude Code on a project of the host. Use it once "
            "for a piece of work, and its sessionId with the other tools, execute_in_session "
            "first of all. Claude's changes appear in the project at once."
        ),
        arguments=CreateArguments,
        result=CreateResult,
        call=calls.create,
        hints=_changes(destructive=False, idempotent=False, open_world=True),
    ),
    Declaration(
        name="execute_in_session",
        title="Prompt Claude Code in a session",
        description=(
            "Sends a prompt to the Claude Code inside and waits for its answer: it reads, edits "
            "and runs what the task needs. It remembers the session's earlier prompts, so state "
            "the goal and follow up with corrections. After waitSeconds the answer is status "
            "'running': go on with get_turn. For a plain shell command, execute_command is faster "
            "and free."
        ),
        arguments=PromptArguments,
        result=PromptResult,
        call=calls.prompt,
        hints=_changes(destructive=True, idempotent=False, open_world=True),
    ),
    Declaration(
        name="get_turn",
        title="Follow a prompt",
        description=(
            "Waits for the end of a turn that execute_in_session left running and gives its "
            "result, as often as you ask; or, with cursor, what Claude did since."
        ),
        arguments=TurnArguments,
        result=TurnView,
        call=calls.turn,
        hints=_READS,
    ),
    Declaration(
        name="cancel_turn",
        title="Interrupt a prompt",
        description=(
            "Interrupts Claude and ends the commands of the turn. The conversation can go on."
        ),
        arguments=CancelArguments,
        result=CancelResult,
        call=calls.cancel,
        hints=_changes(destructive=True, idempotent=True, open_world=False),
    ),
    Declaration(
        name="respond_permission",
        title="Allow or deny",
        description=(
            "Answers what Claude asks for when a turn has status 'needs_permission'; get_turn "
            "waits on."
        ),
        arguments=PermissionArguments,
        result=PermissionResult,
        call=calls.respond,
        hints=_changes(destructive=True, idempotent=False, open_world=True),
    ),
    Declaration(
        name="set_credentials",
        title="Hand in credentials",
        description=(
            "Gives a session credentials of its own or MCP servers again when a restart of its "
            "container lost them, or new ones; without either, the server's. Its next prompt has "
            "them."
        ),
        arguments=CredentialsArguments,
        result=CredentialsResult,
        call=calls.credentials,
        hints=_changes(destructive=False, idempotent=True, open_world=False),
    ),
    Declaration(
        name="list_sessions",
        title="List sessions",
        description=(
            "All sessions with id, name, project and status, also those that another server or "
            "the command line made. Use it to find a sessionId, or what can be destroyed."
        ),
        arguments=ListArguments,
        result=ListResult,
        call=calls.list_sessions,
        hints=_READS,
    ),
    Declaration(
        name="destroy_session",
        title="Destroy a session",
        description=(
            "Kills what runs in a session and removes its container with everything but the "
            "project directory. Get results with transfer_files before. Fine if it is gone "
            "already."
        ),
        arguments=DestroyArguments,
        result=DestroyResult,
        call=calls.destroy,
        hints=_changes(destructive=True, idempotent=True, open_world=False),
    ),
    Declaration(
        name="transfer_files",
        title="Copy files into or out of a session",
        description=(
            "Copies a file or a directory between the host and a session. Files of the project "
            "need no transfer: they are in /workspace already."
        ),
        arguments=TransferArguments,
        result=TransferResult,
        call=calls.transfer,
        hints=_changes(destructive=True, idempotent=False, open_world=False),
    ),
    Declaration(
        name="execute_command",
        title="Run a shell command in a session",
        description=(
            "Runs a shell command in a session, without Claude: tests, git, a look at files. "
            "Returns exit code, stdout and stderr; a non-zero exit code is a result, not an "
            "error. Output beyond 64 KB for each stream is cut in the middle."
        ),
        arguments=CommandArguments,
        result=CommandOutcome,
        call=calls.command,
        hints=_changes(destructive=True, idempotent=False, open_world=True),
    ),
    Declaration(
        name="get_session_logs",
        title="Read a session's log",
        description=(
            "Starts, stops, crashes, killed commands and Claude's stderr, with times. Use it to "
            "find out why a session misbehaves."
        ),
        arguments=LogsArguments,
        result=LogsResult,
        call=calls.logs,
        hints=_READS,
    ),
)

BY_NAME: Final = {each.name: each for each in DECLARATIONS}


@cache
def tools() -> tuple[Tool, ...]:
    return tuple(each.tool() for each in DECLARATIONS)
