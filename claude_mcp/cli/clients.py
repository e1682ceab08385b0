"""Adds the server to MCP clients, and takes it out again."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from claude_mcp.cli.terminal import talk, visible, write, write_json
from claude_mcp.clients.change import Change, added, make, removed
from claude_mcp.clients.known import CLIENTS, ENTRY, Client
from claude_mcp.config import Config, default_file_of_user, shell_only, user_directories
from claude_mcp.errors import ConfigError, UsageError


def install(arguments: argparse.Namespace, config: Config) -> int:
    command = server_command(arguments, config)
    if arguments.print:
        write_json({"mcpServers": {ENTRY: {"command": command[0], "args": command[1:]}}})
        return 0
    if arguments.client is None:
        return _list(arguments, command)
    client = _client(arguments.client)
    change = added(client, client.file(user_directories()), client.entry(command))
    code = _carry_out(arguments, change, f"{client.title} has the server already.")
    if code == 0:
        names = shell_only(config)
        if names:
            talk(
                f"warning: {client.title} may not pass on what only this shell sets: "
                f"{', '.join(names)}. Put it into the configuration file: "
                f"claude-mcp config set {names[0]} env:{names[0]}"
            )
        if "archive-v0" in command[0]:
            talk(
                "warning: this program lies in uv's cache, which uv may empty. "
                "Install it with 'uv tool install', then run this again."
            )
    return code


def uninstall(arguments: argparse.Namespace, config: Config) -> int:
    client = _client(arguments.client)
    change = removed(client, client.file(user_directories()))
    return _carry_out(arguments, change, f"{client.title} does not have the server.")


def server_command(arguments: argparse.Namespace, config: Config) -> list[str]:
    """What a client runs: our program, by its whole path, with the flags given here.

    Programs with windows do not have the shell's PATH.
    """
    program = Path(sys.argv[0])
    if program.name == "claude-mcp" and program.is_file() and os.access(program, os.X_OK):
        command = [os.path.abspath(program)]
    else:
        command = [sys.executable, "-m", "claude_mcp"]
    if arguments.engine:
        command += ["--engine", arguments.engine]
    if arguments.engine_host:
        command += ["--engine-host", arguments.engine_host]
    file = os.path.abspath(config.files[1])
    if file != default_file_of_user():
        command += ["--config", file]
    return [*command, "serve"]


def _client(name: str) -> Client:
    client = CLIENTS.get(name.lower().replace(" ", "-"))
    if client is None:
        near = difflib.get_close_matches(name.lower(), CLIENTS, n=1)
        known = ", ".join(CLIENTS)
        raise UsageError(
            f"There is no client {name!r}.",
            hint=f"Did you mean {near[0]!r}?"
            if near
            else f"Known are {known}; for others see 'claude-mcp install --print'.",
        )
    return client


def _list(arguments: argparse.Namespace, command: list[str]) -> int:
    """Which clients there are, and which have the server."""
    rows: list[dict[str, Any]] = []
    for name, client in CLIENTS.items():
        file = client.file(user_directories())
        try:
            change = added(client, file, client.entry(command))
        except ConfigError as error:
            state = error.message
        else:
            if change.old is not None:
                state = "has another claude-mcp" if change.needed else "has this claude-mcp"
            else:
                state = "not added" if file.parent.is_dir() else "not found on this machine"
        rows.append({"client": name, "title": client.title, "file": str(file), "state": state})
    if arguments.json:
        write_json({"clients": rows})
    else:
        width = max(map(len, CLIENTS))
        write("".join(f"{row['client']:{width}}  {row['state']}\n" for row in rows))
        talk(
            "Add it with 'claude-mcp install CLIENT'; for others see 'claude-mcp install --print'."
        )
    return 0


def _carry_out(arguments: argparse.Namespace, change: Change, nothing: str) -> int:
    """Show the change, ask, make it."""
    backup = None
    made = False
    if not change.needed:
        talk(nothing)
    else:
        talk(difference(change))
        if not arguments.dry_run:
            _confirm(arguments, change)
            backup = make(change)
            made = True
            if backup is not None:
                talk(f"Changed; the file as it was is {backup}.")
            else:
                talk("Written.")
            talk(f"Restart {change.client.title}, or reload its MCP servers.")
    if arguments.json:
        write_json(
            {
                "file": str(change.file),
                "changed": made,
                "backup": None if backup is None else str(backup),
                "entry": change.new,
            }
        )
    return 0


def difference(change: Change) -> str:
    """The lines that go and come. Nothing else of the file is shown: it may hold secrets."""
    old, new = (
        [] if entry is None else json.dumps({ENTRY: entry}, indent=2).split("\n")[1:-1]
        for entry in (change.old, change.new)
    )
    marks = [line for line in difflib.ndiff(old, new) if not line.startswith("?")]
    where = f"{change.file}, in {change.client.section!r}"
    if change.before is None:
        where += " (a new file)"
    return "\n".join([where, *map(visible, marks)])


def _confirm(arguments: argparse.Namespace, change: Change) -> None:
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        again = shlex.join(["claude-mcp", arguments.command, arguments.client, "--yes"])
        raise UsageError("Nothing was changed: confirmation needs a terminal.", hint=f"Or: {again}")
    sys.stderr.write("Change the file? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was changed.")
