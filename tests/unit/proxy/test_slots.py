"""Limits on concurrent connections, and fairness among them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_mcp.proxy import exchange, slots
from claude_mcp.proxy.connections import Connection
from claude_mcp.proxy.hosts import Host
from claude_mcp.proxy.policy import Policy
from claude_mcp.proxy.slots import DESCRIPTORS, ConnectionSlots, Slots
from tests.unit.proxy.outside import (
    ANSWER,
    PUBLIC,
    Client,
    Proxy,
    Visit,
    connect,
    exchanges,
    get,
    origin,
    proxy,
    soon,
    until,
)

NAMES = {"a.example": [PUBLIC], "api.example": [PUBLIC]}


def policy(port: int) -> Policy:
    return Policy(
        provider=(Host("api.example", port=port),), allowed=(Host("a.example", port=port),)
    )


class Used(Connection):
    """Of an end, only when it was used."""

    def __init__(self, used: float) -> None:
        self.used = used


async def test_the_longest_idle_connection_is_replaced() -> None:
    now = asyncio.get_running_loop().time()
    room = Slots(2, idle_seconds=30.0)
    first, second, third, fourth = (asyncio.get_running_loop().create_future() for _ in range(4))
    assert room.enter(first, Used(now - 31))
    assert room.enter(second, Used(now - 40))
    assert room.enter(third, Used(now))
    assert (first.cancelled(), second.cancelled()) == (False, True)
    room.leave(second)  # whoever was sent away leaves as well
    assert room.enter(fourth, Used(now))
    assert first.cancelled()
    assert not room.enter(first, Used(now))
    assert [each.cancelled() for each in (third, fourth)] == [False, False]
    room.leave(third)
    assert room.enter(second, Used(now))


async def test_without_an_idle_time_a_connection_is_always_replaced() -> None:
    now = asyncio.get_running_loop().time()
    room = Slots(1, idle_seconds=0.0)
    tasks = [asyncio.get_running_loop().create_future() for _ in range(3)]
    assert all(room.enter(task, Used(now)) for task in tasks)
    assert [task.cancelled() for task in tasks] == [True, True, False]


async def test_a_session_leaves_room_for_others() -> None:
    loop = asyncio.get_running_loop()
    room = Slots(16)

    def takes(session: str, count: int) -> int:
        """How many of these connections get a slot."""
        connection = Used(loop.time())
        return sum(room.enter(loop.create_future(), connection, session) for _ in range(count))

    assert [takes(name, 20) for name in ("a", "b", "c", "d")] == [8, 4, 2, 1]
    assert takes("e", 20) == 1
    assert [takes(name, 1) for name in ("a", "e", "f")] == [0, 0, 0]
    assert room.has_share("a")
    assert not room.has_share("f")


async def test_a_session_with_its_share_replaces_only_its_own_connections() -> None:
    loop = asyncio.get_running_loop()
    room = Slots(4, idle_seconds=30.0)
    own, second, other = (loop.create_future() for _ in range(3))
    assert room.enter(other, Used(loop.time() - 50), "other")
    assert room.enter(own, Used(loop.time() - 40), "one")
    assert room.enter(second, Used(loop.time()), "one")
    assert (own.cancelled(), other.cancelled()) == (True, False)
    assert not room.enter(loop.create_future(), Used(loop.time()), "one")


async def test_a_connection_whose_session_becomes_known_keeps_its_slot() -> None:
    loop = asyncio.get_running_loop()
    room = Slots(2, idle_seconds=30.0)
    first, second = loop.create_future(), loop.create_future()
    assert room.enter(first, Used(loop.time()))
    assert room.enter(second, Used(loop.time()))
    assert room.enter(first, Used(loop.time()), "one")
    assert not room.enter(second, Used(loop.time()), "one")
    assert not room.enter(loop.create_future(), Used(loop.time()), "two")


def few(monkeypatch: pytest.MonkeyPatch, most: int, idle_seconds: float) -> list[ConnectionSlots]:
    """Reduce the number of slots of a session; returns the instances that the server creates."""
    made: list[ConnectionSlots] = []

    class Few(ConnectionSlots):
        def __init__(self, descriptors: int) -> None:
            super().__init__(descriptors)
            # A session gets half of them.
            self.others = Slots(2 * most, idle_seconds)
            self.model = Slots(2 * most, idle_seconds)
            self.beginning = Slots(2 * most, 0.0)
            made.append(self)

    monkeypatch.setattr("claude_mcp.proxy.server.ConnectionSlots", Few)
    return made


async def wait_for_ever(visit: Visit) -> None:
    await visit.hear()


@contextlib.asynccontextmanager
async def opened(made: Proxy, name: str, port: int, count: int) -> AsyncIterator[list[Client]]:
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            client = await stack.enter_async_context(made.client())
            await client.send(get(f"{name}:{port}"))
            assert (await client.decision())["decision"] == "allowed"
            clients.append(client)
        yield clients


async def test_other_connections_do_not_use_the_models_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 3, 30.0)
    async with (
        origin(answer=wait_for_ever) as host,
        proxy(tmp_path, policy(host.port), NAMES) as made,
    ):
        place = f"a.example:{host.port}"
        async with opened(made, "a.example", host.port, 3):
            outcome = await made.ask(get(place))
            assert (outcome.final, outcome.reason) == (
                "failed",
                "this session has too many connections open",
            )
            assert made.asked == ["a.example"] * 3
            async with opened(made, "api.example", host.port, 3):
                assert (await made.ask(connect(f"api.example:{host.port}"))).final == "failed"
        for visit in host.visits:
            visit.writer.close()
        await made.idle()
        async with opened(made, "a.example", host.port, 3):
            for visit in host.visits:
                visit.writer.close()


async def test_an_idle_connection_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 2, 0.0)
    async with (
        origin(answer=wait_for_ever) as host,
        proxy(tmp_path, policy(host.port), NAMES) as made,
    ):
        async with opened(made, "a.example", host.port, 2) as clients:
            clients[0].writer.write(b"x")  # not read any more, as its request is whole
            async with opened(made, "a.example", host.port, 1):
                assert await clients[0].rest() == b""
                await until(lambda: len(list(exchanges())) == 2)
                assert len(await host.heard_so_far(3)) == 3
        for visit in host.visits:
            visit.writer.close()


async def test_silent_connections_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 4, 30.0)
    async with (
        origin() as host,
        proxy(tmp_path, policy(host.port), NAMES) as made,
        contextlib.AsyncExitStack() as stack,
    ):
        silent = [await stack.enter_async_context(made.client()) for _ in range(20)]
        assert (await made.ask(get(f"a.example:{host.port}"))).response == ANSWER
        for client in silent[:16]:
            assert await client.rest() == b""
        assert len(list(exchanges())) <= 4


async def test_refused_connections_still_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or they could take all descriptors while they linger, and with them the room of the model."""
    few(monkeypatch, 3, 30.0)
    async with (
        origin(answer=wait_for_ever) as host,
        proxy(tmp_path, policy(host.port), NAMES) as made,
        opened(made, "a.example", host.port, 3),
    ):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(9):
                client = await stack.enter_async_context(made.client())
                await client.send(get(f"a.example:{host.port}"))
                assert (await client.decision())["decision"] == "failed"
            assert len(list(exchanges())) <= 3 + 3
        for visit in host.visits:
            visit.writer.close()


