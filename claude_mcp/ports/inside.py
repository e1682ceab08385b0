"""Connects visitors with servers on the session's loopback.

Runs in the session on Python 3.9, as a separate process, so that downloads do not burden the agent.
End of file on stdin ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys
import threading
from collections.abc import Collection

from claude_mcp.ports import OPEN, REFUSED
from claude_mcp.proxy.connections import Connection, ConnectionLost, connect, pass_on, stop

WAITING = 4
"""How many connections wait for visitors at a time."""
MOST_VISITORS = 128
RESERVED_DESCRIPTORS = 32
CONNECT_SECONDS = 5.0
PAUSE_SECONDS = 0.1
PORT_BYTES = 8
LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
"""Some servers that listen at `localhost` have only the second address."""


class Inside:
    def __init__(self, path: str, ports: Collection[int], most_visitors: int) -> None:
        self._path = path
        self._ports = ports
        self._slots = asyncio.Semaphore(most_visitors)
        self._tasks: set[asyncio.Future[None]] = set()

    async def serve(self) -> None:
        """Serve until cancelled."""
        try:
            await asyncio.gather(*(self._wait_for_visitors() for _ in range(WAITING)))
        finally:
            await stop(*self._tasks)

    async def _wait_for_visitors(self) -> None:
        while True:
            await self._slots.acquire()
            visitor, port = await self._next_visitor()
            task = asyncio.ensure_future(self._receive(visitor, port))
            self._tasks.add(task)
            task.add_done_callback(self._leave)

    def _leave(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _next_visitor(self) -> tuple[Connection, int]:
        while True:
            with contextlib.suppress(OSError, ConnectionLost, ValueError):
                visitor = connect(self._path)  # fails while the outside is just being started
                try:
                    return visitor, int(await visitor.read_until(b"\n", PORT_BYTES) or b"")
                except BaseException:
                    visitor.close()
                    raise
            await asyncio.sleep(PAUSE_SECONDS)

    async def _receive(self, visitor: Connection, port: int) -> None:
        server: Connection | None = None
        try:
            with contextlib.suppress(ConnectionLost):
                server = await _connect(port) if port in self._ports else None
                if server is None:
                    await visitor.write(REFUSED)
                else:
                    await visitor.write(OPEN)
                    await _exchange(visitor, server)
                await visitor.linger()
        finally:
            visitor.close()
            if server is not None:
                server.close()


async def _connect(port: int) -> Connection | None:
    """A connection to the server on the loopback; None if there is no server."""
    for family, address in LOOPBACKS:
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue
        try:
            connection.setblocking(False)
            connecting = asyncio.get_running_loop().sock_connect(connection, (address, port))
            await asyncio.wait_for(connecting, CONNECT_SECONDS)
            return Connection(connection)
        except (OSError, asyncio.TimeoutError):  # noqa: UP041 it is another class on Python 3.9
            connection.close()
        except BaseException:
            connection.close()
            raise
    return None


async def _exchange(visitor: Connection, server: Connection) -> None:
    """Copy both ways until the server ends its side, or the visitor is gone."""
    request = asyncio.ensure_future(pass_on(visitor, server))
    try:
        await server.copy(visitor)
    finally:
        await stop(request)


def main(path: str, *ports: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = RESERVED_DESCRIPTORS + 2 * MOST_VISITORS
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    visitors = min(MOST_VISITORS, max(WAITING, (most - RESERVED_DESCRIPTORS) // 2))

    def end_with_the_agent() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_the_agent, daemon=True).start()

    async def serve() -> None:
        await Inside(path, frozenset(map(int, ports)), visitors).serve()

    asyncio.run(serve())
