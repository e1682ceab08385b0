"""A session's published ports as its labels record them.

A forwarder leads to them (``network.forwarders``), whatever the session's network is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from claude_mcp.contract import places
from claude_mcp.engine.spec import VolumeMount

PORTS_LABEL: Final = "claude-mcp.ports"
"""Label of a session with published ports, and of its forwarder: the forwarding as JSON."""
PORTS_ID_LABEL: Final = "claude-mcp.ports-id"
"""Label of a session with published ports: the id of its forwarder."""
PORTS_OF_LABEL: Final = "claude-mcp.ports-of"
"""Label of a forwarder's container: its id."""


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
