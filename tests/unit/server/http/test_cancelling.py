"""Over HTTP, too, a cancelled call is told from a client that is gone, and from another's call."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from mcp import Client, MCPError

from claude_mcp.config import Config
from tests.unit import fake_engine
from tests.unit.server.http.conftest import BLUE, INITIALIZE, JSON, OPERATOR, RED, served
from tests.unit.server.test_cancellations import (
    FIRST,
    SECOND,
    cancel_when_hanging,
    noted,
    prompt,
    status,
)

pytestmark = pytest.mark.anyio


async def test_a_prompt_that_the_client_cancels_is_interrupted(
    config: Config, program: Path, session: str
) -> None:
    async with served(config) as server, server.client(era="legacy") as client:
        await cancel_when_hanging(lambda: prompt(client, session), program)
        await noted(program, "hanging", "left", "interrupted")
        assert await status(client, session) == "cancelled"


async def test_with_the_later_revision_a_closed_call_leaves_its_turn(
    config: Config, program: Path, session: str
) -> None:
    async with served(config) as server, server.client(era="auto") as client:
        await cancel_when_hanging(lambda: prompt(client, session), program)
        await noted(program, "hanging", "left")
        assert await status(client, session) == "running"
    assert "interrupted" not in fake_engine.calls(program)


async def test_the_same_call_of_another_client_is_not_interrupted(
    config: Config, program: Path, session: str
) -> None:
    async def ask(client: Client, turn_id: str) -> None:
        with suppress(MCPError):
            await prompt(client, session, turn_id, whenBusy="wait")

    async def cancelled_ask(client: Client) -> None:
        with scope:
            await ask(client, FIRST)

    scope = anyio.CancelScope()
    async with (
        served(config) as server,
        server.client(era="legacy") as one,
        server.client(era="legacy") as two,
        anyio.create_task_group() as tasks,
    ):
        # Both are the first call of their client, so their requests have the same id.
        tasks.start_soon(cancelled_ask, one)
        await noted(program, "hanging")
        tasks.start_soon(ask, two, SECOND)
        await noted(program, "hanging", "hanging")
        scope.cancel()
        await noted(program, "hanging", "hanging", "left", "interrupted")
        assert await status(one, session, FIRST) == "cancelled"
        assert await status(one, session, SECOND) == "queued"
        tasks.cancel_scope.cancel()


async def test_two_clients_with_the_same_request_id_get_their_own_answers(config: Config) -> None:
    async with served(config) as server, server.http(**JSON) as http:
        answers: dict[str, str] = {}

        async def initialize(name: str) -> None:
            info = {"name": name, "version": "0"}
            params = {**INITIALIZE["params"], "clientInfo": info}
            answer = await http.post("/mcp", json={**INITIALIZE, "params": params})
            session = {"mcp-session-id": answer.headers["mcp-session-id"]}
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
            params = {"name": "execute_command", "arguments": {"sessionId": name, "command": "x"}}
            answer = await http.post("/mcp", json={**call, "params": params}, headers=session)
            answers[name] = answer.text

        names = [f"client-{number}" for number in range(20)]
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(initialize, name)
        assert all(f"There is no session '{name}'" in answers[name] for name in names)


async def test_a_client_cannot_use_the_connection_of_another_token(
    shared: Config, program: Path, session: str
) -> None:
    shared = replace(shared, http_token=shared.http_token)
    async with served(shared) as server, server.http(OPERATOR, **JSON) as operator:
        begun = await operator.post("/mcp", json=INITIALIZE)
        connection = {"mcp-session-id": begun.headers["mcp-session-id"]}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        for token, code in ((OPERATOR, 200), (RED, 404), (BLUE, 404)):
            async with server.http(token, **JSON) as http:
                answer = await http.post("/mcp", json=listing, headers=connection)
                assert answer.status_code == code
                gone = await http.delete("/mcp", headers={"mcp-session-id": "0" * 32})
                assert gone.status_code == 404
        async with server.http(RED, **JSON) as http:
            assert (await http.delete("/mcp", headers=connection)).status_code == 404
        assert (await operator.post("/mcp", json=listing, headers=connection)).status_code == 200
