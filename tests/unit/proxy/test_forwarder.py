"""The forwarder between a session's programs and the proxy, including failures of both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.proxy import forwarder
from claude_mcp.proxy.forwarder import ESTABLISHED, UNREACHABLE, Forwarder
from claude_mcp.proxy.hosts import Host
from claude_mcp.proxy.policy import Policy
from tests.unit.proxy.outside import (
    ANSWER,
    ANSWER_TO_TLS,
    PUBLIC,
    Client,
    Visit,
    client_hello,
    connect,
    get,
    nothing_escapes,
    origin,
    proxy,
    soon,
    until,
)

ROOT = Path(__file__).parents[3]
PROGRAM = (
    # How slow this machine is, asyncio would tell as well.
    "import logging, sys; logging.getLogger('asyncio').setLevel(logging.ERROR); "
    "from claude_mcp.proxy.forwarder import main; main(int(sys.argv[1]), sys.argv[2])"
)
REFUSED = b'{"decision": "refused", "host": "a.example", "port": 443, "reason": "no"}\n'
ALLOWED = b'{"decision": "allowed"}\n'
TUNNEL = b'{"decision": "tunnel"}\n'

Script = Callable[[dict[str, Any], Client], Awaitable[None]]


class Scripted:
    """A proxy that answers as it is told; it can go and come back."""

    def __init__(self, path: str, script: Script) -> None:
        self._path = path
        self._script = script
        self._server: asyncio.Server | None = None
        self.watchers = 0
        """How many connections that only watch there have been."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.openings: list[dict[str, Any]] = []
        self.problems: list[BaseException] = []

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)  # newer versions do it themselves
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = Client(reader, writer)
        try:
            with contextlib.suppress(ConnectionError):
                opening = await client.decision()
                if "watch" in opening:
                    self.watchers += 1
                    await reader.read()
                else:
                    self.openings.append(opening)
                    await self._script(opening, client)
        except asyncio.CancelledError:
            pass  # the proxy is gone
        except Exception as error:
            self.problems.append(error)
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def scripted(path: Path, *said: bytes) -> AsyncIterator[Scripted]:
    """One that reads a head, and says that."""

    async def script(_: dict[str, Any], client: Client) -> None:
        try:
            await soon(client.reader.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        for piece in said:
            await client.send(piece)

    made = Scripted(str(path), script)
    await made.start()
    try:
        yield made
        assert made.problems == []
    finally:
        await made.stop()


@contextlib.asynccontextmanager
async def program(port: int) -> AsyncIterator[Client]:
    """A program in the session."""
    reader, writer = await soon(asyncio.open_connection("127.0.0.1", port))
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(port: int, *pieces: bytes) -> bytes:
    async with program(port) as client:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                await client.send(piece)
        return await client.rest()


class Told:
    """What the forwarder tells its agent."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def __call__(self, fields: dict[str, Any]) -> None:
        self.said.append(dict(fields))

    async def hear(self, *expected: dict[str, Any]) -> None:
        await until(lambda: len(self.said) >= len(expected))
        assert self.said[: len(expected)] == list(expected)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    made = Told()
    monkeypatch.setattr(forwarder, "report", made)
    monkeypatch.setattr(forwarder, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(forwarder, "PATIENCE_SECONDS", 60.0)
    return made


@contextlib.asynccontextmanager
async def forwarding(path: Path | str) -> AsyncIterator[int]:
    """A forwarder in this process; no exception may be left in a task of it."""
    before = asyncio.all_tasks()
    with nothing_escapes(), socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.ensure_future(Forwarder(str(path), {"session": "mine"}).serve(listener))
        try:
            yield listener.getsockname()[1]
        finally:
            for task in asyncio.all_tasks() - before:
                if getattr(task.get_coro(), "__qualname__", "").startswith("Forwarder."):
                    task.cancel()
                    await asyncio.wait([task])
            assert serving.cancelled()


async def test_a_proxy_that_has_another_address_is_found_there(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted(tmp_path / "socket", ALLOWED, ANSWER) as made:
        async with await asyncio.start_server(made._serve, "127.0.0.1", 0) as server:
            monkeypatch.setattr(forwarder, "PORT", server.sockets[0].getsockname()[1])
            opening = {"session": "mine", "address": "127.0.0.2"}
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.setblocking(False)
                moving = Forwarder("/nowhere", opening)
                serving = asyncio.ensure_future(moving.serve(listener))
                await told.hear({"proxy": False})
                asked = asyncio.ensure_future(ask(listener.getsockname()[1], get("a.example")))
                moving.open_with({**opening, "address": "127.0.0.1"})
                assert await soon(asked) == ANSWER
                await told.hear({"proxy": False}, {"proxy": True})
                serving.cancel()
                for task in asyncio.all_tasks():
                    if getattr(task.get_coro(), "__qualname__", "").startswith("Forwarder."):
                        task.cancel()
                        await asyncio.wait([task])
        assert made.openings == [{"session": "mine"}]


async def test_a_tunnel_and_a_plain_request_through_a_real_proxy(
    tmp_path: Path, told: Told
) -> None:
    names = {"a.example": [PUBLIC]}
    async with origin() as host:
        policy = Policy(allowed=(Host("a.example", port=host.port),))
        place = f"a.example:{host.port}"
        async with proxy(tmp_path, policy, names) as made, forwarding(made.path) as port:
            async with program(port) as client:
                await client.send(connect(place))
                assert await soon(client.reader.readexactly(len(ESTABLISHED))) == ESTABLISHED
                await client.send(client_hello("a.example"))
                assert await client.rest() == ANSWER_TO_TLS
            assert await ask(port, get(place)) == ANSWER
            assert b"allowedHosts" in await ask(port, get("b.example"))
            assert (await ask(port, connect("b.example:443"))).startswith(b"HTTP/1.1 403 ")
            other = await ask(port, connect(place), client_hello("b.example"))
            assert other.startswith(ESTABLISHED + b"\x15")
    assert told.said[0] == {"proxy": True}
    assert [each.get("host") for each in told.said[1:]] == ["b.example", "b.example", "a.example"]
    assert [each["session"] for each in made.told] == ["mine"] * 5


async def test_a_refusal_is_reported_before_the_client_sees_it(tmp_path: Path, told: Told) -> None:
    async with (
        scripted(tmp_path / "proxy", REFUSED, b"HTTP/1.1 403 No\r\n\r\n"),
        forwarding(tmp_path / "proxy") as port,
        program(port) as client,
    ):
        await client.send(connect("a.example:443"))
        assert await soon(client.reader.read(1)) == b"H"
        assert told.said[-1] == json.loads(REFUSED)
        assert await client.rest() == b"TTP/1.1 403 No\r\n\r\n"


async def test_only_refusals_are_reported(tmp_path: Path, told: Told) -> None:
    failed = b'{"decision": "failed", "reason": "x"}\n'
    async with (
        scripted(tmp_path / "proxy", TUNNEL, failed, b"rest"),
        forwarding(tmp_path / "proxy") as port,
    ):
        assert await ask(port, connect("a.example:443")) == ESTABLISHED + b"rest"
        await told.hear({"proxy": True})
    assert told.said == [{"proxy": True}]


async def test_a_request_waits_for_a_restarting_proxy(tmp_path: Path, told: Told) -> None:
    async with (
        scripted(tmp_path / "proxy", ALLOWED, b"answer") as made,
        forwarding(tmp_path / "proxy") as port,
    ):
        await told.hear({"proxy": True})
        await until(lambda: made.watchers)  # one that is just being accepted, nothing would end
        await made.stop()
        await told.hear({"proxy": True}, {"proxy": False})
        waiting = asyncio.ensure_future(ask(port, get("a.example")))
        await asyncio.sleep(0.03)
        assert not waiting.done()
        await made.start()
        assert await soon(waiting) == b"answer"
        await told.hear({"proxy": True}, {"proxy": False}, {"proxy": True})


async def test_a_proxy_that_stays_away_is_reported_to_the_client(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "PATIENCE_SECONDS", 0.02)
    async with forwarding(tmp_path / "proxy") as port:
        assert await ask(port, get("a.example")) == UNREACHABLE
        assert await ask(port, connect("a.example:443")) == UNREACHABLE
        assert told.said == [{"proxy": False}]


async def test_a_request_ends_when_its_proxy_breaks_off(tmp_path: Path, told: Told) -> None:
    async with scripted(tmp_path / "proxy") as made, forwarding(tmp_path / "proxy") as port:
        assert await ask(port, get("a.example")) == b""
        async with program(port) as client:
            await client.send(b"GET")  # and the proxy waits for the rest of it
            while len(made.openings) < 2:
                await asyncio.sleep(0.001)
            await made.stop()
            assert await client.rest() == b""


async def test_a_client_that_vanishes_ends_its_connection_to_the_proxy(
    tmp_path: Path, told: Told
) -> None:
    ended = asyncio.Event()

    async def endless(_: dict[str, Any], client: Client) -> None:
        try:
            await client.send(ALLOWED)
            while True:
                await client.send(bytes(65536))
        finally:
            ended.set()

    made = Scripted(str(tmp_path / "proxy"), endless)
    await made.start()
    async with forwarding(tmp_path / "proxy") as port:
        async with program(port) as client:
            await client.send(get("a.example"))
            assert await soon(client.reader.read(1)) == b"\0"
            client.writer.transport.abort()
        await soon(ended.wait())
    await made.stop()


class Process:
    """A forwarder as it runs in a session."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    def hand_in(self, opening: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(opening).encode() + b"\n")

    async def end(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        code: int = await soon(self._process.wait())
        return code


@contextlib.asynccontextmanager
async def process(path: Path, stdout: int) -> AsyncIterator[Process]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, str(listener.fileno()), str(path),
            stdin=-1, stdout=stdout, stderr=-1, pass_fds=[listener.fileno()],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDEVMODE": "1"},
        )  # fmt: skip
    made = Process(started, port)
    made.hand_in({"session": "first"})
    try:
        yield made
        assert await made.end() == 0
        assert started.stderr is not None
        assert await soon(started.stderr.read()) == b""
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def test_the_forwarder_works_as_a_process(tmp_path: Path) -> None:
    """Told on stdout in time; a new opening from stdin; garbage does no harm; ends with stdin."""
    stdout, theirs = os.pipe()

    def line() -> dict[str, Any]:
        """What is there already: nothing is waited for."""
        assert select.select([stdout], [], [], 0)[0]
        said: dict[str, Any] = json.loads(os.read(stdout, 65536).splitlines()[-1])
        return said

    async with (
        scripted(tmp_path / "proxy", REFUSED, b"x") as made,
        process(tmp_path / "proxy", theirs) as running,
    ):
        os.close(theirs)
        for _ in range(3):
            async with program(running.port) as client:
                await client.send(get("a.example"))
                assert await soon(client.reader.read(1)) == b"x"
                assert line() == json.loads(REFUSED)
        for garbage in (b"", b"\0" * 1000, b"\r\n\r\n", os.urandom(100_000)):
            async with program(running.port) as client:
                with contextlib.suppress(ConnectionError):
                    await client.send(garbage)
                client.writer.transport.abort()
        running.hand_in({"session": "second", "http": "Basic x"})
        while made.openings[-1] == {"session": "first"}:
            assert await ask(running.port, get("a.example")) == b"x"
        assert made.openings[-1] == {"session": "second", "http": "Basic x"}
        os.read(stdout, 65536)
        await made.stop()
        said = b""  # what was refused to the garbage may come before
        while b'"proxy"' not in said:
            assert select.select([stdout], [], [], 60)[0]
            said += os.read(stdout, 65536)
        assert said.endswith(b'{"proxy": false}\n')
    assert os.read(stdout, 1) == b""
    os.close(stdout)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\n", b"what\n", b"3\n", b"null\n", b"[]\n", b"{}\n", b'{"decision": 1}\n', b"\xff\n",
     b'{"decision": {}}\n', b'{"decision": "refused"', b"[" * 5_000 + b"\n", b"x" * 100_000,
     TUNNEL, TUNNEL + b"what\n", TUNNEL + TUNNEL],
)  # fmt: skip
async def test_a_malformed_decision_ends_the_connection(
    tmp_path: Path, told: Told, garbage: bytes
) -> None:
    async with (
        scripted(tmp_path / "proxy", garbage) as made,
        forwarding(tmp_path / "proxy") as port,
    ):
        for _ in range(2):
            assert await ask(port, get("a.example")) in (b"", ESTABLISHED)
        assert len(made.openings) == 2
    assert told.said in ([], [{"proxy": True}])


async def test_a_response_may_precede_the_end_of_the_request(tmp_path: Path, told: Told) -> None:
    async def answer_early(visit: Visit) -> None:
        await visit.hear(b"\r\n\r\n")
        await visit.say(ANSWER + bytes(100_000))

    async with origin(answer=answer_early) as host:
        policy = Policy(allowed=(Host("a.example", port=host.port),))
        async with (
            proxy(tmp_path, policy, {"a.example": [PUBLIC]}) as made,
            forwarding(made.path) as port,
        ):
            request = get(f"a.example:{host.port}", "/", "Content-Length: 9000000")
            for _ in range(5):
                assert await ask(port, request, bytes(9_000_000)) == ANSWER + bytes(100_000)
