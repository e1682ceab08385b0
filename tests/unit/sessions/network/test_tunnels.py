"""Ports of this machine that lead to a session on another one."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, cast

import anyio
import pytest

from claude_mcp.engine import process
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.engine.engine import Engine
from claude_mcp.sessions.network.forwarding import Forwarding, Published
from claude_mcp.sessions.network.tunnels import Tunnels
from tests.ports import reserved_port

pytestmark = pytest.mark.anyio


class Far:
    """An engine whose sessions' loopback is our own."""

    def __init__(self, *, over_network: bool = True) -> None:
        self.dialect = replace(DOCKER, over_network=over_network)
        self.execs = 0

    @asynccontextmanager
    async def exec(
        self, ref: str, command: Sequence[str], *, exit_grace: float
    ) -> AsyncIterator[process.Stream]:
        assert (ref, command[0]) == ("container", "python3")
        self.execs += 1
        argv = (sys.executable, *command[1:])
        async with process.open_stream(argv, exit_grace=exit_grace) as stream:
            yield stream


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that answers each connection with what it was sent, in capitals."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    said = b""
                    while data := connection.recv(65536):
                        said += data
                    connection.sendall(said.upper())

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


async def said(port: int, words: bytes) -> bytes:
    with anyio.fail_after(60):
        while True:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port)
                break
            except OSError:
                await anyio.lowlevel.checkpoint()
        async with stream:
            await stream.send(words)
            await stream.send_eof()
            heard = b""
            with suppress(anyio.EndOfStream):
                while True:
                    heard += await stream.receive()
            return heard


def forwarding(port: int, host_port: int | None) -> Forwarding:
    return Forwarding("0011", "image", (Published(port, host_port),))


async def test_each_visitor_of_our_port_reaches_the_session(echo: int) -> None:
    engine = Far()
    with reserved_port() as ours:
        async with anyio.create_task_group() as tasks:
            tunnels = Tunnels(cast(Engine, engine), tasks)
            for _ in range(2):  # opened once
                tunnels.ensure("container", forwarding(echo, ours))
            words = b"from here " * 50_000
            assert await said(ours, words) == words.upper()
            assert await said(ours, b"again") == b"AGAIN"
            tunnels.close("container")
            tunnels.close("container")
        assert engine.execs == 2
        with pytest.raises(OSError, match="attempts failed"):
            await anyio.connect_tcp("127.0.0.1", ours)


async def test_a_visitor_of_a_port_without_a_server_is_sent_away() -> None:
    with reserved_port() as theirs, reserved_port() as ours:
        async with anyio.create_task_group() as tasks:
            tunnels = Tunnels(cast(Engine, Far()), tasks)
            tunnels.ensure("container", forwarding(theirs, ours))
            assert await said(ours, b"x") == b""
            tunnels.close("container")


@pytest.mark.parametrize(
    ("over_network", "ports"),
    [(False, forwarding(1, 2)), (True, None), (True, forwarding(1, None))],
)
async def test_nothing_is_opened_that_the_engine_publishes_here_or_that_is_not_published(
    over_network: bool, ports: Forwarding | None
) -> None:
    async with anyio.create_task_group() as tasks:
        Tunnels(cast(Any, Far(over_network=over_network)), tasks).ensure("container", ports)


async def test_a_port_that_is_taken_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with anyio.create_task_group() as tasks:
            tunnels = Tunnels(cast(Engine, Far()), tasks)
            tunnels.ensure("container", forwarding(1, taken.getsockname()[1]))
    assert not [each for each in caplog.records if each.levelname == "WARNING"]
