"""Parses compound arguments: SESSION:PATH, HOST:CONTAINER[:rw], a JSON file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from claude_mcp.errors import UsageError

MAX_SCHEMA_BYTES: Final = 64 * 1024
"""It becomes one argument of Claude Code, and the kernel allows 128 KiB for one."""


def endpoints(source: str, destination: str) -> tuple[str, bool, str, str]:
    """The session, whether files go into it, and the two paths; the local one is made absolute.

    Raises:
        UsageError: not exactly one of the two names a session.
    """
    source_session, source_path = _split(source)
    destination_session, destination_path = _split(destination)
    if source_session is None and destination_session is not None:
        return destination_session, True, _absolute(source_path), destination_path
    if source_session is not None and destination_session is None:
        return source_session, False, source_path, _absolute(destination_path)
    both = source_session is not None
    raise UsageError(
        "Both paths are in sessions; copy by way of the host."
        if both
        else "Neither path is in a session.",
        hint="One of them must be SESSION:PATH, such as fix-tests:/tmp/report.html. A local path "
        "with a colon in it must start with ./ or /.",
    )


def _split(argument: str) -> tuple[str | None, str]:
    if argument.startswith(("/", ".", "~")) or ":" not in argument:
        return None, argument
    session, _, path = argument.partition(":")
    if not path:
        raise UsageError(f"{argument!r} lacks the path in the session.")
    return session, path


def _absolute(path: str) -> str:
    """Keeps a trailing slash, which means "into this directory"."""
    absolute = os.path.abspath(path)
    return f"{absolute}/" if path.endswith("/") and absolute != "/" else absolute


def parse_mount(value: str) -> tuple[str, str, bool]:
    """Host path (absolute), container path, and whether it is read-only.

    Raises:
        UsageError
    """
    host, *rest = value.split(":")
    if not host or len(rest) not in (1, 2) or not rest[0] or rest[1:] not in ([], ["ro"], ["rw"]):
        raise UsageError(
            f"--mount {value!r} is not HOST:CONTAINER or HOST:CONTAINER:rw.",
            hint="For example --mount ~/data:/data. Paths cannot contain a colon.",
        )
    return _absolute(host), rest[0], rest[1:] != ["rw"]


def read_schema(name: str | None) -> str | None:
    """The JSON Schema in the file as compact text; None without a file.

    Raises:
        UsageError: it cannot be read, is no JSON object, or is too large.
    """
    if name is None:
        return None
    try:
        schema = json.loads(Path(name).read_bytes())
    except OSError as error:
        raise UsageError(f"The schema {name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The schema {name} is not valid JSON: {error}.") from error
    if not isinstance(schema, dict):
        raise UsageError(f"The schema {name} is not a JSON object.")
    text = json.dumps(schema, separators=(",", ":"))
    if len(text) > MAX_SCHEMA_BYTES:
        raise UsageError(f"The schema {name} has {len(text)} bytes; at most {MAX_SCHEMA_BYTES}.")
    return text


def read_mcp_config(name: str) -> dict[str, Any]:
    """The content of the file, or of stdin for '-'; ``sessions`` checks the servers in it.

    Raises:
        UsageError: it cannot be read, or is not a JSON object with servers.
    """
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        config = json.loads(data)
    except OSError as error:
        raise UsageError(
            f"The MCP configuration {name} cannot be read: {error.strerror}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The MCP configuration {name} is not valid JSON: {error}.") from error
    if not isinstance(config, dict) or not isinstance(config.get("mcpServers"), dict):
        raise UsageError(f"The MCP configuration {name} has no object 'mcpServers'.")
    return config
