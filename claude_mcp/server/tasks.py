"""MCP Tasks, ``io.modelcontextprotocol/tasks``: a call is answered at once and its result fetched.

A client declares the extension with each request; others get results as ever. The id of a prompt's
task holds its session and its turn, so every server knows the task, also after a restart, and
``get_turn`` tells the same. Other work is a ``Job`` of this process; a session that it created is
found again by its name.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
    ElicitRequest,
    ElicitResult,
    InputRequiredResult,
    RequestParams,
)
from mcp.types.version import is_version_at_least
from pydantic import ValidationError

from claude_mcp.errors import (
    ClaudeMcpError,
    QuestionNotOpen,
    SessionAmbiguous,
    SessionNotFound,
    TurnNotFound,
    UsageError,
)
from claude_mcp.server import arguments, forms
from claude_mcp.server.cancellations import Cancellations
from claude_mcp.server.elicitation import Elicitation
from claude_mcp.server.errors import error_text, failure
from claude_mcp.server.jobs import KEPT_SECONDS, Job, Jobs
from claude_mcp.server.tool import Call, Declaration
from claude_mcp.server.tools import BY_NAME
from claude_mcp.server.turn_tools import EXECUTE_IN_SESSION
from claude_mcp.sessions.progress import no_progress
from claude_mcp.views.figures import elapsed
from claude_mcp.views.results import CreateResult, PromptResult
from claude_mcp.views.wire import clean

if TYPE_CHECKING:
    from claude_mcp.sessions.handle import SessionHandle
    from claude_mcp.sessions.registry import Sessions
    from claude_mcp.sessions.turns.results import TurnResult

    Context = ServerRequestContext[Sessions, Any]

IDENTIFIER: Final = "io.modelcontextprotocol/tasks"
SINCE: Final = "2026-07-28"
POLL_MS: Final = 1_000
"""Asking about a turn costs some milliseconds while its channel is open."""
SHORT_SECONDS: Final = 5.0
"""Most sessions are created, and most commands end, within this time. A task would then cost the
client's model one more call. A prompt nearly always takes longer, so it becomes a task at once."""
CANCEL_SECONDS: Final = 15.0
TURN: Final = "turn"
OPEN_TURN: Final = ("running", "queued", "needs_permission")
JOBS: Final = {"create_session": "create", "execute_command": "command"}
"""The kind of a task for each tool whose work is a job."""
CLOCKS_SECONDS: Final = 5.0
"""How much the clocks of this machine and of the engine's may differ."""


class TaskId(NamedTuple):
    """What a task's id says. ``where`` is a session's id, or the name that it will have."""

    kind: str
    work: str
    """A UUID: of a prompt, the turn's own."""
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
            raise _unknown(text, "this server gave out no such id") from None
        if kind not in (TURN, *JOBS.values()):
            raise _unknown(text, "this server gave out no such id")
        return parsed


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
        declaration = BY_NAME.get(params.name)
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
            if declaration.name in JOBS:
                return await self._job(ctx.lifespan_context, declaration, checked, call)
        return await call_next(ctx)

    async def _job(
        self, sessions: Sessions, declaration: Declaration, checked: Any, call: Call
    ) -> HandlerResult:
        if JOBS[declaration.name] == "create":
            from claude_mcp.sessions.create.plan import default_name

            where = checked.session_name or default_name(checked.project_path)
            checked = checked.model_copy(update={"session_name": where})
            doing = f"creating session {where}"
        else:
            where = checked.session_id
            doing = "running the command"
        identifier = TaskId.begin(JOBS[declaration.name], where)

        async def work(job: Job) -> CallToolResult:
            own = Call(job.report, call.cancelled_by_client, client=call.client)
            return await _answer(declaration, sessions, checked, own)

        job = self.jobs.begin(str(identifier), doing, work)
        try:
            with anyio.move_on_after(SHORT_SECONDS):
                await job.ended.wait()
        except anyio.get_cancelled_exc_class():
            job.scope.cancel()
            with anyio.CancelScope(shield=True):
                await job.ended.wait()
            raise
        if job.result is not None:
            self.jobs.forget(str(identifier))
            return job.result
        return {**_job_state(identifier, job), "resultType": "task"}

    async def _get(self, ctx: Context, params: TaskParams) -> HandlerResult:
        _require(ctx)
        identifier = TaskId.parse(params.task_id)
        if job := self.jobs.get(params.task_id):
            return _job_state(identifier, job)
        with _refusals(params.task_id):
            if identifier.kind == TURN:
                handle = await ctx.lifespan_context.open(identifier.where)
                return _turn_state(identifier, await _turn(handle, identifier), ctx)
            if identifier.kind == "create":
                return await _found_again(ctx.lifespan_context, identifier)
        raise _unknown(params.task_id, "the command ended with the server that ran it")

    async def _update(self, ctx: Context, params: UpdateParams) -> HandlerResult:
        from claude_mcp.sessions.turns.permissions import Answer, Decision, respond

        _require(ctx)
        identifier = TaskId.parse(params.task_id)
        given = _responses(params.input_responses)
        if identifier.kind != TURN:
            return {}  # nothing was asked
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
        from claude_mcp.sessions.turns import prompts

        _require(ctx)
        identifier = TaskId.parse(params.task_id)
        if job := self.jobs.get(params.task_id):
            job.scope.cancel()
            return {}
        with _refusals(params.task_id):
            if identifier.kind == TURN:
                handle = await ctx.lifespan_context.open(identifier.where)
                with anyio.move_on_after(CANCEL_SECONDS):
                    await prompts.interrupt(handle, identifier.work)
        return {}


