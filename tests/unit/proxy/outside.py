"""A real proxy between clients and hosts that record everything they receive."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_mcp.proxy import connections, server
from claude_mcp.proxy.connector import Resolve
from claude_mcp.proxy.policy import Policy

PATIENCE_SECONDS = 60.0
PUBLIC = "127.0.0.2"
"""A loopback address that stands for a public one."""
INSIDE = "127.0.0.3"
ANSWER = b"HTTP/1.1 200 OK\r\n\r\nhello"
ANSWER_TO_TLS = b"\x16 a ServerHello"

Told = dict[str, Any]
T = Any


async def soon(waiting: Awaitable[T]) -> T:
    """Await with a timeout, so that a hanging test fails."""
    return await asyncio.wait_for(waiting, PATIENCE_SECONDS)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something in this process is so."""

    async def become() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await soon(become())


@dataclass
class Visit:
    """A connection that reached a host."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heard: bytearray

    async def hear(self, until: bytes | None = None) -> bytes:
        """Everything received up to ``until`` or the end of the stream."""
        while until is None or until not in self.heard:
            data = await self.reader.read(65536)
            if not data:
                break
            self.heard += data
        return bytes(self.heard)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Answer = Callable[[Visit], Awaitable[None]]


async def greet(visit: Visit) -> None:
    """Answer a request or a ClientHello once, then only receive."""
    visit.heard += await visit.reader.read(1)
    if visit.heard == b"\x16":
        visit.heard += await visit.reader.read(65536)
        await visit.say(ANSWER_TO_TLS)
    elif b"\r\n\r\n" in await visit.hear(b"\r\n\r\n"):
        await visit.say(ANSWER)
    with contextlib.suppress(OSError):
        visit.writer.write_eof()
    await visit.hear()


class Origin:
    """A host on the other side of the proxy."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.visits: list[Visit] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def heard(self, visits: int = 0) -> list[bytes]:
        """The data of each connection, once all have ended, which are at least so many."""
        await self.heard_so_far(visits)
        if self.tasks:
            _, left = await asyncio.wait(list(self.tasks), timeout=PATIENCE_SECONDS)
            assert not left, "a connection to a host is still open"
        return await self.heard_so_far(visits)

    async def heard_so_far(self, visits: int = 0) -> list[bytes]:
        for _ in range(10):
            await asyncio.sleep(0)  # what is there already is taken
        await until(lambda: len(self.visits) >= visits)  # whoever has connected is told of later
        return [bytes(visit.heard) for visit in self.visits]

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        visit = Visit(reader, writer, bytearray())
        self.visits.append(visit)
        try:
            with contextlib.suppress(ConnectionError):
                await self._answer(visit)
        except asyncio.CancelledError:
            pass  # the host is closed
        finally:
            self.tasks.discard(task)
            with contextlib.suppress(OSError):
                writer.close()
                await writer.wait_closed()


@contextlib.contextmanager
def closed_port(address: str = PUBLIC) -> Iterator[int]:
    """A port that refuses every connection, and that nobody else can have meanwhile."""
    with socket.socket() as held:
        held.bind((address, 0))
        yield held.getsockname()[1]


@contextlib.asynccontextmanager
async def origin(
    address: str = PUBLIC,
    answer: Answer = greet,
    *,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Origin]:
    host = Origin(answer)
    listener = await asyncio.start_server(host.receive, address, port, ssl=tls)
    host.port = listener.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        listener.close()
        tasks = list(host.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await soon(asyncio.wait(tasks))


class Client:
    """One connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await soon(self.writer.drain())

    async def decision(self) -> Told:
        said: Told = json.loads(await soon(self.reader.readline()))
        return said

    async def rest(self) -> bytes:
        """Everything until the proxy closes the connection."""
        data = bytearray()
        with contextlib.suppress(ConnectionError):
            while piece := await soon(self.reader.read(65536)):
                data += piece
        return bytes(data)


@dataclass
class Outcome:
    """The outcome of one conversation."""

    decisions: list[Told]
    response: bytes

    @property
    def final(self) -> str:
        return str(self.decisions[-1]["decision"]) if self.decisions else "none"

    @property
    def reason(self) -> str:
        return str(self.decisions[-1].get("reason", ""))


@dataclass
class Proxy:
    path: str
    told: list[Told] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """The names that were resolved."""
    opening: Told = field(default_factory=lambda: {"session": "mine"})

    @contextlib.asynccontextmanager
    async def client(self, opening: bytes | None = None) -> AsyncIterator[Client]:
        reader, writer = await soon(asyncio.open_unix_connection(self.path))
        try:
            line = json.dumps(self.opening).encode() + b"\n" if opening is None else opening
            writer.write(line)
            yield Client(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ask(self, *pieces: bytes, opening: bytes | None = None) -> Outcome:
        """Send these pieces, close the writing side, and return the answer."""
        async with self.client(opening) as client:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    await client.send(piece)
                client.writer.write_eof()
            return read_outcome(await client.rest())

    async def idle(self) -> None:
        """Wait until no exchange is running."""
        if running := list(exchanges()):
            _, left = await asyncio.wait(running, timeout=PATIENCE_SECONDS)
            assert not left, "an exchange goes on although its client is gone"


def exchanges() -> Iterator[asyncio.Task[Any]]:
    for task in asyncio.all_tasks():
        if getattr(task.get_coro(), "__qualname__", "") == "Exchange.run":
            yield task


def read_outcome(data: bytes) -> Outcome:
    decisions = []
    while data.startswith(b'{"decision"'):
        line, _, data = data.partition(b"\n")
        decisions.append(json.loads(line))
        if decisions[-1]["decision"] != "tunnel":
            break
    return Outcome(decisions, data)


@contextlib.contextmanager
def nothing_escapes() -> Iterator[None]:
    """Fails if a task ends in an exception that nobody looks at.

    The loop says so too, but not before the task is collected.
    """
    loop = asyncio.get_running_loop()
    made: list[asyncio.Task[Any]] = []

    def escaped(task: asyncio.Task[Any]) -> bool:
        return task.done() and task._log_traceback

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> Any:
        if len(made) > 1000:
            made[:] = [task for task in made if escaped(task) or not task.done()]
        made.append(asyncio.Task(coroutine, loop=loop, **more))
        return made[-1]

    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    yield
    loop.set_task_factory(before)
    for task in filter(escaped, made):
        raise AssertionError("an exception escaped from a task") from task.exception()


@contextlib.asynccontextmanager
async def proxy(
    directory: Path, policy: Policy, names: Mapping[str, Sequence[str]] | Resolve
) -> AsyncIterator[Proxy]:
    """A proxy that resolves these names; fails if an exception escaped in it."""
    made = Proxy(str(directory / "proxy"))

    async def resolve(name: str, port: int) -> Sequence[str]:
        made.asked.append(name)
        return names[name] if isinstance(names, Mapping) else await names(name, port)

    listener = connections.listen(made.path)
    serving = asyncio.ensure_future(
        server.serve(listener, policy, resolve, lambda each: made.told.append(dict(each)))
    )
    with nothing_escapes():
        try:
            yield made
            await made.idle()
        finally:
            for task in (serving, *exchanges()):
                task.cancel()
                await asyncio.wait([task])
            listener.close()


def get(host: str, path: str = "/", *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} http://{host}{path} HTTP/1.1", *fields, "", ""]).encode()


def connect(host: str, *fields: str) -> bytes:
    return "\r\n".join([f"CONNECT {host} HTTP/1.1", *fields, "", ""]).encode()


def client_hello(name: str | None) -> bytes:
    """The ClientHello of a real TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    said = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), said, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return said.read()
