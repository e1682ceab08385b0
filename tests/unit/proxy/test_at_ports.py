"""A proxy that sessions reach by its address, at a port of all addresses."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from claude_mcp.proxy import connections, server
from claude_mcp.proxy.connections import connect_to, listen_at
from claude_mcp.proxy.policy import Policy
from tests.unit.proxy.outside import closed_port, soon


async def test_a_port_that_is_only_there_to_be_denied_ends_each_connection() -> None:
    with listen_at(0) as listener:
        serving = asyncio.ensure_future(server.hang_up(listener))
        try:
            for address in ("127.0.0.1", "127.0.0.2"):
                end = await soon(connect_to(address, listener.getsockname()[1]))
                assert await soon(end.read()) == b""
                end.close()
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def test_both_ports_are_served(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[socket.socket] = []

    def listen() -> socket.socket:
        made.append(listen_at(0))
        return made[-1]

    monkeypatch.setattr(server, "listen_at", lambda port: listen())
    running: list[asyncio.Future[None]] = []
    monkeypatch.setattr(asyncio, "run", lambda main: running.append(asyncio.ensure_future(main)))
    server.main_at_ports(Policy().to_json())
    try:
        denied, allowed = (each.getsockname()[1] for each in made)
        assert capsys.readouterr().out == "ready\n"
        end = await soon(connect_to("127.0.0.1", denied))
        assert await soon(end.read()) == b""
        end.close()
        end = await soon(connect_to("127.0.0.1", allowed))
        await soon(end.write(b'{"session": "mine"}\nGET http://a.example/ HTTP/1.1\r\n\r\n'))
        assert b'"decision": "refused"' in await soon(end.read())
        end.close()
    finally:
        for each in running:
            each.cancel()
        await asyncio.wait(running)
        for one in made:
            one.close()


async def test_an_address_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = full.getsockname()
        for _ in range(5):  # fill its queue
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.05)
        with pytest.raises(OSError, match="does not answer"):
            await soon(connect_to(*address))
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 60.0)
    with closed_port("127.0.0.1") as port, pytest.raises(ConnectionRefusedError):
        await soon(connect_to("127.0.0.1", port))
