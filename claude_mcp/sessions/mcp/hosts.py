"""Addresses of this host in the configuration of MCP servers, as a session has to know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from claude_mcp.contract.wording import named
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers import addresses

ABSENT: Final = (
    "MCP server {} is at {}:{}, and nothing listens there on this host: the session will look for "
    "it inside its own container."
)


@dataclass(frozen=True, slots=True)
class Translated:
    """A configuration for use in the container; ``needs_alias`` if it contains the host's name."""

    config: dict[str, Any] | None
    warnings: tuple[str, ...] = ()
    needs_alias: bool = False


def translate(config: dict[str, Any] | None, dialect: Dialect) -> Translated:
    """Replace the addresses of this host, which mean the container itself inside the container.

    ``config`` is a checked one. A loopback address at which nothing listens stays: the server may
    run in the session.

    Raises:
        UsageError: a server listens where no container can reach it.
    """
    problems: list[str] = []
    warnings: list[str] = []
    servers: dict[str, Any] = {}
    needs_alias = False
    for name, server in (config or {}).get("mcpServers", {}).items():
        servers[name] = server
        url = server.get("url")
        if not isinstance(url, str) or "${" in url or _is_absent(name, url, dialect, warnings):
            continue
        label = f"mcpServers.{name}.url"
        inside, differs = addresses.in_container(label, url, dialect, problems, warnings)
        if differs:
            servers[name] = {**server, "url": inside}
            needs_alias = True
    if problems:
        raise UsageError(
            f"{named('mcpConfig')} cannot be used in a container: {' '.join(problems)}"
        )
    changed = None if config is None else {**config, "mcpServers": servers}
    return Translated(changed, tuple(warnings), needs_alias)


def _is_absent(name: str, url: str, dialect: Dialect, warnings: list[str]) -> bool:
    """Whether this is a loopback address of the host at which nothing listens; warns if so."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", addresses.port_of(parts)
    if not addresses.is_loopback(host) or not addresses.is_unused(port, dialect):
        return False
    warnings.append(ABSENT.format(name, host, port))
    return True
