"""The command `forward`: the ports of a session on another machine, open here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import anyio

from claude_mcp.cli.commands import tell_ports
from claude_mcp.cli.running import within
from claude_mcp.config import Config
from claude_mcp.errors import UsageError

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions


def forward(arguments: argparse.Namespace, config: Config) -> int:
    async def work(sessions: Sessions) -> int:
        handle = await sessions.open(arguments.session)
        session = handle.session
        if session.forwarding is None:
            raise UsageError(
                f"The session {session.name!r} publishes no ports.",
                hint="Create one with --port.",
            )
        tell_ports(session)
        if handle.engine.dialect.over_network:
            await anyio.sleep_forever()
        return 0

    return within(config, work)
