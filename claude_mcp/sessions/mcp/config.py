"""Checks the configuration of a session's MCP servers before a container exists.

The check registers every possible secret with the redactor. Error messages never contain values.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from claude_mcp.contract.handover import McpServers
from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.wording import named
from claude_mcp.errors import UsageError
from claude_mcp.sessions.mcp import secret_values

MAX_BYTES: Final = 256 * 1024
MAX_SERVERS: Final = 50

# Claude Code derives tool names from the server's name and replaces all other characters.
_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_. -]{0,62}[a-zA-Z0-9_-])?")
_REPLACED: Final = re.compile(r"[^a-zA-Z0-9_-]")
_REMOTE: Final = ("http", "sse", "streamable-http")


def check(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The part of a configuration that Claude Code receives: its servers; None if there are none.

    Raises:
        UsageError: lists every problem.
    """
    if config is None:
        return None
    servers = config.get("mcpServers")
    if not isinstance(servers, dict):
        raise UsageError(f"{named('mcpConfig')} has no object 'mcpServers'.")
    checked = {"mcpServers": servers}
    try:
        size = len(json.dumps(checked).encode())
        json.dumps(checked, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{named('mcpConfig')} must be valid Unicode.") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{named('mcpConfig')} cannot be written as JSON.") from error
    if size > MAX_BYTES or len(servers) > MAX_SERVERS:
        raise UsageError(
            f"{named('mcpConfig')} is too large: {len(servers)} servers in {size} bytes; the "
            f"limits are {MAX_SERVERS} servers and {MAX_BYTES} bytes."
        )
    for secret in secret_values.secrets_of(servers.values()):
        redactor.add(secret)
    problems = list(_name_problems(servers))
    for name, server in servers.items():
        problems += [f"mcpServers.{name[:64]}{problem}" for problem in _problems(server)]
    if problems:
        raise UsageError(
            f"{named('mcpConfig')} is invalid: {'; '.join(problems[:10])}.",
            hint="A server is {command, args, env}, or {type: http or sse, url, headers}.",
        )
    return checked if servers else None


def handover(config: Mapping[str, Any] | None) -> McpServers | None:
    """A checked configuration as the agent receives it."""
    if config is None:
        return None
    secrets = secret_values.secrets_of(config["mcpServers"].values())
    return McpServers(config, tuple(secrets))


def _name_problems(servers: Mapping[str, Any]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name in servers:
        if not _NAME.fullmatch(name):
            yield (
                f"{name[:64]!r} is not a valid server name: use up to 64 letters, digits, '-', "
                "'_', '.' and spaces, starting with a letter or digit"
            )
        plain = _REPLACED.sub("_", name)
        if plain in seen:
            yield f"Claude Code cannot distinguish the names {seen[plain]!r} and {name!r}"
        seen[plain] = name


def _problems(server: Any) -> Iterator[str]:
    """Problems of one server, each written to follow the server's name."""
    if not isinstance(server, dict):
        yield " is not an object"
        return
    for key in server.keys() - set(secret_values.KEYS):
        # The cutoff keeps headersHelper, a real key of Claude Code, apart from headers.
        word = key.lower().replace("environment", "env").replace("environ", "env")
        near = difflib.get_close_matches(word, secret_values.KEYS, n=1, cutoff=0.75)
        if near:
            yield f" has {key[:40]!r}, did you mean {near[0]!r}"
    kind = server.get("type", "stdio" if "command" in server else None)
    if kind == "stdio":
        yield from _stdio_problems(server)
    elif kind in _REMOTE:
        yield from _remote_problems(server)
    elif "url" in server and kind is None:
        yield " has a url but no type (http or sse)"
    elif kind is None:
        yield " has neither a command nor a url"
    else:
        yield ".type must be stdio, http or sse"


def _stdio_problems(server: dict[str, Any]) -> Iterator[str]:
    if not _is_text(server.get("command")) or not server["command"].strip():
        yield ".command must be a program's name or path"
    arguments = server.get("args", [])
    if not isinstance(arguments, list) or not all(map(_is_text, arguments)):
        yield ".args must be a list of strings"
    yield from _text_problems("env", server.get("env", {}))
    if "url" in server:
        yield " has both a command and a url"


def _remote_problems(server: dict[str, Any]) -> Iterator[str]:
    if not _is_text(server.get("url")) or not _is_web(server["url"]):
        yield ".url must be an http or https URL"
    headers = server.get("headers", {})
    yield from _text_problems("headers", headers)
    if isinstance(headers, dict) and any(
        re.search(r"[\r\n]", f"{k}{v}") for k, v in headers.items()
    ):
        yield ".headers must not contain line breaks"
    if "command" in server:
        yield " has both a command and a url"


def _text_problems(key: str, values: Any) -> Iterator[str]:
    if not isinstance(values, dict):
        yield f".{key} must be an object of strings"
        return
    for name, value in values.items():
        if not _is_text(value):
            yield f".{key}.{name[:64]} must be a string"
        if not name or "=" in name or "\0" in name:
            yield f".{key} has an invalid name, {name[:64]!r}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_web(url: str) -> bool:
    if "${" in url:  # Claude Code expands variables
        return True
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises for what is no port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
