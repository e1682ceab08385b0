"""The command for the list of a session's turns."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from claude_mcp.cli import render
from claude_mcp.cli.running import within_session
from claude_mcp.cli.terminal import talk, write, write_json
from claude_mcp.config import Config

if TYPE_CHECKING:
    from claude_mcp.sessions.turns.listing import Listing


def turns(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import listing

    found: Listing = within_session(
        config,
        arguments.session,
        lambda handle: listing.turns(handle, cursor=arguments.cursor, limit=arguments.limit),
    )
    session = shlex.quote(found.session.name)
    if arguments.json:
        from claude_mcp.views.turns import TurnsResult

        write_json(TurnsResult.of(found).wire())
    elif not found.turns:
        talk(f"Session {found.session.name} has no turn yet.")
    else:
        write(render.turns(found))
    if found.cursor is not None:
        talk(f"older turns: claude-mcp turns {session} --cursor {found.cursor}")
    return 0
