"""Which ports of a session are published on the host's loopback, and where.

A forwarder leads to them (``network.forwarders``), whatever the session's network is.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from claude_mcp.config import Config
from claude_mcp.contract import places
from claude_mcp.engine.spec import VolumeMount
from claude_mcp.errors import UsageError
from claude_mcp.sessions.network.access import Network
from claude_mcp.sessions.network.policy import FIXED, network_of

PORTS_LABEL: Final = "claude-mcp.ports"
"""Label of a session with published ports, and of its forwarder: the forwarding as JSON."""
PORTS_ID_LABEL: Final = "claude-mcp.ports-id"
"""Label of a session with published ports: the id of its forwarder."""
PORTS_OF_LABEL: Final = "claude-mcp.ports-of"
"""Label of a forwarder's container: its id."""
MOST_PORTS: Final = 20
LARGEST_PORT: Final = 65535
FIRST_UNPRIVILEGED: Final = 1024
_FORM: Final = re.compile(r"(?:([0-9]{1,5}):)?([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Published:
    """A port of a session at a port of the host; ``host_port`` is None as long as it is open."""

    port: int
    host_port: int | None = None

    @property
    def url(self) -> str:
        """For a web server; it is the engine's host, if that is another one."""
        return f"http://127.0.0.1:{self.host_port}"


@dataclass(frozen=True, slots=True)
class Forwarding:
    """A session's forwarder as its label records it, so that it can be created again."""

    id: str
    image: str
    ports: tuple[Published, ...]

    @property
    def name(self) -> str:
        """The name of its container and of the volume with its socket."""
        return f"claude-mcp-ports-{self.id}"

    @property
    def volumes(self) -> tuple[VolumeMount, ...]:
        """The session can connect to the socket but not replace it."""
        return (VolumeMount(self.name, places.PORTS_DIRECTORY),)

    @property
    def labels(self) -> Mapping[str, str]:
        """What the session's container remembers of it."""
        return {PORTS_ID_LABEL: self.id, PORTS_LABEL: self.to_json()}

    def to_json(self) -> str:
        ports = [[each.port, each.host_port] for each in self.ports]
        return json.dumps({"id": self.id, "image": self.image, "ports": ports})


def forwarding_from_json(text: str) -> Forwarding | None:
    """The forwarding that ``to_json`` wrote; None for any other text."""
    try:
        fields: Any = json.loads(text)
        ports = tuple(Published(int(port), int(host)) for port, host in fields["ports"])
        return Forwarding(str(fields["id"]), str(fields["image"]), ports)
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return None


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
