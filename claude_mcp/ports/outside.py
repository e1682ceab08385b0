"""Accepts visitors at published ports and hands each to a waiting connection of the session.

Runs on Python 3.9. A session is hostile: it decides what visitors read, and nothing else. The
outside never opens a connection, so a session without a network gets none through it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import resource
import socket
import sys
from collections.abc import Mapping, Sequence

from claude_mcp.ports import FIRST_PORT, OPEN, READY, REFUSED
from claude_mcp.proxy.connections import (
    BACKLOG,
    Connection,
    ConnectionLost,
    listen,
    pass_on,
    stop,
)

MOST_VISITORS = 512
MOST_WAITING = 64
"""Connections of the session that wait for visitors; the oldest of more are closed."""
RESERVED_DESCRIPTORS = 32
PATIENCE_SECONDS = 10.0
"""How long a visitor waits for the session, which may just be restarted."""
PAUSE_SECONDS = 0.1


class Outside:
    """``gateway`` is the address by which the host's own connections arrive, if it is known."""

    def __init__(self, most_visitors: int = MOST_VISITORS, gateway: str | None = None) -> None:
        self._slots = asyncio.Semaphore(most_visitors)
        self._gateway = gateway
        self._refused: set[str] = set()
        self._waiting: collections.deque[Connection] = collections.deque()
        self._came = asyncio.Event()
        self._tasks: set[asyncio.Future[None]] = set()

    async def serve(self, session: socket.socket, ports: Mapping[int, socket.socket]) -> None:
        """Serve until cancelled: a listener for the session, and one for each of its ports."""
        for listener in (session, *ports.values()):
            listener.setblocking(False)
        try:
            await asyncio.gather(
                self._admit_session(session),
                *(self._admit_visitors(listener, port) for port, listener in ports.items()),
            )
        finally:
            await stop(*self._tasks)
            while self._waiting:
                self._waiting.pop().close()

    async def _admit_session(self, listener: socket.socket) -> None:
        """Collect the session's connections from its Unix socket, until cancelled."""
        while True:
            self._waiting.append(Connection(await self._accept(listener)))
            if len(self._waiting) > MOST_WAITING:  # the oldest are of a session that was restarted
                self._waiting.popleft().close()
            self._came.set()

    async def _admit_visitors(self, listener: socket.socket, port: int) -> None:
        """Serve visitors of one of the session's ports, until cancelled."""
        while True:
            await self._slots.acquire()  # further visitors wait in the listener's queue
            accepted = await self._accept(listener)
            if not self._may_enter(accepted):
                accepted.close()
                self._slots.release()
                continue
            task = asyncio.ensure_future(self._serve(Connection(accepted), port))
            self._tasks.add(task)
            task.add_done_callback(self._leave)

    def _leave(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _accept(self, listener: socket.socket) -> socket.socket:
        while True:
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                return connection
            except OSError as error:  # out of descriptors, or the peer has already gone
                report({"problem": str(error)})
                await asyncio.sleep(PAUSE_SECONDS)

    def _may_enter(self, visitor: socket.socket) -> bool:
        """Whether a visitor comes from the host: other containers reach this port too."""
        try:
            peer, own = visitor.getpeername()[0], visitor.getsockname()[0]
        except OSError:
            return False
        if peer in (own, self._gateway) or peer.startswith("127."):
            return True
        if len(self._refused) < MOST_WAITING and peer not in self._refused:
            self._refused.add(peer)
            report({"refused": peer})
        return False

    async def _serve(self, visitor: Connection, port: int) -> None:
        session: Connection | None = None
        try:
            with contextlib.suppress(ConnectionLost, asyncio.TimeoutError):
                session = await asyncio.wait_for(self._call(port), PATIENCE_SECONDS)
                if session is not None:
                    await exchange(visitor, session)
        finally:
            visitor.close()
            if session is not None:
                session.close()

    async def _call(self, port: int) -> Connection | None:
        """A connection to the session's port; None if nothing listens there."""
        while True:
            while not self._waiting:
                self._came.clear()
                await self._came.wait()
            session = self._waiting.pop()  # the latest is most likely to be alive
            try:
                await session.write(b"%d\n" % port)
                answer = await session.read()
                if answer[:1] == OPEN:
                    session.unread(answer[1:])
                    return session
            except ConnectionLost:
                answer = b""
            except BaseException:
                session.close()
                raise
            session.close()
            if answer[:1] == REFUSED:
                return None
            # It belonged to a session that was restarted meanwhile.


async def exchange(visitor: Connection, server: Connection) -> None:
    """Copy both ways until the server ends its side; the visitor may end its own before that."""
    request = asyncio.ensure_future(pass_on(visitor, server))
    try:
        with contextlib.suppress(ConnectionLost):
            await server.copy(visitor)
    finally:
        await stop(request)
    await visitor.linger()


def report(fields: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def gateway(route: str = "/proc/net/route") -> str | None:
    """The IPv4 address of the default gateway."""
    with contextlib.suppress(OSError, ValueError), open(route, encoding="ascii") as file:
        for line in file.read().splitlines()[1:]:
            _, destination, address, *_ = line.split()
            if int(destination, 16) == 0:
                return socket.inet_ntoa(int(address, 16).to_bytes(4, sys.byteorder))
    return None


async def serve(path: str, ports: Sequence[int], most_visitors: int) -> None:
    listeners = {
        port: socket.create_server(("0.0.0.0", FIRST_PORT + number), backlog=BACKLOG)
        for number, port in enumerate(ports)
    }
    session = listen(path)
    outside = Outside(most_visitors + len(ports), gateway())
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    await outside.serve(session, listeners)


def main(path: str, *ports: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = RESERVED_DESCRIPTORS + MOST_WAITING + 2 * MOST_VISITORS
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    visitors = min(MOST_VISITORS, max(8, (most - RESERVED_DESCRIPTORS - MOST_WAITING) // 2))
    asyncio.run(serve(path, [int(port) for port in ports], visitors))
