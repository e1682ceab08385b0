"""Copying between sockets, and how much of it is buffered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest

from claude_mcp.proxy import connections
from claude_mcp.proxy.connections import Connection, ConnectionLost, join, stop
from tests.unit.proxy.outside import soon


@contextlib.asynccontextmanager
async def ends(count: int) -> AsyncIterator[list[tuple[socket.socket, Connection]]]:
    """Sockets, and the ends that are at their other side."""
    pairs = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        pairs.append((ours, Connection(theirs)))
    try:
        yield pairs
    finally:
        for ours, end in pairs:
            ours.close()
            end.close()


async def everything(connection: socket.socket) -> bytes:
    data = bytearray()
    while piece := await soon(asyncio.get_running_loop().sock_recv(connection, 65536)):
        data += piece
    return bytes(data)


async def fill(connection: socket.socket) -> int:
    """Write until nothing is taken any more; returns how much was."""
    sent = idle = 0
    while idle < 20:
        try:
            sent += connection.send(bytes(65536))
            idle = 0
        except BlockingIOError:
            idle += 1
            await asyncio.sleep(0)
    return sent


async def test_unread_bytes_are_read_again() -> None:
    async with ends(1) as [(ours, end)]:
        ours.send(b"one\r\ntwo\r\nrest")
        assert await soon(end.read_until(b"\r\n", 100)) == b"one"
        assert await soon(end.read_until(b"\r\n", 100)) == b"two"
        end.unread(b"the ")
        assert await soon(end.read()) == b"the rest"
        ours.close()
        assert await soon(end.read()) == b""


async def test_a_mark_may_span_several_chunks() -> None:
    async with ends(1) as [(ours, end)]:
        reading = asyncio.ensure_future(end.read_until(b"\r\n\r\n", 100))
        for byte in b"a\r\nb\r\r\n\n\r\n\r\nc":
            ours.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert await soon(reading) == b"a\r\nb\r\r\n\n"
        assert await soon(end.read()) == b"c"


async def test_a_missing_mark_yields_none() -> None:
    async with ends(2) as [(ours, end), (other, long)]:
        ours.send(b"half")
        ours.close()
        assert await soon(end.read_until(b"\n", 100)) is None
        sending = asyncio.ensure_future(fill(other))
        assert await soon(long.read_until(b"\n", 1000)) is None
        assert await soon(sending) > 0


async def test_exactly_the_requested_count_is_copied() -> None:
    async with ends(2) as [(ours, source), (theirs, target)]:
        ours.send(b"12345678")
        await soon(source.copy(target, 5))
        await soon(source.copy(target, 0))
        assert theirs.recv(100) == b"12345"
        assert await soon(source.read()) == b"678"
        ours.send(b"9")
        ours.close()
        with pytest.raises(ConnectionLost):
            await soon(source.copy(target, 2))
        assert theirs.recv(100) == b"9"


async def test_both_directions_continue_until_both_have_ended() -> None:
    async with ends(2) as [(left, left_end), (right, right_end)]:
        joined = asyncio.ensure_future(join(left_end, right_end))
        left.send(b"question")
        left.shutdown(socket.SHUT_WR)
        assert await everything(right) == b"question"
        sent = os.urandom(3_000_000)
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(loop.sock_sendall(right, sent))
        sending.add_done_callback(lambda _: right.shutdown(socket.SHUT_WR))
        assert await everything(left) == sent
        await soon(joined)


@pytest.mark.parametrize("gone", [0, 1])
async def test_a_lost_connection_ends_both_directions(gone: int) -> None:
    async with ends(2) as pairs:
        joined = asyncio.ensure_future(join(pairs[0][1], pairs[1][1]))
        await asyncio.sleep(0)
        pairs[gone][0].close()
        other = pairs[1 - gone][0]
        assert await everything(other) == b""
        with contextlib.suppress(OSError):
            other.send(b"to nobody")
        other.close()
        await soon(joined)


async def test_a_stalled_reader_stalls_its_source() -> None:
    """And what is held for it does not grow with what there is."""
    async with ends(2) as [(ours, source), (theirs, target)]:
        connections = asyncio.ensure_future(source.copy(target))
        held = await fill(ours)
        assert 0 < held < 4_000_000  # what the system keeps of two sockets, and one piece
        taken = 0
        while taken < held:
            taken += len(await soon(asyncio.get_running_loop().sock_recv(theirs, 65536)))
        assert taken == held
        await stop(connections)


async def test_a_fast_pair_does_not_starve_other_tasks() -> None:
    """Others get their turn after each piece, though there is always another to be had."""

    class Endless(Connection):
        async def _receive(self) -> bytes:
            return b"x"

    class Swallowing(Connection):
        async def write(self, data: bytes) -> None:
            pass

    async with ends(2) as [(ours, _), (theirs, _)]:
        source, target = Endless(ours.dup()), Swallowing(theirs.dup())
        connections = asyncio.ensure_future(source.copy(target))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not connections.done()
        lingering = asyncio.ensure_future(source.linger())
        for _ in range(100):
            await asyncio.sleep(0)
        await stop(connections, lingering)
        source.close()
        target.close()


async def test_a_lingering_connection_is_not_reset() -> None:
    async with ends(1) as [(ours, end)]:
        await end.write(b"answer")
        ending = asyncio.ensure_future(end.linger())
        loop = asyncio.get_running_loop()
        for _ in range(50):
            await soon(loop.sock_sendall(ours, bytes(65536)))
        assert await everything(ours) == b"answer"
        assert not ending.done()
        ours.close()
        await soon(ending)


async def test_lingering_is_limited_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.05)
    async with ends(2) as [(_, silent), (ours, flooded)]:
        await soon(silent.linger())
        flooding = asyncio.ensure_future(
            asyncio.get_running_loop().sock_sendall(ours, bytes(1 << 30))
        )
        await soon(flooded.linger())
        await stop(flooding)


async def test_stopped_tasks_have_finished_before_their_sockets_close() -> None:
    async with ends(2) as [(_, left), (_, right)]:
        joined = asyncio.ensure_future(join(left, right))
        await asyncio.sleep(0)
        await stop(joined)
        assert joined.cancelled()
        left.close()
        right.close()
        # Another socket gets their number, and nobody takes it for theirs.
        loop = asyncio.get_running_loop()
        for _ in range(3):
            await asyncio.sleep(0)
        one, other = socket.socketpair()
        one.setblocking(False)
        reading = asyncio.ensure_future(loop.sock_recv(one, 10))
        await asyncio.sleep(0)
        other.send(b"mine")
        assert await soon(reading) == b"mine"
        one.close()
        other.close()


async def test_the_time_of_the_last_use_is_recorded() -> None:
    async with ends(1) as [(ours, end)]:
        end.used = 0.0
        ours.send(b"x")
        await soon(end.read())
        assert end.used > 0
        end.used = 0.0
        await soon(end.write(b"y"))
        assert end.used > 0
