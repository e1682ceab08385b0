"""MCP Tasks, ``io.modelcontextprotocol/tasks``: a call is answered at once and its result fetched.

A client declares the extension with each request; others get results as ever. A task's id holds
its session and its turn or command, so every server knows the task, also after a restart, and
``get_turn`` and ``get_command`` tell the same. The creation of a session is a ``Job`` of this
process; a session that it created is found again by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
from mcp import MCPError
from mcp.server import ServerRequestContext
from mcp.server.context import CallNext, HandlerResult
from mcp.server.extension import Extension, MethodBinding
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolRequestParams,
    CallToolResult,
    ElicitResult,
    RequestParams,
)
from mcp.types.version import is_version_at_least
from pydantic import ValidationError

from claude_mcp.errors import (
    ClaudeMcpError,
    CommandNotFound,
    QuestionNotOpen,
    SessionAmbiguous,
    SessionNotFound,
    TurnNotFound,
    UsageError,
)
from claude_mcp.server import arguments, forms
from claude_mcp.server.cancellations import Cancellations
from claude_mcp.server.command_tools import EXECUTE_COMMAND
from claude_mcp.server.errors import error_text, failure
from claude_mcp.server.jobs import Job, Jobs
from claude_mcp.server.session_tools import CREATE_SESSION
from claude_mcp.server.task_states import (
    COMMAND,
    CREATE,
    TURN,
    TaskId,
    command_state,
    found_again,
    job_state,
    running,
    task,
    turn_state,
    unknown,
)
from claude_mcp.server.tool import Call
from claude_mcp.server.tools import find
from claude_mcp.server.turn_tools import EXECUTE_IN_SESSION
from claude_mcp.sessions.progress import no_progress
from claude_mcp.views.commands import CommandOutcome
from claude_mcp.views.sessions import CreateResult
from claude_mcp.views.turns import PromptResult
from claude_mcp.views.wire import clean

if TYPE_CHECKING:
    from claude_mcp.sessions.handle import SessionHandle
    from claude_mcp.sessions.registry import Sessions
    from claude_mcp.sessions.turns.results import TurnResult

    Context = ServerRequestContext[Sessions, Any]

IDENTIFIER: Final = "io.modelcontextprotocol/tasks"
SINCE: Final = "2026-07-28"
SHORT_SECONDS: Final = 5.0
"""Most sessions are created, and most commands end, within this time. A task would then cost the
client's model one more call. A prompt nearly always takes longer, so it becomes a task at once."""
CANCEL_SECONDS: Final = 15.0
OPEN_TURN: Final = ("running", "queued", "needs_permission")
NOT_THERE: Final = (
    SessionNotFound, SessionAmbiguous, TurnNotFound, CommandNotFound, UsageError
)  # fmt: skip


_TOOLS: Final = {
    TURN: EXECUTE_IN_SESSION.name,
    COMMAND: EXECUTE_COMMAND.name,
    CREATE: CREATE_SESSION.name,
}


class TaskParams(RequestParams):
    task_id: str


class UpdateParams(TaskParams):
    input_responses: dict[str, Any]


class Tasks(Extension):
    """The extension for one server; its jobs run while ``jobs.open`` does."""

    identifier = IDENTIFIER

    def __init__(self, cancellations: Cancellations) -> None:
        self.jobs = Jobs()
        self._cancellations = cancellations

    def methods(self) -> Sequence[MethodBinding]:
        versions = frozenset({SINCE})
        return (
            MethodBinding("tasks/get", TaskParams, self._get, versions),
            MethodBinding("tasks/update", UpdateParams, self._update, versions),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, versions),
        )

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: Context, call_next: CallNext
    ) -> HandlerResult:
        declaration = find(ctx.lifespan_context.config, params.name)
        repeated = params.request_state is not None
        if declaration is None or repeated or not _declared(ctx):
            return await call_next(ctx)
        checked: Any
        try:
            checked = arguments.parse(declaration.arguments, params.arguments)
        except UsageError:
            return await call_next(ctx)  # which answers with the error
        client = ctx.session.client_params
        with self._cancellations.watch(ctx) as cancelled_by_client:
            call = Call(
                no_progress,
                cancelled_by_client,
                client=client.client_info.name if client else "",
            )
            if declaration is EXECUTE_IN_SESSION and checked.wait_seconds:
                return await _prompt(ctx.lifespan_context, checked, call)
            if declaration is EXECUTE_COMMAND and _may_take_long(checked):
                return await _command(ctx.lifespan_context, checked, call)
            if declaration is CREATE_SESSION:
                return await self._create(ctx, checked, call)
        return await call_next(ctx)

    async def _create(self, ctx: Context, checked: Any, call: Call) -> HandlerResult:
        from claude_mcp.sessions.create.plan import default_name

        sessions = ctx.lifespan_context

        name = checked.session_name or default_name(checked.project_path)
        checked = checked.model_copy(update={"session_name": name})
        identifier = TaskId.begin(CREATE, name)

        async def work(job: Job) -> CallToolResult:
            own = Call(job.report, call.cancelled_by_client, client=call.client)
            try:
                result = await CREATE_SESSION.call(sessions, checked, own)
            except Exception as error:
                return failure(error, CREATE_SESSION.name)
            assert isinstance(result, CreateResult)
            return CREATE_SESSION.answer(result)

        job = self.jobs.begin(_key(ctx, str(identifier)), f"creating session {name}", work)
        try:
            with anyio.move_on_after(SHORT_SECONDS):
                await job.ended.wait()
        except anyio.get_cancelled_exc_class():
            job.scope.cancel()
            with anyio.CancelScope(shield=True):
                await job.ended.wait()
            raise
        if job.result is not None:
            self.jobs.forget(_key(ctx, str(identifier)))
            return job.result
        return {**job_state(identifier, job), "resultType": "task"}

    async def _get(self, ctx: Context, params: TaskParams) -> HandlerResult:
        identifier = _identifier(ctx, params)
        if job := self.jobs.get(_key(ctx, params.task_id)):
            return job_state(identifier, job)
        with _refusals(params.task_id):
            if identifier.kind == CREATE:
                return await found_again(ctx.lifespan_context, identifier)
            handle = await ctx.lifespan_context.open(identifier.where)
            if identifier.kind == COMMAND:
                return await command_state(identifier, handle)
            return turn_state(identifier, await _turn(handle, identifier), ctx)

    async def _update(self, ctx: Context, params: UpdateParams) -> HandlerResult:
        from claude_mcp.sessions.turns.permissions import Answer, Decision, respond

        identifier = _identifier(ctx, params)
        given = _responses(params.input_responses)
        if identifier.kind != TURN:
            return {}  # only Claude asks
        with _refusals(params.task_id):
            handle = await ctx.lifespan_context.open(identifier.where)
            turn = await _turn(handle, identifier)
            for question in turn.questions:
                if question.request_id not in given:
                    continue
                answer = forms.answer(question, given[question.request_id])
                dismissed = Answer(Decision.DENY, "The user dismissed the question.")
                try:
                    await respond(handle, question.request_id, answer or dismissed)
                except QuestionNotOpen:
                    continue  # answered elsewhere meanwhile
        return {}

    async def _cancel(self, ctx: Context, params: TaskParams) -> HandlerResult:
        from claude_mcp.sessions.turns import commands, prompts

        identifier = _identifier(ctx, params)
        if job := self.jobs.get(_key(ctx, params.task_id)):
            job.scope.cancel()
            return {}
        with _refusals(params.task_id):
            if identifier.kind == CREATE:
                return {}  # it is over
            handle = await ctx.lifespan_context.open(identifier.where)
            with anyio.move_on_after(CANCEL_SECONDS):
                if identifier.kind == COMMAND:
                    await commands.stop(handle, identifier.work)
                else:
                    await prompts.interrupt(handle, identifier.work)
        return {}