async def _answer(
    declaration: Declaration, sessions: Sessions, checked: Any, call: Call
) -> CallToolResult:
    try:
        result = await declaration.call(sessions, checked, call)
    except Exception as error:
        return failure(error, declaration.name)
    assert not isinstance(result, InputRequiredResult)  # nobody was asked
    return declaration.answer(result)


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
    return {**_task(identifier, "working", message), "resultType": "task"}


async def _turn(handle: SessionHandle, identifier: TaskId) -> TurnResult:
    from claude_mcp.sessions.turns import prompts

    return await prompts.follow(handle, identifier.work, wait_seconds=0)


def _turn_state(identifier: TaskId, turn: TurnResult, ctx: Context) -> dict[str, Any]:
    view = PromptResult.of(turn)
    ttl_ms = _ttl_ms(identifier, turn.session.expires_at)
    match view.status:
        case "needs_permission" if Elicitation(ctx).can_be_asked:
            asked = {
                each.request_id: _json(ElicitRequest(params=forms.form(each)))
                for each in turn.questions
            }
            message = "Claude waits for an answer."
            return _task(identifier, "input_required", message, ttl_ms, inputRequests=asked)
        case "running" | "queued":
            return _task(identifier, "working", _doing(view), ttl_ms)
        case "cancelled":
            return _task(identifier, "cancelled", "The turn was cancelled.", ttl_ms)
        case _:
            # Who cannot be asked reads the question in the result, and answers with a tool.
            message = f"The turn is {view.status}."
            result = _json(EXECUTE_IN_SESSION.answer(view))
            return _task(identifier, "completed", message, ttl_ms, result=result)


def _doing(view: PromptResult) -> str:
    state = "The prompt waits" if view.status == "queued" else "Claude has been working"
    step = f": {view.last_step}" if view.last_step else "."
    notes = "".join(f" {note}" for note in view.notes)
    return clean(f"{state} for {elapsed(view.duration_ms)}{step}{notes}")


def _job_state(identifier: TaskId, job: Job) -> dict[str, Any]:
    if job.ended_at is None:
        return _task(identifier, "working", clean(job.progress))
    ended_ms = round((time.time() - anyio.current_time() + job.ended_at) * 1000)
    ttl_ms = ended_ms - identifier.started_ms + round(KEPT_SECONDS * 1000)
    if job.result is None:
        return _task(identifier, "cancelled", "It was cancelled.", ttl_ms)
    result = _json(job.result)
    return _task(identifier, "completed", "It has ended.", ttl_ms, result=result)


async def _found_again(sessions: Sessions, identifier: TaskId) -> dict[str, Any]:
    """A session that another server was creating, or that this one created long ago."""
    from claude_mcp.sessions.create.request import Created

    session = await sessions.find(identifier.where)
    created = datetime.fromisoformat(session.created_at).timestamp() * 1000
    if created < identifier.started_ms - CLOCKS_SECONDS * 1000:
        raise SessionNotFound(f"The session {identifier.where!r} is an older one.")
    ttl_ms = _ttl_ms(identifier, session.expires_at)
    if session.status.value == "creating":
        return _task(identifier, "working", "Another server creates the session.", ttl_ms)
    warning = "The status of its MCP servers is not known: another server created the session."
    engine = (await sessions.engine()).dialect.name
    view = CreateResult.of(Created(session, engine, (warning,)))
    answer = BY_NAME["create_session"].answer(view)
    message = f"The session is {view.status}."
    return _task(identifier, "completed", message, ttl_ms, result=_json(answer))


def _task(
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


def _declared(ctx: Context) -> bool:
    capabilities = ctx.session.client_capabilities
    extensions = capabilities.extensions if capabilities else None
    return is_version_at_least(ctx.protocol_version, SINCE) and IDENTIFIER in (extensions or {})


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


def _unknown(text: str, why: str) -> MCPError:
    return MCPError(INVALID_PARAMS, f"There is no task {text[:200]!r}: {why}.")


@contextmanager
def _refusals(text: str) -> Iterator[None]:
    """Raise what is the matter with a task's session as a protocol error."""
    try:
        yield
    except (SessionNotFound, SessionAmbiguous, TurnNotFound, UsageError) as error:
        raise _unknown(text, clean(error.message.rstrip("."))) from error
    except ClaudeMcpError as error:
        raise MCPError(INTERNAL_ERROR, error_text(error, "tasks")) from error
