"""A proxy with a full accept queue: requests wait, and it is not reported as missing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import pytest

from claude_mcp.proxy.forwarder import Forwarder


async def test_a_request_waits_while_the_proxys_queue_is_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "socket")
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:

        def opened(kind: socket.AddressFamily) -> socket.socket:
            found = stack.enter_context(socket.socket(kind))
            found.setblocking(False)
            return found

        proxy = opened(socket.AF_UNIX)
        proxy.bind(path)
        proxy.listen(0)
        waiting = []
        with contextlib.suppress(BlockingIOError):  # it is full
            while True:
                waiting.append(opened(socket.AF_UNIX))
                waiting[-1].connect(path)
        listener = opened(socket.AF_INET)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        serving = asyncio.ensure_future(Forwarder(path, {"session": "one"}).serve(listener))
        client = opened(socket.AF_INET)
        await loop.sock_connect(client, listener.getsockname())
        await loop.sock_sendall(client, b"the request")
        await asyncio.sleep(0.2)  # by then it has tried, and has to try again
        assert capsys.readouterr().out == ""
        came = []
        # Those that filled the queue, who says that it only watches, and the request.
        for _ in range(len(waiting) - 1 + 2):
            connection, _ = await loop.sock_accept(proxy)
            came.append(stack.enter_context(connection))
        lines = []
        for connection in came[-2:]:
            data = b""
            while b"\n" not in data:
                data += await loop.sock_recv(connection, 4096)
            lines.append(json.loads(data.splitlines()[0]))
        assert {"session": "one"} in lines
        assert {"watch": True} in lines
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
