"""The command `show`: all that is known of one session."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from claude_mcp.cli.drawing import columns, folded
from claude_mcp.cli.here import named
from claude_mcp.cli.running import within
from claude_mcp.cli.terminal import for_terminal, write, write_json
from claude_mcp.config import Config

if TYPE_CHECKING:
    from claude_mcp.sessions.details import Details
    from claude_mcp.sessions.registry import Sessions

NAME_COLUMNS: Final = 14


def show(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.details import details
    from claude_mcp.views.details import SessionDetails, rows

    async def work(sessions: Sessions) -> Details:
        return await details(sessions, await named(sessions, arguments.session))

    shown = SessionDetails.of_details(within(config, work))
    if arguments.json:
        write_json(shown.wire())
        return 0
    for name, text in rows(shown):
        for number, line in enumerate(text.splitlines()):
            row = f"{'' if number else name:{NAME_COLUMNS}}{for_terminal(line)}"
            write(f"{folded(row, columns(sys.stdout), NAME_COLUMNS)}\n")
    return 0
