"""Builds the MCP server, and runs it over stdio; ``server/http`` runs it over HTTP."""

from __future__ import annotations

import difflib
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from anyio.abc import TaskGroup, TaskStatus
from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from mcp.server.context import CallNext, HandlerResult
from mcp.server.extension import compose_tool_call_handler
from mcp.server.stdio import stdio_server
from mcp.types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from claude_mcp import __version__, signals
from claude_mcp.config import Config
from claude_mcp.server import arguments, identity, resources
from claude_mcp.server.cancellations import Cancellations
from claude_mcp.server.elicitation import Elicitation
from claude_mcp.server.errors import failure
from claude_mcp.server.messages import Messages
from claude_mcp.server.progress import Reporter
from claude_mcp.server.stdio import Lines, Output, claimed_stdout
from claude_mcp.server.tasks import Tasks
from claude_mcp.server.tool import Call
from claude_mcp.server.tools import BY_NAME, INSTRUCTIONS, find, tools

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions

logger = logging.getLogger(__name__)

STOP_SECONDS: Final = 5.0
"""After a signal or the end of input, calls and their answers may take this long to end."""

TOO_EARLY: Final = "Invalid request: the client must send initialize first."

Context = ServerRequestContext["Sessions"]


Opened = AbstractAsyncContextManager[Any]


def build(config: Config, opened: Callable[[Config], Opened] | None = None) -> Server[Any]:
    """A server for any transport. While it runs, ``opened`` is open: by default the ``Sessions``.

    If it is something else, a middleware must give each request its ``Sessions``.
    """

    @asynccontextmanager
    async def lifespan(server: Server[Any]) -> AsyncIterator[Any]:
        if config.engines:
            from claude_mcp.sessions.fleet import open_fleet as open_sessions
        else:
            from claude_mcp.sessions.registry import open_sessions

        async with (opened or open_sessions)(config) as sessions, tasks.jobs.open():
            yield sessions

    cancellations = Cancellations()
    tasks = Tasks(cancellations)

    async def list_tools(
        context: Context, params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        own = context.lifespan_context.config
        return ListToolsResult(tools=list(tools(own.toolsets, own.tools)))

    async def call_tool(
        context: Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        with cancellations.watch(context) as cancelled_by_client:
            return await _call_tool(context, params, cancelled_by_client)

    server = Server(
        identity.NAME,
        version=__version__,
        title=identity.TITLE,
        icons=[identity.icon()],
        instructions=INSTRUCTIONS,
        lifespan=lifespan,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        **resources.handlers(),
    )
    server.extensions[tasks.identifier] = tasks.settings()
    calls = compose_tool_call_handler([tasks], call_tool)
    server.add_request_handler("tools/call", CallToolRequestParams, calls)
    for each in tasks.methods():
        server.add_request_handler(each.method, each.params_type, each.handler)
    server.middleware.append(cancellations.middleware)
    server.middleware.append(_explain_too_early)
    # Without this, the SDK lists all tools to find one, for each call over HTTP.
    server.get_tool_input_schema = _input_schema
    return server


async def _explain_too_early(
    ctx: ServerRequestContext[Any, Any], call_next: CallNext
) -> HandlerResult:
    """Of a request before ``initialize``, the SDK says that its parameters are invalid."""
    try:
        return await call_next(ctx)
    except MCPError as error:
        early = not ctx.session._connection.initialize_accepted
        if early and ctx.method != "initialize" and error.error.code == INVALID_PARAMS:
            raise MCPError(INVALID_REQUEST, TOO_EARLY) from error
        raise


@cache
def _input_schema(name: str) -> Mapping[str, Any] | None:
    declaration = BY_NAME.get(name)
    return None if declaration is None else declaration.tool().input_schema


async def _call_tool(
    context: Context,
    params: CallToolRequestParams,
    cancelled_by_client: Callable[[], Awaitable[bool]],
) -> CallToolResult | InputRequiredResult:
    sessions: Sessions = context.lifespan_context
    declaration = find(sessions.config, params.name)
    if declaration is None:
        available = [name for name in BY_NAME if find(sessions.config, name)]
        near = difflib.get_close_matches(params.name, available, n=1)
        question = f" Did you mean {near[0]}?" if near else f" Available: {', '.join(available)}."
        raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name[:80]}.{question}")
    reporter = Reporter(context.session.report_progress)
    client = context.session.client_params
    call = Call(
        reporter,
        cancelled_by_client,
        Elicitation.of(context, params),
        client.client_info.name if client else "",
    )
    try:
        checked = arguments.parse(declaration.arguments, params.arguments)
        outcome = await reporter.follow(lambda: declaration.call(sessions, checked, call))
        if isinstance(outcome, InputRequiredResult):
            return outcome
        return declaration.answer(outcome)
    except Exception as error:
        return failure(error, params.name)


def raise_descriptor_limit() -> None:
    """Let this process open as many files as it may: raise the soft limit to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # a system may allow less than it says
        logger.debug("the limit of descriptors stays %d: %s", soft, error)


def serve(config: Config) -> int:
    """Serve over stdin and stdout until the client disconnects or a signal arrives."""
    raise_descriptor_limit()
    try:
        anyio.run(_serve, config)
    except* (BrokenPipeError, ConnectionResetError):
        logger.debug("the client disconnected")
    return 0


async def _serve(config: Config) -> None:
    server = build(config)
    stdin = Lines(sys.stdin.fileno())
    with claimed_stdout() as descriptor:
        stdout = Output(descriptor)
        async with anyio.create_task_group() as tasks:

            async def messages() -> AsyncIterator[str]:
                async for line in Messages(stdin, stdout, tasks):
                    yield line
                # The client may never read the answers that are left.
                tasks.start_soon(_stop_later, tasks.cancel_scope)

            await tasks.start(_stop_on_signal, stdin, tasks)
            async with stdio_server(
                stdin=cast("anyio.AsyncFile[str]", messages()),
                stdout=cast("anyio.AsyncFile[str]", stdout),
            ) as (read, write):
                await server.run(read, write, server.create_initialization_options())
            tasks.cancel_scope.cancel()


async def _stop_later(scope: anyio.CancelScope) -> None:
    await anyio.sleep(STOP_SECONDS)
    scope.cancel()


async def _stop_on_signal(
    stdin: Lines,
    tasks: TaskGroup,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Treat a signal as end of input; a second one ends the process immediately."""
    stopping = False
    with anyio.open_signal_receiver(*signals.stopping()) as received:
        task_status.started()
        async for number in received:
            if stopping:
                os._exit(128 + number)
            stopping = True
            logger.info("stopping on %s", signal.Signals(number).name)
            stdin.close()
            tasks.start_soon(_stop_later, tasks.cancel_scope)