async def _prompt(sessions: Sessions, checked: Any, call: Call) -> HandlerResult:
    """Send the prompt; the turn is recorded when this answers."""
    try:
        at_once = checked.model_copy(update={"wait_seconds": 0})
        result = await EXECUTE_IN_SESSION.call(sessions, at_once, call)
    except Exception as error:
        return failure(error, EXECUTE_IN_SESSION.name)
    assert isinstance(result, PromptResult)
    if result.status not in OPEN_TURN:
        return EXECUTE_IN_SESSION.answer(result)
    identifier = TaskId.begin(TURN, result.session_id, result.turn_id)
    message = f"Claude works on turn {result.turn_id} in session {result.session_id}."
    return {**task(identifier, "working", message), "resultType": "task"}


def _may_take_long(checked: Any) -> bool:
    return checked.wait_seconds > SHORT_SECONDS and not checked.background


async def _command(sessions: Sessions, checked: Any, call: Call) -> HandlerResult:
    """Run the command; if it goes on, it is recorded when this answers."""
    try:
        shortly = checked.model_copy(update={"wait_seconds": SHORT_SECONDS})
        result = await EXECUTE_COMMAND.call(sessions, shortly, call)
    except Exception as error:
        return failure(error, EXECUTE_COMMAND.name)
    assert isinstance(result, CommandOutcome)
    if result.status != "running":
        return EXECUTE_COMMAND.answer(result)
    identifier = TaskId.begin(COMMAND, result.session_id, result.command_id)
    return {**task(identifier, "working", running(result)), "resultType": "task"}


async def _turn(handle: SessionHandle, identifier: TaskId) -> TurnResult:
    from claude_mcp.sessions.turns import prompts

    return await prompts.follow(handle, identifier.work, wait_seconds=0)


def _declared(ctx: Context) -> bool:
    capabilities = ctx.session.client_capabilities
    extensions = capabilities.extensions if capabilities else None
    return is_version_at_least(ctx.protocol_version, SINCE) and IDENTIFIER in (extensions or {})


def _key(ctx: Context, task_id: str) -> str:
    """The key of a task's job: each owner has its own."""
    return f"{ctx.lifespan_context.config.owner}\0{task_id}"


def _identifier(ctx: Context, params: TaskParams) -> TaskId:
    """Raises MCPError if the client does not know tasks, or may not use the tool of this one."""
    _require(ctx)
    identifier = TaskId.parse(params.task_id)
    if find(ctx.lifespan_context.config, _TOOLS[identifier.kind]) is None:
        raise unknown(params.task_id, "this server gave out no such id")
    return identifier


def _require(ctx: Context) -> None:
    if not _declared(ctx):
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            f"The request does not declare the extension {IDENTIFIER}.",
            {"requiredCapabilities": {"extensions": {IDENTIFIER: {}}}},
        )


def _responses(given: Mapping[str, Any]) -> dict[str, ElicitResult]:
    answers = {}
    for key, value in given.items():
        try:
            answers[key] = ElicitResult.model_validate(value)
        except ValidationError:
            raise MCPError(
                INVALID_PARAMS, f"inputResponses[{key[:80]!r}] is not the result of a form."
            ) from None
    return answers


@contextmanager
def _refusals(text: str) -> Iterator[None]:
    """Raise what is the matter with a task's session as a protocol error."""
    try:
        yield
    except NOT_THERE as error:
        raise unknown(text, clean(error.message.rstrip("."))) from error
    except ClaudeMcpError as error:
        raise MCPError(INTERNAL_ERROR, error_text(error, "tasks")) from error
