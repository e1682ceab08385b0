"""Who gets through to MCP, and what the others are told."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import anyio
import anyio.abc
import httpx2
import pytest

from claude_mcp.config import Config
from claude_mcp.server.http import connections, gate
from tests.unit.server.http.conftest import (
    BLUE,
    INITIALIZE,
    JSON,
    OPERATOR,
    RED,
    Serving,
    served,
)

pytestmark = pytest.mark.anyio


async def status(server: Serving, token: str | None = None, **headers: str) -> int:
    async with server.http(token, **JSON, **headers) as client:
        return (await client.post("/mcp", json=INITIALIZE)).status_code


async def test_only_the_loopbacks_own_names_and_pages_are_served(config: Config) -> None:
    async with served(config) as server:
        port = server.port
        assert [
            await status(server, host=host)
            for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost", f"[::1]:{port}")
        ] == [200] * 4
        assert [
            await status(server, host=host)
            for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example")
        ] == [421] * 3
        assert await status(server, origin=f"http://localhost:{port}") == 200
        for origin in ("http://evil.example", "null", "http://localhost.evil.example"):
            assert await status(server, origin=origin) == 403


async def test_configured_names_and_origins_are_served_too(config: Config) -> None:
    http = {
        "CLAUDE_MCP_HTTP_HOSTS": "mcp.example.com, other",
        "CLAUDE_MCP_HTTP_ORIGINS": "https://chat.example.com",
    }
    async with served(replace(config, http=http)) as server:
        for host in ("mcp.example.com", "mcp.example.com:8443", "other"):
            assert await status(server, host=host) == 200
        assert await status(server, host="example.com") == 421
        assert await status(server, origin="https://chat.example.com") == 200
        assert await status(server, origin="https://chat.example.com:444") == 403


async def test_without_a_known_token_nobody_gets_through(shared: Config) -> None:
    async with served(shared) as server:
        for token in (OPERATOR, RED, BLUE):
            assert await status(server, token) == 200
        for wrong in (None, "wrong", RED[:-1], f"{RED}x", RED.upper(), "\u00e9" * 20):
            async with server.http(**JSON) as client:
                header = [] if wrong is None else [(b"authorization", f"Bearer {wrong}".encode())]
                request = client.build_request("POST", "/mcp", json=INITIALIZE)
                request.headers.update(header)
                answer = await client.send(request)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Bearer ")
                assert RED not in answer.text
        async with server.http(**JSON, authorization=f"Basic {RED}") as client:
            assert (await client.post("/mcp", json=INITIALIZE)).status_code == 401
        # A foreign host or page is refused before anybody asks for a token.
        assert await status(server, RED, host="evil.example") == 421


async def test_health_and_readiness_need_no_token_and_no_name(
    shared: Config, config: Config
) -> None:
    async with served(shared) as server, server.http(host="10.1.2.3:80") as client:
        answers = [await client.get(path) for path in ("/healthz", "/readyz", "/readyz")]
        assert [(each.status_code, each.text) for each in answers] == [
            (200, "ok\n"), (200, "ready\n"), (200, "ready\n")
        ]  # fmt: skip
        assert (await client.get("/other")).status_code == 404
    async with served(replace(config, engine="/nonexistent")) as server, server.http() as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (
            503,
            "The container engine does not answer.\n",
        )
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_a_large_body_is_refused_unread(config: Config, declared: bool) -> None:
    text = json.dumps({**INITIALIZE, "padding": "x" * 5 * 1024 * 1024}).encode()

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(text), 65_536):
            yield text[start : start + 65_536]

    async with served(config) as server, server.http(**JSON) as client:
        # The server may close the connection while the rest is still being sent.
        with suppress(httpx2.WriteError, httpx2.ReadError, httpx2.RemoteProtocolError):
            answer = await client.post("/mcp", content=text if declared else parts())
            assert answer.status_code == 413
        assert await status(server) == 200


async def test_a_body_that_does_not_come_is_given_up(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.2)
    async with served(config) as server:
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        async with stream:
            head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            await stream.send(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            answer = b"".join([part async for part in stream])
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer


async def test_a_head_that_does_not_come_is_given_up(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)
    async with served(config) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(connections.watch, server.uvicorn.server_state.connections)
        for sent in (b"", b"POST /mcp HTTP/1.1\r\nHo"):
            stream = await anyio.connect_tcp("127.0.0.1", server.port)
            async with stream:
                if sent:
                    await stream.send(sent)
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
        tasks.cancel_scope.cancel()


async def test_a_connection_that_is_kept_waits_for_no_head(config: Config) -> None:
    async with served(config) as server, server.http() as client:
        for _ in range(2):
            assert (await client.get("/healthz")).status_code == 200
            [kept] = server.uvicorn.server_state.connections
            assert isinstance(kept, connections.Connection)
            assert kept.head_since is None
            kept.look(anyio.current_time() + 10 * connections.HEAD_SECONDS)
            assert not kept.transport.is_closing()


REQUESTS = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000


def keep_little(server: Serving) -> None:
    """Have the kernel keep few answers that a client does not read; many are long to make."""
    [[listening]] = [each.sockets for each in server.uvicorn.servers]
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def test_a_client_that_does_not_read_is_given_up(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 0.3)
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)
    async with served(config) as server, anyio.create_task_group() as tasks:
        keep_little(server)
        known = server.uvicorn.server_state.connections
        tasks.start_soon(connections.watch, known)
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        async with stream:
            await fill(stream, REQUESTS)
        while known:
            await anyio.sleep(0.01)
        assert await status(server) == 200
        tasks.cancel_scope.cancel()


async def test_a_client_that_has_just_come_has_time_to_read(config: Config) -> None:
    async with served(config) as server:
        keep_little(server)
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        async with stream, anyio.create_task_group() as tasks:
            tasks.start_soon(fill, stream, REQUESTS)
            known = server.uvicorn.server_state.connections
            with anyio.fail_after(60):
                while not any(each.transport.get_write_buffer_size() for each in known):
                    await anyio.sleep(0.01)
            [connection] = known
            assert isinstance(connection, connections.Connection)
            connection.look(anyio.current_time())
            assert not connection.transport.is_closing()
            connection.transport.abort()
            tasks.cancel_scope.cancel()


async def fill(stream: anyio.abc.SocketStream, requests: bytes) -> None:
    """Send until both sides' buffers are full, and then until the server hangs up."""
    with suppress(anyio.BrokenResourceError):
        while True:
            await stream.send(requests)


async def test_two_hundred_clients_at_once_are_answered_and_leave_nothing(config: Config) -> None:
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answered = []

    async def one(http: httpx2.AsyncClient) -> None:
        begun = await http.post("/mcp", json=INITIALIZE)
        connection = {"mcp-session-id": begun.headers["mcp-session-id"]}
        told = await http.post("/mcp", json=listing, headers=connection)
        answered.append("list_sessions" in told.text)
        assert (await http.delete("/mcp", headers=connection)).status_code == 200

    async with served(config) as server:
        await status(server)
        before = len(os.listdir("/proc/self/fd"))
        unlimited = httpx2.Limits(max_connections=None)
        # One client, because each makes a TLS context; requests at once are as many connections.
        async with (
            httpx2.AsyncClient(
                base_url=server.base, headers=JSON, timeout=60, limits=unlimited
            ) as http,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(200):
                tasks.start_soon(one, http)
        assert answered == [True] * 200
        with anyio.fail_after(60):
            while server.uvicorn.server_state.connections:
                await anyio.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= before