async def test_watchers_do_not_use_the_slots_of_new_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 4, 30.0)
    async with (
        origin() as host,
        proxy(tmp_path, policy(host.port), NAMES) as made,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(9):
            await stack.enter_async_context(made.client(b'{"watch": true}\n'))
            for _ in range(5):
                await asyncio.sleep(0)
        for _ in range(5):
            assert (await made.ask(get(f"a.example:{host.port}"))).response == ANSWER
        await until(lambda: len(list(exchanges())) == 9)
        await stack.aclose()


@pytest.mark.parametrize(
    ("descriptors", "model", "others"),
    [(DESCRIPTORS, 128, 512), (20_000, 128, 512), (1024, 116, 139), (256, 20, 24)],
)
def test_the_slots_fit_into_the_descriptor_limit(descriptors: int, model: int, others: int) -> None:
    made = ConnectionSlots(descriptors)
    assert (made.model._most, made.others._most) == (model, others)
    used = made.beginning._most + made.watching._most + 2 * (model + others)
    assert used <= descriptors - slots.RESERVED_DESCRIPTORS
    assert made.model._idle_seconds == made.others._idle_seconds == slots.IDLE_SECONDS


async def test_one_session_does_not_keep_another_from_connecting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 3, 30.0)
    async with (
        origin(answer=wait_for_ever) as host,
        proxy(tmp_path, policy(host.port), NAMES) as made,
        contextlib.AsyncExitStack() as stack,
    ):
        half_open = [await stack.enter_async_context(made.client()) for _ in range(12)]
        async with opened(made, "a.example", host.port, 3):
            assert (await made.ask(get(f"a.example:{host.port}"))).final == "failed"
            made.opening = {"session": "another"}
            async with opened(made, "a.example", host.port, 1):
                pass
        assert len(half_open) == 12
        for visit in host.visits:
            visit.writer.close()
        await stack.aclose()


