"""Performs one command: loads the configuration, sets up logging, returns the exit code."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Callable
from typing import Final

from claude_mcp.cli.running import Interrupted, report
from claude_mcp.config import Config, load
from claude_mcp.credentials import RedactingFormatter

PERFORM: Final = {
    "serve": "commands.serve",
    "create": "commands.create",
    "prompt": "prompts.prompt",
    "run": "oneshot.run",
    "turn": "prompts.turn",
    "turns": "history.turns",
    "cancel": "prompts.cancel",
    "respond": "permissions.respond",
    "credentials": "commands.credentials",
    "exec": "shell.execute",
    "command": "shell.command",
    "commands": "shell.list_commands",
    "stop-command": "shell.stop",
    "show": "details.show",
    "watch": "watch.watch",
    "stats": "stats.stats",
    "list": "commands.list_sessions",
    "destroy": "commands.destroy",
    "prune": "commands.prune",
    "copy": "commands.copy",
    "logs": "commands.logs",
    "changes": "workspaces.changes",
    "apply": "workspaces.apply",
    "discard": "workspaces.discard",
    "attach": "terminals.attach",
    "shell": "terminals.shell",
    "forward": "forward.forward",
    "doctor": "commands.doctor",
    "config": "settings.settings",
    "completion": "completion.completion",
    "image": "images.image",
    "install": "clients.install",
    "uninstall": "clients.uninstall",
}
"""The module and the function of each command. Only that module is imported."""


def run(arguments: argparse.Namespace) -> int:
    """Perform the command and return the program's exit code."""
    try:
        config = load(
            file=arguments.config,
            engine=arguments.engine,
            engine_host=arguments.engine_host,
            debug=True if arguments.debug else None,
        )
        configure_logging(config)
        return _function(PERFORM[arguments.command])(arguments, config)
    except BrokenPipeError:
        raise
    except Interrupted as interrupted:
        return interrupted.exit_code
    except Exception as error:
        return report(error)


def _function(path: str) -> Callable[[argparse.Namespace, Config], int]:
    module, _, name = path.partition(".")
    function: Callable[[argparse.Namespace, Config], int]
    function = getattr(importlib.import_module(f"claude_mcp.cli.{module}"), name)
    return function


def configure_logging(config: Config) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # Only our own messages: debug messages of libraries may contain secrets of theirs.
    logging.getLogger("claude_mcp").setLevel(logging.DEBUG if config.debug else logging.WARNING)
