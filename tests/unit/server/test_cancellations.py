"""Cancelling a call interrupts its turn; losing the connection does not.

Over streams: the SDK's shortcut within one process has no ``notifications/cancelled``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client import Transport
from mcp.server import Server
from mcp.shared.memory import create_client_server_memory_streams

from claude_mcp.config import Config
from claude_mcp.contract import operations
from claude_mcp.server.app import build
from claude_mcp.server.arguments import parse
from claude_mcp.server.tool import Call
from claude_mcp.server.turn_tools import EXECUTE_IN_SESSION
from claude_mcp.sessions.progress import no_progress
from claude_mcp.sessions.registry import open_sessions
from tests.unit import fake_engine

pytestmark = pytest.mark.anyio

Era = Literal["legacy", "auto"]

FIRST = "6b0b0f3e-0000-4000-8000-000000000000"
SECOND = "6b0b0f3e-0000-4000-8000-000000000001"


@pytest.fixture(params=["legacy", "auto"])
def era(request: pytest.FixtureRequest) -> Era:
    era: Era = request.param
    return era


@asynccontextmanager
async def connection(config: Config, server: Server[Any] | None = None) -> AsyncIterator[Any]:
    """A transport to a server, by default of its own. Closing it waits until its run has ended."""
    server = server or build(config)
    streams = create_client_server_memory_streams()
    async with streams as (ours, (read, write)), anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, read, write, server.create_initialization_options())
        yield ours
        for stream in ours:
            await stream.aclose()


def connected(config: Config, era: Era, server: Server[Any] | None = None) -> Client:
    transport: Transport = connection(config, server)
    return Client(transport, mode=era)


def prompt(client: Client, session: str, turn_id: str = FIRST, **more: Any) -> Any:
    arguments = {"sessionId": session, "prompt": "hang", "turnId": turn_id, **more}
    return client.call_tool("execute_in_session", arguments)


async def status(client: Client, session: str, turn_id: str = FIRST) -> str:
    arguments = {"sessionId": session, "turnId": turn_id, "waitSeconds": 0}
    found = await client.call_tool("get_turn", arguments)
    return str(found.structured_content["status"])


async def noted(program: Path, *words: str) -> None:
    """Wait until the fake engine has noted these, in this order, among its other calls.

    Another process is watched through the file that it writes.
    """
    with anyio.fail_after(60):
        while [word for word in fake_engine.calls(program) if word in words] != [*words]:
            await anyio.sleep(0.005)


async def cancel_when_hanging(
    call: Callable[[], Coroutine[Any, Any, object]], program: Path
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await noted(program, "hanging")
        tasks.cancel_scope.cancel()


async def test_a_prompt_that_the_client_cancels_is_interrupted(
    config: Config, program: Path, session: str, era: Era
) -> None:
    async with connected(config, era) as client:
        await cancel_when_hanging(lambda: prompt(client, session), program)
        await noted(program, "hanging", "left", "interrupted")
        assert await status(client, session) == "cancelled"


async def test_a_command_that_the_client_cancels_is_stopped(
    config: Config, program: Path, session: str, era: Era
) -> None:
    async with connected(config, era) as client:
        arguments = {"sessionId": session, "command": "hang"}
        await cancel_when_hanging(lambda: client.call_tool("execute_command", arguments), program)
        await noted(program, "hanging", "cancelled", "stopped")


async def test_a_prompt_survives_its_client_and_can_be_followed_again(
    config: Config, program: Path, session: str, era: Era
) -> None:
    async def ask() -> None:
        with suppress(MCPError):  # nobody is left to be answered
            await prompt(client, session)

    async with anyio.create_task_group() as tasks:
        async with connected(config, era) as client:
            tasks.start_soon(ask)
            await noted(program, "hanging")
        # Its server has ended with it.
        assert "interrupted" not in fake_engine.calls(program)
    async with connected(config, era) as client:
        assert await status(client, session) == "running"


async def test_only_the_call_that_was_cancelled_is_interrupted(
    config: Config, program: Path, session: str, era: Era
) -> None:
    async with connected(config, era) as client, anyio.create_task_group() as others:
        await prompt(client, session, waitSeconds=0)
        others.start_soon(lambda: client.call_tool("get_turn", {"sessionId": session}))
        await noted(program, "hanging")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: prompt(client, session, SECOND, whenBusy="wait"))
            await noted(program, "hanging", "hanging")
            tasks.cancel_scope.cancel()
        await noted(program, "hanging", "hanging", "left", "interrupted")
        assert await status(client, session, SECOND) == "cancelled"
        assert await status(client, session, FIRST) == "running"
        await client.call_tool("cancel_turn", {"sessionId": session})


async def test_the_same_call_of_another_client_is_not_interrupted(
    config: Config, program: Path, session: str, era: Era
) -> None:
    server = build(config)

    async def ask(client: Client, turn_id: str) -> None:
        with suppress(MCPError):
            await prompt(client, session, turn_id, whenBusy="wait")

    async def cancelled_ask(client: Client) -> None:
        with scope:
            await ask(client, FIRST)

    scope = anyio.CancelScope()
    async with (
        anyio.create_task_group() as tasks,
        connected(config, era, server) as one,
        connected(config, era, server) as two,
    ):
        # Both are the first call on their connection, so their requests have the same id.
        tasks.start_soon(cancelled_ask, one)
        await noted(program, "hanging")
        tasks.start_soon(ask, two, SECOND)
        await noted(program, "hanging", "hanging")
        scope.cancel()
        await noted(program, "hanging", "hanging", "left", "interrupted")
        assert await status(one, session, FIRST) == "cancelled"
        assert await status(one, session, SECOND) == "queued"


async def test_cancelling_get_turn_does_not_interrupt_the_turn(
    config: Config, program: Path, session: str, era: Era
) -> None:
    async with connected(config, era) as client:
        await prompt(client, session, waitSeconds=0)
        arguments = {"sessionId": session}
        await cancel_when_hanging(lambda: client.call_tool("get_turn", arguments), program)
        await noted(program, "hanging", "left")
        assert await status(client, session) == "running"
    assert "interrupted" not in fake_engine.calls(program)


async def test_a_turn_cancelled_elsewhere_ends_the_wait_for_it(
    config: Config, program: Path, session: str, era: Era
) -> None:
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await prompt(client, session))

    async with connected(config, era) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await noted(program, "hanging")
            await client.call_tool("cancel_turn", {"sessionId": session})
        assert [answer.structured_content["status"] for answer in answers] == ["cancelled"]


async def cancelled(config: Config, session: str, asked_for: bool) -> None:
    """A prompt whose call is cancelled before it reaches the session."""

    async def cancelled_by_client() -> bool:
        return asked_for

    tool = EXECUTE_IN_SESSION
    arguments = parse(tool.arguments, {"sessionId": session, "prompt": "hang", "turnId": FIRST})
    async with open_sessions(config) as sessions:
        await (await sessions.open(session)).request(operations.STATUS, {})
        with anyio.CancelScope() as scope:
            scope.cancel()
            await tool.call(sessions, arguments, Call(no_progress, cancelled_by_client))
    assert scope.cancelled_caught


async def test_a_prompt_cancelled_before_it_was_sent_is_only_looked_for(
    config: Config, program: Path, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "claude_mcp.server"):
        await cancelled(config, session, asked_for=True)
    assert [record.getMessage() for record in caplog.records] == [
        f"a cancelled turn was not interrupted: Session 'fix-tests' has no turn {FIRST}."
    ]
    assert "hanging" not in fake_engine.calls(program)


async def test_no_turn_is_looked_for_when_the_client_only_disconnected(
    config: Config, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "claude_mcp.server"):
        await cancelled(config, session, asked_for=False)
    assert caplog.records == []
