"""Which ports of a new session are published on the host's loopback, and where."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Final

from claude_mcp.config import Config
from claude_mcp.contract import places
from claude_mcp.errors import UsageError
from claude_mcp.sessions.network.access import Network
from claude_mcp.sessions.network.forwarding import Forwarding, Published
from claude_mcp.sessions.network.policy import FIXED, network_of

MOST_PORTS: Final = 20
LARGEST_PORT: Final = 65535
FIRST_UNPRIVILEGED: Final = 1024
_FORM: Final = re.compile(r"(?:([0-9]{1,5}):)?([0-9]{1,5})")


def settle(config: Config, network: Network, wanted: Sequence[str]) -> Forwarding | None:
    """The forwarding for a new session; ``wanted`` has ports such as ``3000`` or ``8080:3000``.

    Raises:
        UsageError: they cannot be published.
        ConfigError: a configured value is invalid.
    """
    if not wanted:
        return None
    if config.network_fixed and network_of(config, None) is not Network.OPEN:
        raise UsageError(FIXED.format("ports are not accepted"))
    if len(wanted) > MOST_PORTS:
        raise UsageError(f"A session publishes at most {MOST_PORTS} ports.")
    ports = tuple(map(_published, wanted))
    _check_distinct([each.port for each in ports])
    _check_distinct([each.host_port for each in ports if each.host_port is not None])
    if network is Network.RESTRICTED and places.PROXY_PORT in [each.port for each in ports]:
        raise UsageError(f"Port {places.PROXY_PORT} of a restricted session leads to its proxy.")
    return Forwarding(secrets.token_hex(8), config.proxy_image or config.image, ports)


def _published(text: str) -> Published:
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"ports: {text[:60]!r} is not a port.",
            hint="Use a port of the session, such as 3000, or HOST:PORT, such as 8080:3000.",
        )
    host, port = match.groups()
    if not 1 <= int(port) <= LARGEST_PORT:
        raise UsageError(f"ports: {port} is not between 1 and {LARGEST_PORT}.")
    if host is not None and not FIRST_UNPRIVILEGED <= int(host) <= LARGEST_PORT:
        raise UsageError(
            f"ports: a port of the host is between {FIRST_UNPRIVILEGED} and {LARGEST_PORT}, not "
            f"{host}."
        )
    return Published(int(port), None if host is None else int(host))


def _check_distinct(ports: Sequence[int | None]) -> None:
    twice = next((each for each in ports if ports.count(each) > 1), None)
    if twice is not None:
        raise UsageError(f"ports: {twice} is given twice.")
