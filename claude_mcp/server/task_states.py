"""What a task is: its id, and its state as the protocol has it."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio
from mcp import MCPError
from mcp.server import ServerRequestContext
from mcp.types import INVALID_PARAMS, ElicitRequest

from claude_mcp.errors import SessionNotFound
from claude_mcp.server import forms
from claude_mcp.server.command_tools import EXECUTE_COMMAND
from claude_mcp.server.elicitation import Elicitation
from claude_mcp.server.jobs import KEPT_SECONDS, Job
from claude_mcp.server.session_tools import CREATE_SESSION
from claude_mcp.server.turn_tools import EXECUTE_IN_SESSION
from claude_mcp.views.commands import CommandOutcome
from claude_mcp.views.figures import elapsed
from claude_mcp.views.sessions import CreateResult
from claude_mcp.views.turns import PromptResult
from claude_mcp.views.wire import clean

if TYPE_CHECKING:
    from claude_mcp.sessions.handle import SessionHandle
    from claude_mcp.sessions.registry import Sessions
    from claude_mcp.sessions.turns.results import TurnResult

    Context = ServerRequestContext[Sessions, Any]

POLL_MS: Final = 1_000
"""Asking about a turn or a command costs some milliseconds while its channel is open."""
TURN, COMMAND, CREATE = "turn", "command", "create"
CLOCKS_SECONDS: Final = 5.0
"""How much the clocks of this machine and of the engine's may differ."""


class TaskId(NamedTuple):
    """What a task's id says. ``where`` is a session's id, or the name that it will have."""

    kind: str
    work: str
    """A UUID: that of the turn or the command."""
    started_ms: int
    """Since the epoch."""
    where: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.work}.{self.started_ms:x}.{self.where}"

    @classmethod
    def begin(cls, kind: str, where: str, work: str | None = None) -> TaskId:
        return cls(kind, work or str(uuid.uuid4()), round(time.time() * 1000), where)

    @classmethod
    def parse(cls, text: str) -> TaskId:
        """Raises MCPError if it is no id of ours."""
        try:
            kind, work, started, where = text.split(".", 3)
            parsed = cls(kind, str(uuid.UUID(work)), int(started, 16), where)
            datetime.fromtimestamp(parsed.started_ms / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            raise unknown(text, "this server gave out no such id") from None
        if kind not in (TURN, COMMAND, CREATE):
            raise unknown(text, "this server gave out no such id")
        return parsed


def unknown(text: str, why: str) -> MCPError:
    return MCPError(INVALID_PARAMS, f"There is no task {text[:200]!r}: {why}.")


def turn_state(identifier: TaskId, turn: TurnResult, ctx: Context) -> dict[str, Any]:
    view = PromptResult.of(turn)
    ttl_ms = _ttl_ms(identifier, turn.session.expires_at)
    match view.status:
        case "needs_permission" if Elicitation(ctx).can_be_asked:
            asked = {
                each.request_id: _json(ElicitRequest(params=forms.form(each)))
                for each in turn.questions
            }
            message = "Claude waits for an answer."
            return task(identifier, "input_required", message, ttl_ms, inputRequests=asked)
        case "running" | "queued":
            return task(identifier, "working", _doing(view), ttl_ms)
        case "cancelled":
            return task(identifier, "cancelled", "The turn was cancelled.", ttl_ms)
        case _:
            # Who cannot be asked reads the question in the result, and answers with a tool.
            message = f"The turn is {view.status}."
            result = _json(EXECUTE_IN_SESSION.answer(view))
            return task(identifier, "completed", message, ttl_ms, result=result)


def _doing(view: PromptResult) -> str:
    state = "The prompt waits" if view.status == "queued" else "Claude has been working"
    step = f": {view.last_step}" if view.last_step else "."
    notes = "".join(f" {note}" for note in view.notes)
    return clean(f"{state} for {elapsed(view.duration_ms)}{step}{notes}")


def job_state(identifier: TaskId, job: Job) -> dict[str, Any]:
    if job.ended_at is None:
        return task(identifier, "working", clean(job.progress))
    ended_ms = round((time.time() - anyio.current_time() + job.ended_at) * 1000)
    ttl_ms = ended_ms - identifier.started_ms + round(KEPT_SECONDS * 1000)
    if job.result is None:
        return task(identifier, "cancelled", "It was cancelled.", ttl_ms)
    result = _json(job.result)
    return task(identifier, "completed", "It has ended.", ttl_ms, result=result)


async def found_again(sessions: Sessions, identifier: TaskId) -> dict[str, Any]:
    """A session that another server was creating, or that this one created long ago."""
    from claude_mcp.sessions.create.request import Created

    there, reference = await sessions.at(identifier.where)
    session = await there.find(reference)
    created = datetime.fromisoformat(session.created_at).timestamp() * 1000
    if created < identifier.started_ms - CLOCKS_SECONDS * 1000:
        raise SessionNotFound(f"The session {identifier.where!r} is an older one.")
    ttl_ms = _ttl_ms(identifier, session.expires_at)
    if session.status.value == "creating":
        return task(identifier, "working", "Another server creates the session.", ttl_ms)
    warning = "The status of its MCP servers is not known: another server created the session."
    view = CreateResult.of(Created(session, await there.name(), (warning,)))
    answer = CREATE_SESSION.answer(view)
    message = f"The session is {view.status}."
    return task(identifier, "completed", message, ttl_ms, result=_json(answer))


def task(
    identifier: TaskId, status: str, message: str, ttl_ms: int | None = None, **more: Any
) -> dict[str, Any]:
    """A task as it is now; ``ttl_ms`` None means that it is kept as long as its session."""
    return {
        "taskId": str(identifier),
        "status": status,
        "statusMessage": message,
        "createdAt": _rfc3339(identifier.started_ms),
        "lastUpdatedAt": _rfc3339(round(time.time() * 1000)),
        "ttlMs": ttl_ms,
        "pollIntervalMs": POLL_MS,
        **more,
    }


def _ttl_ms(identifier: TaskId, expires_at: str | None) -> int | None:
    """From the task's creation to the end of its session."""
    if expires_at is None:
        return None
    end = datetime.fromisoformat(expires_at).timestamp() * 1000
    return max(0, round(end) - identifier.started_ms)


def _rfc3339(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(value: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


async def command_state(identifier: TaskId, handle: SessionHandle) -> dict[str, Any]:
    from claude_mcp.sessions.turns import commands

    command = await commands.follow(handle, identifier.work, wait_seconds=0)
    view = CommandOutcome.of(command)
    ttl_ms = _ttl_ms(identifier, command.session.expires_at)
    match view.status:
        case "running":
            return task(identifier, "working", running(view), ttl_ms)
        case "stopped":
            return task(identifier, "cancelled", "The command was stopped.", ttl_ms)
        case _:
            message = f"The command is {view.status.replace('_', ' ')}."
            result = _json(EXECUTE_COMMAND.answer(view))
            return task(identifier, "completed", message, ttl_ms, result=result)


def running(view: CommandOutcome) -> str:
    return f"Command {view.command_id} has been running for {elapsed(view.duration_ms)}."
