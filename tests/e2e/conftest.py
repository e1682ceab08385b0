"""Starts `claude-mcp serve` behind a real client."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from claude_mcp.engine.engine import Engine
from tests.peers import Peer, processes


@pytest.fixture
def start(engine: Engine, environ: dict[str, str]) -> Callable[..., Any]:
    """Starts `claude-mcp serve` behind a client."""

    @asynccontextmanager
    async def connect(mode: str = "auto", **options: Any) -> AsyncIterator[Peer]:
        before = set(processes())
        parameters = StdioServerParameters(
            command=sys.executable,
            args=["-m", "claude_mcp", f"--engine={engine.dialect.name}", "serve"],
            env=environ,
        )
        async with Client(parameters, mode=mode, **options) as client:
            mine = [
                pid
                for pid, (parent, command) in processes().items()
                if pid not in before and parent == os.getpid() and "claude_mcp" in command
            ]
            assert len(mine) == 1
            yield Peer(client, mine[0])

    return connect
