"""The commands that take over this terminal: attach, shell."""

from __future__ import annotations

import argparse
import sys

from claude_mcp.cli.running import within_session
from claude_mcp.cli.terminal import talk
from claude_mcp.config import Config
from claude_mcp.errors import UsageError


def shell(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions import terminal

    _check_terminal("For a single command: claude-mcp exec SESSION COMMAND")
    return within_session(config, arguments.session, terminal.shell)


def attach(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions import terminal

    _check_terminal("For a single prompt: claude-mcp prompt SESSION PROMPT")
    code = within_session(
        config, arguments.session, terminal.claude, interrupted="interrupted; nobody is attached"
    )
    talk("The session runs on; its next prompt continues the conversation.")
    return code


def _check_terminal(instead: str) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("This needs a terminal on stdin and stdout.", hint=instead)
