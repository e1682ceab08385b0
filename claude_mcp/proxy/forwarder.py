"""In the session: takes what its programs ask of a proxy on the loopback to the one outside.

A process of its own beside the agent, so that downloads cost the agent nothing; runs on Python 3.9.
It inherits the listening socket. stdin brings a line of JSON with what a connection to the proxy
begins with, and another whenever that changes; its end is ours. stdout tells the agent in lines of
JSON what the proxy refused, and when the proxy is not there.
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

from claude_mcp.proxy.copying import End, Gone, pass_on, stop

DECISION_BYTES = 8 * 1024
PATIENCE_SECONDS = 10.0
"""How long a request waits for a proxy that is being started again."""
POLL_SECONDS = 0.05
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
UNREACHABLE = (
    b"HTTP/1.1 502 The proxy of this session is not there\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class Forwarder:
    def __init__(self, path: str, opening: Mapping[str, Any]) -> None:
        self._path = path
        self.opening = opening

    async def serve(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        tasks = {asyncio.ensure_future(self._watch())}
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # no descriptor is left, or it was gone at once
                await asyncio.sleep(POLL_SECONDS)
                continue
            task = asyncio.ensure_future(self._forward(End(connection)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def _connect(self) -> End:
        """BlockingIOError: the proxy's queue is full. The loop's own ``sock_connect`` would take
        the socket for one that is connecting, and then for one that is connected."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(self._path)
            return End(connection)
        except BaseException:
            connection.close()
            raise

    async def _connect_patiently(self) -> End | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        while True:
            try:
                return self._connect()
            except OSError:
                if loop.time() > deadline:
                    return None
                await asyncio.sleep(POLL_SECONDS)

    async def _watch(self) -> None:
        """Tell when the proxy comes and goes."""
        there: bool | None = None
        while True:
            try:
                end = self._connect()
            except BlockingIOError:  # it is there
                await asyncio.sleep(POLL_SECONDS)
                continue
            except OSError:
                if there is not False:
                    there = False
                    tell({"proxy": False})
                await asyncio.sleep(POLL_SECONDS)
                continue
            try:
                with contextlib.suppress(Gone):
                    await end.write(json.dumps({"watch": True}).encode() + b"\n")
                    if there is not True:
                        there = True
                        tell({"proxy": True})
                    await end.read()
            finally:
                end.close()
            there = False
            tell({"proxy": False})
            await asyncio.sleep(POLL_SECONDS)

    async def _forward(self, client: End) -> None:
        proxy: End | None = None
        try:
            with contextlib.suppress(Gone):
                proxy = await self._connect_patiently()
                if proxy is None:
                    await client.write(UNREACHABLE)
                else:
                    await proxy.write(json.dumps(self.opening).encode() + b"\n")
                    await self._exchange(client, proxy)
                await client.linger()
        finally:
            client.close()
            if proxy is not None:
                proxy.close()

    async def _exchange(self, client: End, proxy: End) -> None:
        """Until the answer is over."""
        request = asyncio.ensure_future(pass_on(client, proxy))
        try:
            if await self._decided(proxy) == "tunnel":
                await client.write(ESTABLISHED)
                await self._decided(proxy)
            await proxy.copy(client)
        finally:
            await stop(request)

    async def _decided(self, proxy: End) -> str:
        line = await proxy.read_until(b"\n", DECISION_BYTES)
        if line is None:
            raise Gone("it decided nothing")
        try:
            fields = json.loads(line)
            decision = str(fields["decision"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise Gone("it decided nothing that is understood") from None
        if decision == "refused":
            tell(fields)  # before its client hears of it, who may be looked at at once
        return decision


def tell(fields: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main(listener: int, path: str) -> None:
    """``listener`` is a descriptor; ``path`` that of the proxy's socket."""
    forwarder = Forwarder(path, json.loads(sys.stdin.readline()))

    def hear() -> None:
        for line in sys.stdin:
            forwarder.opening = json.loads(line)
        os._exit(0)

    threading.Thread(target=hear, daemon=True).start()
    asyncio.run(forwarder.serve(socket.socket(fileno=listener)))
