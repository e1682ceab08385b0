"""The way into a session: visitors of a published port, and servers on the session's loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from claude_mcp.ports import outside
from claude_mcp.ports.inside import Inside
from claude_mcp.ports.outside import Outside
from claude_mcp.proxy import connections
from claude_mcp.proxy.connections import listen

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 60.0
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Way:
    """A published port, and the Unix socket at which the session may wait for visitors."""

    def __init__(self, path: str, address: tuple[str, int]) -> None:
        self.path = path
        self.address = address

    @contextlib.asynccontextmanager
    async def session(self, *ports: int, most: int = 16) -> AsyncIterator[None]:
        """The session's side runs as long as the block."""
        serving = asyncio.ensure_future(Inside(self.path, ports, most).serve())
        try:
            yield
        finally:
            await ended(serving)

    async def visit(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    async def answer(self, request: bytes) -> bytes:
        """All that a visitor reads after it has sent a request and has ended its side."""
        reader, writer = await self.visit()
        writer.write(request)
        writer.write_eof()
        with contextlib.closing(writer):
            return await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)


async def ended(task: asyncio.Future[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@contextlib.asynccontextmanager
async def way_to(path: Path, port: int, most_visitors: int = 16) -> AsyncIterator[Way]:
    """A way to this port of a session."""
    made = Outside(most_visitors)
    visitors = socket.create_server(("127.0.0.1", 0))
    sessions = listen(str(path / "socket"))
    serving = asyncio.ensure_future(made.serve(sessions, {port: visitors}))
    try:
        yield Way(str(path / "socket"), visitors.getsockname())
    finally:
        await ended(serving)
        visitors.close()
        sessions.close()


@contextlib.asynccontextmanager
async def server(serve: Serve, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server on the loopback; its port."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await serve(reader, writer)

    listening = await asyncio.start_server(served, host, 0)
    async with listening:
        port: int = listening.sockets[0].getsockname()[1]
        yield port


async def reverse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers when the request has ended."""
    request = await reader.read()
    writer.write(request[::-1])
    await writer.drain()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is given up on a busy machine, unless a test says otherwise."""
    monkeypatch.setattr(outside, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(connections, "LINGER_SECONDS", PATIENCE_SECONDS)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
async def test_a_visitor_reaches_a_server_on_the_loopback(tmp_path: Path, host: str) -> None:
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    request = bytes(range(256)) * 4096
    async with server(reverse, host) as port, way_to(tmp_path, port) as way, way.session(port):
        assert await way.answer(request) == request[::-1]


async def test_a_connection_stays_open_as_long_as_both_want(tmp_path: Path) -> None:
    async with server(echo) as port, way_to(tmp_path, port) as way, way.session(port):
        reader, writer = await way.visit()
        for number in range(100):
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
        writer.close()


async def test_many_visitors_are_served_although_few_may_enter_at_once(tmp_path: Path) -> None:
    async with server(reverse) as port, way_to(tmp_path, port, 3) as way, way.session(port, most=4):
        answers = await asyncio.gather(*(way.answer(b"%d" % n) for n in range(50)))
    assert answers == [(b"%d" % n)[::-1] for n in range(50)]


async def test_a_port_without_a_server_closes_the_connection(tmp_path: Path) -> None:
    with socket.socket() as held:  # so that nobody else gets the port
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        async with way_to(tmp_path, port) as way, way.session(*range(1, 65536)):
            assert await way.answer(b"") == b""


async def test_the_session_connects_to_its_published_ports_only(tmp_path: Path) -> None:
    async with server(reverse) as port, way_to(tmp_path, port) as way, way.session(port + 1):
        assert await way.answer(b"") == b""


async def test_a_visitor_waits_for_a_session_that_is_restarted(tmp_path: Path) -> None:
    async with server(reverse) as port, way_to(tmp_path, port) as way:
        async with way.session(port):
            assert await way.answer(b"ab") == b"ba"
        # What waited is gone, and the outside does not know it yet.
        answer = asyncio.ensure_future(way.answer(b"cd"))
        async with way.session(port):
            assert await answer == b"dc"


async def test_a_visitor_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "PATIENCE_SECONDS", 0.01)
    async with way_to(tmp_path, 3000) as way:
        assert await way.answer(b"") == b""


@pytest.mark.parametrize("said", [b"", b"x", b"-", b"+", b"+forged"])
async def test_a_hostile_session_decides_only_what_the_visitor_reads(
    tmp_path: Path, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if said[:1] not in (b"+", b"-"):  # then another connection of the session is waited for
        monkeypatch.setattr(outside, "PATIENCE_SECONDS", 1.0)
    async with way_to(tmp_path, 3000) as way:
        reader, writer = await asyncio.open_unix_connection(way.path)
        answer = asyncio.ensure_future(way.answer(b""))
        assert await reader.readline() == b"3000\n"
        writer.write(said)
        writer.close()
        assert await answer == said[1:].replace(b"x", b"") * (said[:1] == b"+")


async def test_a_session_may_keep_a_limited_number_of_connections_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "MOST_WAITING", 2)
    async with way_to(tmp_path, 3000) as way:
        ends = [await asyncio.open_unix_connection(way.path) for _ in range(3)]
        assert await ends[0][0].read() == b""
        answer = asyncio.ensure_future(way.answer(b""))
        assert await ends[2][0].readline() == b"3000\n"
        ends[2][1].write(b"+latest")
        ends[2][1].write_eof()
        assert await answer == b"latest"
        for _, writer in ends:
            writer.close()


@pytest.mark.parametrize(
    ("peer", "enters"),
    [("127.0.0.1", True), ("10.0.0.2", True), ("10.0.0.1", True), ("10.0.0.3", False)],
)
async def test_only_the_host_may_visit(
    peer: str, enters: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    class Visitor(socket.socket):
        def getpeername(self) -> tuple[str, int]:
            return peer, 50000

        def getsockname(self) -> tuple[str, int]:
            return "10.0.0.2", 20000

    made = Outside(gateway="10.0.0.1")
    with Visitor() as visitor:
        assert [made._may_enter(visitor), made._may_enter(visitor)] == [enters, enters]
    assert capsys.readouterr().out == ("" if enters else '{"refused": "10.0.0.3"}\n')


ROUTES = "Iface\tDestination\tGateway \tFlags\neth0\t000011AC\t00000000\t1\n"
DEFAULT = "eth0\t00000000\t010011AC\t3\n"


@pytest.mark.parametrize(
    ("routes", "expected"),
    [(ROUTES + DEFAULT, "172.17.0.1"), (ROUTES, None), ("", None), (ROUTES + "x\n", None)],
)
def test_the_gateway_is_that_of_the_default_route(
    tmp_path: Path, routes: str, expected: str | None
) -> None:
    file = tmp_path / "route"
    file.write_text(routes)
    assert outside.gateway(str(file)) == expected


async def test_the_agents_forwarder_comes_back_and_ends_with_the_agent(tmp_path: Path) -> None:
    async with server(reverse) as port, way_to(tmp_path, port) as way:
        program = (
            "import sys; from claude_mcp.agent.network import ports; "
            "ports.start([int(sys.argv[1])], sys.argv[2]); sys.stdin.read()"
        )
        agent = subprocess.Popen(
            [sys.executable, "-c", program, str(port), way.path],
            cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with agent:
            assert await way.answer(b"ab") == b"ba"
            subprocess.run(["pkill", "-KILL", "-P", str(agent.pid)], check=True)
            assert await way.answer(b"cd") == b"dc"
            assert agent.stdin is not None
            agent.stdin.close()
            assert agent.stderr is not None
            said = await asyncio.to_thread(agent.stderr.read)
        assert said == "the forwarder to published ports ended, exit code -9\n"
