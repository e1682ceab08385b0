"""A real MCP client with a server of its own, and what can be seen of that server from outside."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.abc
from mcp import Client
from mcp.types import CallToolResult, TextContent


def script(*steps: dict[str, Any]) -> str:
    """A prompt that tells the stand-in what the model does."""
    return "standin: " + json.dumps(steps)


class Peer:
    """A client with a server of its own, and that server's pid."""

    def __init__(self, client: Client, pid: int) -> None:
        self._client = client
        self.pid = pid

    async def __call__(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        result = await self._client.call_tool(tool, arguments)
        assert not result.is_error, text_of(result)
        content: dict[str, Any] | None = result.structured_content
        assert content is not None
        return content

    async def refused(self, tool: str, /, **arguments: Any) -> str:
        result = await self._client.call_tool(tool, arguments)
        assert result.is_error
        return text_of(result)

    @property
    def client(self) -> Client:
        return self._client


def text_of(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))


def processes() -> dict[int, tuple[int, str]]:
    """pid -> (parent, command line) of everything that runs."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
        if fields[0] != "Z":
            found[int(stat.parent.name)] = (int(fields[1]), command)
    return found


def children_of(pid: int) -> list[str]:
    return [command for parent, command in processes().values() if parent == pid]


class Wire:
    """A server of its own and its bare wire, for what a well-behaved client never does."""

    INITIALIZE: ClassVar = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "wire", "version": "1"},
    }

    def __init__(self, server: anyio.abc.Process) -> None:
        assert server.stdin is not None
        assert server.stdout is not None
        self.server = server
        self._stdin, self._stdout = server.stdin, server.stdout
        self._number = 0
        self._received = ""

    @classmethod
    @asynccontextmanager
    async def open(cls, argv: list[str], environ: dict[str, str]) -> AsyncIterator[Wire]:
        async with await anyio.open_process(argv, env=environ) as server:
            wire = cls(server)
            await wire.request("initialize", **cls.INITIALIZE)
            await wire._send(method="notifications/initialized")
            yield wire

    async def _send(self, **message: Any) -> None:
        await self._stdin.send(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def until(self, text: str) -> None:
        """Read on until a text has come."""
        while text not in self._received:
            self._received += (await self._stdout.receive()).decode()

    async def request(self, method: str, **params: Any) -> None:
        await self.begin(method, **params)
        await self.until(f'"id":{self._number}')

    async def answered(self) -> str:
        """Wait for the answer to the last request; all that has come so far."""
        await self.until(f'"id":{self._number}')
        return self._received

    async def begin(self, method: str, **params: Any) -> None:
        """Send a request, with a wish for progress, and do not wait for its answer."""
        self._number += 1
        params = {**params, "_meta": {"progressToken": self._number}}
        await self._send(id=self._number, method=method, params=params)

    async def end(self, how: signal.Signals | None) -> None:
        """Hang up without a word (None), or by a signal, and wait for the server's end."""
        if how is None:
            await self._stdin.aclose()
        else:
            self.server.send_signal(how)
        await self.server.wait()
