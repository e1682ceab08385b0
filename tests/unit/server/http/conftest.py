"""A server over HTTP in this process: a real uvicorn on the loopback, and a fake engine."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from claude_mcp.config import Config
from claude_mcp.credentials import Secret
from claude_mcp.server.http import serving, sockets

Era = Literal["legacy", "auto"]

OPERATOR = "token-of-the-operator-0123456789"
RED = "token-of-team-red-0123456789"
BLUE = "token-of-team-blue-0123456789"
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    },
}


@dataclass(frozen=True, slots=True)
class Serving:
    url: str
    uvicorn: uvicorn.Server

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])

    @property
    def base(self) -> str:
        return self.url.removesuffix("/mcp")

    def http(self, token: str | None = None, **headers: str) -> httpx2.AsyncClient:
        given = {"authorization": f"Bearer {token}"} if token else {}
        return httpx2.AsyncClient(base_url=self.base, headers={**given, **headers}, timeout=60)

    @asynccontextmanager
    async def client(
        self, token: str | None = None, era: Era = "auto", **options: Any
    ) -> AsyncIterator[Client]:
        async with self.http(token) as http:
            transport = streamable_http_client(self.url, http_client=http)
            async with Client(transport, mode=era, **options) as client:
                yield client


@asynccontextmanager
async def served(config: Config) -> AsyncIterator[Serving]:
    listening = sockets.bound("127.0.0.1", 0)
    application = serving.application(config, serving.access(config, local=True), local=True)
    server = serving.uvicorn_for(application)
    url = sockets.described(listening[0])
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, listening)
            while not server.started:
                await anyio.sleep(0.01)
            try:
                yield Serving(url, server)
            finally:
                server.should_exit = True
                application.requests.end("GET")
    finally:
        listening[0].close()


@pytest.fixture(params=["legacy", "auto"])
def era(request: pytest.FixtureRequest) -> Era:
    era: Era = request.param
    return era


@pytest.fixture
def shared(config: Config, tmp_path: Path, project: Path) -> Config:
    """A configuration with an operator and two teams, the red one with less."""
    file = tmp_path / "tokens.toml"
    file.write_text(
        f'[team-red]\ntoken = "{RED}"\nroots = ["{project}"]\nmax_sessions = 2\nmemory = "1g"\n'
        'tools = ["create_session", "execute_command", "list_sessions", "destroy_session"]\n\n'
        f'[team-blue]\nsha256 = "{hashlib.sha256(BLUE.encode()).hexdigest()}"\n'
    )
    http = {"CLAUDE_MCP_TOKENS_FILE": str(file)}
    return replace(config, http=http, http_token=Secret(OPERATOR))
