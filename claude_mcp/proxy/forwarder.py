"""Forwards connections from the session's loopback to its proxy.

Runs inside the session on Python 3.9, as a separate process so that downloads do not burden the
agent. It inherits the listening socket. Each line of JSON on stdin replaces the first line that is
sent to the proxy on every connection; ``ADDRESS`` in it says where the proxy is instead of at its
Unix socket, and is not sent. End of file ends the process. Lines of JSON on stdout report
refusals, and when the proxy disappears or returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

from claude_mcp.proxy import ADDRESS, PORT
from claude_mcp.proxy.connections import (
    Connection,
    ConnectionLost,
    connect,
    connect_to,
    pass_on,
    stop,
)

DECISION_BYTES = 8 * 1024
PATIENCE_SECONDS = 10.0
"""Time that a request waits for a proxy that is being restarted."""
POLL_SECONDS = 0.05
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
UNREACHABLE = (
    b"HTTP/1.1 502 The proxy of this session is not running\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class Forwarder:
    def __init__(self, path: str, opening: Mapping[str, Any]) -> None:
        self._path = path
        self.open_with(opening)

    def open_with(self, opening: Mapping[str, Any]) -> None:
        self._opening = {name: value for name, value in opening.items() if name != ADDRESS}
        self._address = opening.get(ADDRESS)

    async def serve(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        tasks = {asyncio.ensure_future(self._watch())}
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # out of file descriptors, or the client has already gone
                await asyncio.sleep(POLL_SECONDS)
                continue
            task = asyncio.ensure_future(self._forward(Connection(connection)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _connect(self) -> Connection:
        """Raises BlockingIOError or OSError, as ``connect`` does."""
        address = self._address
        return connect(self._path) if address is None else await connect_to(str(address), PORT)

    async def _connect_patiently(self) -> Connection | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        while True:
            try:
                return await self._connect()
            except OSError:
                if loop.time() > deadline:
                    return None
                await asyncio.sleep(POLL_SECONDS)

    async def _watch(self) -> None:
        """Report when the proxy disappears and when it returns."""
        there: bool | None = None
        while True:
            try:
                end = await self._connect()
            except BlockingIOError:  # the proxy is running
                await asyncio.sleep(POLL_SECONDS)
                continue
            except OSError:
                if there is not False:
                    there = False
                    report({"proxy": False})
                await asyncio.sleep(POLL_SECONDS)
                continue
            try:
                with contextlib.suppress(ConnectionLost):
                    await end.write(json.dumps({"watch": True}).encode() + b"\n")
                    if there is not True:
                        there = True
                        report({"proxy": True})
                    await end.read()
            finally:
                end.close()
            there = False
            report({"proxy": False})
            await asyncio.sleep(POLL_SECONDS)

    async def _forward(self, client: Connection) -> None:
        proxy: Connection | None = None
        try:
            with contextlib.suppress(ConnectionLost):
                proxy = await self._connect_patiently()
                if proxy is None:
                    await client.write(UNREACHABLE)
                else:
                    await proxy.write(json.dumps(self._opening).encode() + b"\n")
                    await self._exchange(client, proxy)
                await client.linger()
        finally:
            client.close()
            if proxy is not None:
                proxy.close()

    async def _exchange(self, client: Connection, proxy: Connection) -> None:
        """Pass on the request and the response until the response ends."""
        request = asyncio.ensure_future(pass_on(client, proxy))
        try:
            if await self._decided(proxy) == "tunnel":
                await client.write(ESTABLISHED)
                await self._decided(proxy)
            await proxy.copy(client)
        finally:
            await stop(request)

    async def _decided(self, proxy: Connection) -> str:
        line = await proxy.read_until(b"\n", DECISION_BYTES)
        if line is None:
            raise ConnectionLost("it sent no decision")
        try:
            fields = json.loads(line)
            decision = str(fields["decision"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ConnectionLost("its decision is malformed") from None
        if decision == "refused":
            report(fields)  # before the client sees it, so a turn's notes are complete when it ends
        return decision


def report(fields: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main(listener: int, path: str) -> None:
    """``listener`` is a file descriptor; ``path`` is the proxy's socket."""
    forwarder = Forwarder(path, json.loads(sys.stdin.readline()))

    def hear() -> None:
        for line in sys.stdin:
            forwarder.open_with(json.loads(line))
        os._exit(0)

    threading.Thread(target=hear, daemon=True).start()
    asyncio.run(forwarder.serve(socket.socket(fileno=listener)))