async def test_a_burst_of_connections_does_not_starve_others(tmp_path: Path) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with proxy(tmp_path, policy(1), NAMES) as made:
        await asyncio.sleep(0)
        many = []
        for _ in range(100):
            many.append(socket.socket(socket.AF_UNIX))
            many[-1].connect(made.path)
        running = asyncio.ensure_future(others())
        while len(list(exchanges())) < len(many):
            await asyncio.sleep(0)
        assert turns >= len(many) - 1
        running.cancel()
        for each in many:
            each.close()


PIECE = bytes(65536)
PIECES = 400


async def pour(visit: Visit) -> None:
    """More than is read; ``heard`` counts the pieces that were taken."""
    await visit.hear(b"\r\n\r\n")
    visit.heard.clear()
    await visit.say(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(PIECES):
        await visit.say(PIECE)
        visit.heard += b"."


async def settled(visit: Visit) -> int:
    """How many pieces were taken, when no more are."""
    taken, idle = -1, 0
    while idle < 30:
        await asyncio.sleep(0.001)
        idle = idle + 1 if len(visit.heard) == taken else 0
        taken = len(visit.heard)
    return taken


async def test_data_for_a_stalled_reader_is_not_buffered(tmp_path: Path) -> None:
    async with (
        origin(answer=pour) as host,
        proxy(tmp_path, policy(host.port), NAMES) as made,
        made.client() as client,
    ):
        await client.send(get(f"a.example:{host.port}"))
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        while not host.visits or not host.visits[0].heard:
            await asyncio.sleep(0.001)
        ahead = await settled(host.visits[0])
        assert 0 < ahead < PIECES // 2  # what the systems of both keep
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await client.rest()) > PIECES * len(PIECE)
        assert len(host.visits[0].heard) == PIECES


async def test_downloads_and_a_slow_reader_do_not_stop_the_model(tmp_path: Path) -> None:
    """The model says its words one by one: each after the one before has arrived."""
    words = 6
    arrived = asyncio.Semaphore(1)

    async def speak(visit: Visit) -> None:
        await visit.hear(b"\r\n\r\n")
        if b"api.example" not in visit.heard:
            with contextlib.suppress(ConnectionError):
                while True:
                    await visit.say(PIECE)
        for number in range(words):
            await soon(arrived.acquire())
            await visit.say(b"%d\n" % number)

    received = [0] * 50

    async def download(number: int, client: Client) -> None:
        while data := await client.reader.read(65536):
            received[number] += len(data)

    async with origin(answer=speak) as host, proxy(tmp_path, policy(host.port), NAMES) as made:
        async with opened(made, "a.example", host.port, 51) as clients:
            tasks = [
                asyncio.ensure_future(download(number, client))
                for number, client in enumerate(clients[:50])
            ]
            async with made.client() as model:
                await model.send(get(f"api.example:{host.port}"))
                assert (await model.decision())["decision"] == "allowed"
                before = sum(received)
                for number in range(words):
                    assert await soon(model.reader.readline()) == b"%d\n" % number
                    arrived.release()
            assert sum(received) > before
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for client in clients:
                client.writer.transport.abort()
        await made.idle()


async def test_a_slow_client_gets_no_extra_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "HEAD_SECONDS", 0.1)
    async with proxy(tmp_path, policy(1), NAMES) as made, made.client() as client:
        with contextlib.suppress(ConnectionError):
            for _ in range(10_000):
                await client.send(b"x")
                await asyncio.sleep(0.001)
                if not list(exchanges()):
                    break
        assert not list(exchanges())
        assert await client.rest() == b""
