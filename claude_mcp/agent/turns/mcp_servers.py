"""Hands the session's MCP servers to Claude Code, and reports their state.

The rule: the configuration exists only in memory and in the tmpfs, because it may contain secrets.
Claude Code's own report of a server repeats the headers, so only name, status and error are
passed on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from claude_mcp.agent.store import files
from claude_mcp.agent.turns.live import Live
from claude_mcp.claude import protocol
from claude_mcp.contract import places
from claude_mcp.contract.operations import McpReport
from claude_mcp.contract.wording import named

CONFIG_PATH = places.RUN_DIRECTORY + "/mcp.json"
ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.1
"""Claude Code does not announce that a server has connected, so it is asked again."""
STDERR_SECONDS = 5.0
"""Claude Code logs the failure of a server about 1 s later (measured), and a busy machine later."""
STDERR_LINES = 5
STDERR_CHARACTERS = 4000
LOST = (
    "The session lost its MCP servers when its container was restarted: {}. Their configuration "
    f"is kept in memory only. Provide it again with {named('set_credentials')}."
)
_LOGGED_STDERR = "Server stderr: "
_LOGGED_FAILURE = "Connection failed"


def write(config: Mapping[str, Any] | None) -> str | None:
    """Write the file that Claude Code reads when it starts; returns its path."""
    if not config:
        return None
    files.replace(CONFIG_PATH, json.dumps(config).encode())
    return CONFIG_PATH


def names(config: Mapping[str, Any] | None) -> list[str]:
    return list((config or {}).get("mcpServers") or {})


def unknown(config: Mapping[str, Any] | None, why: str) -> list[McpReport]:
    """The reports when Claude Code cannot be asked."""
    return [McpReport(name, "unknown", why) for name in names(config)]


def changes(
    servers: Iterable[protocol.McpServer], configured: list[str], statuses: dict[str, str]
) -> list[str]:
    """Notes about servers that connected or failed since their status was reported last.

    Updates ``statuses``. One that is still starting is not worth a note.
    """
    notes = []
    for server in servers:
        before = statuses.get(server.name, server.status)
        if server.name in configured and server.status in ("connected", "failed"):
            statuses[server.name] = server.status
            if server.status != before:
                notes.append(f"MCP server {server.name} is now {server.status}.")
    return notes


def settled(
    live: Live,
    config: Mapping[str, Any] | None,
    environment: Mapping[str, str],
    deadline: float,
    abandoned: Callable[[], bool],
) -> list[McpReport]:
    """The reports once no server is pending, at the deadline (monotonic), or when the caller stops
    waiting."""
    found: dict[str, protocol.McpServer] = {}
    while True:
        answer = live.ask({"subtype": "mcp_status"}, ANSWER_SECONDS)
        if answer is None or answer.error:
            refused = answer.error if answer else live.stopping
            return unknown(config, refused or "Claude Code did not answer")
        found = {server.name: server for server in protocol.mcp_servers(answer)}
        pending = any(server.status == "pending" for server in found.values())
        if not pending or time.monotonic() >= deadline or abandoned():
            break
        time.sleep(POLL_SECONDS)
    missing = protocol.McpServer("", "unknown", "Claude Code does not know this server")
    definitions = (config or {}).get("mcpServers") or {}
    log_deadline = time.monotonic() + STDERR_SECONDS
    return [
        McpReport(
            name,
            found.get(name, missing).status,
            _why(name, found.get(name, missing), definition, environment, log_deadline),
        )
        for name, definition in definitions.items()
    ]


def _why(
    name: str,
    server: protocol.McpServer,
    definition: Mapping[str, Any],
    environment: Mapping[str, str],
    log_deadline: float,
) -> str | None:
    """Claude Code's own error, completed by the missing program or the server's stderr."""
    command = definition.get("command")
    if server.status != "failed" or not isinstance(command, str):
        return server.error
    unusable = _unusable(command, {**environment, **(definition.get("env") or {})})
    if unusable is not None:
        return unusable
    said = _stderr(name, environment, log_deadline)
    return ": ".join(filter(None, [server.error, said])) or None


def _unusable(command: str, environment: Mapping[str, str]) -> str | None:
    """Why a command cannot be run. Variables are for Claude Code to expand, so not checked."""
    if "$" in command:
        return None
    if "/" not in command:
        if shutil.which(command, path=environment.get("PATH")) is None:
            return f"there is no program {command!r} on the session's PATH"
        return None
    path = os.path.join(places.WORKSPACE, command)
    if not os.path.exists(path):
        return f"there is no {command!r} in the session"
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        return f"{command!r} cannot be executed by the session's user"
    return None


def _stderr(name: str, environment: Mapping[str, str], deadline: float) -> str:
    """The end of a failed server's stderr, or "" if it cannot be found.

    Claude Code writes it only to a log of its own (measured, 2.1.330).
    """
    cache = environment.get("XDG_CACHE_HOME") or environment.get("HOME", "") + "/.cache"
    parts = (places.WORKSPACE, f"mcp-logs-{name}")
    directory = os.path.join(cache, "claude-cli-nodejs", *map(_file_name, parts))
    while True:
        errors = _logged_errors(directory)
        if any(error.startswith(_LOGGED_FAILURE) for error in errors):
            break
        if time.monotonic() >= deadline:
            return ""
        time.sleep(POLL_SECONDS)
    said = [error for error in errors if error.startswith(_LOGGED_STDERR)]
    return _end(said[-1][len(_LOGGED_STDERR) :]) if said else ""


def _logged_errors(directory: str) -> list[str]:
    """The errors in a server's latest log, which the session's processes may have forged."""
    try:
        latest = max(os.listdir(directory))  # the names are timestamps
        lines = files.read(os.path.join(directory, latest)).splitlines()
    except (OSError, ValueError):
        return []
    errors = []
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        error = entry.get("error") if isinstance(entry, dict) else None
        if isinstance(error, str):
            errors.append(error)
    return errors


def _file_name(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]", "-", text)


def _end(text: str) -> str:
    """The last lines. None is cut, because half a secret would not be redacted."""
    kept: list[str] = []
    for line in reversed([line for line in text.splitlines() if line.strip()]):
        if len(kept) == STDERR_LINES or sum(map(len, [line, *kept])) > STDERR_CHARACTERS:
            break
        kept.insert(0, line)
    return "\n".join(kept)
