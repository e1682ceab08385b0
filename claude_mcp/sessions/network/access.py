"""What a session may reach: everything, the hosts that its proxy allows, or nothing.

A restricted session has only a loopback interface (``--network=none``). Its agent listens there
and forwards connections through a Unix socket on a volume to a proxy, which runs in its own
container (``claude_mcp.proxy``). Sessions with the same rules share a proxy.

Where every container has a network device (``Dialect.network_policies``), the session's traffic is
limited to its proxy, which it reaches by address; ``enforcement`` proves that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from claude_mcp.contract import places, settings
from claude_mcp.engine.spec import Peers, Traffic, VolumeMount
from claude_mcp.proxy import DENIED_PORT, PORT
from claude_mcp.proxy.policy import from_json

PROXY_URL: Final = f"http://127.0.0.1:{places.PROXY_PORT}"
LOOPBACK: Final = "localhost,127.0.0.1,::1"
ENVIRONMENT: Final = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), PROXY_URL),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), LOOPBACK),
    "NODE_USE_ENV_PROXY": "1",  # Node.js 24 and later ignores them otherwise
}
"""Variables for every program in a restricted session."""

NETWORK_LABEL: Final = "claude-mcp.network"
"""Label of a session that is not open: ``restricted`` or ``none``."""
EGRESS_LABEL: Final = "claude-mcp.egress"
"""Label of a session whose traffic is limited: the id of the proxy that it may reach."""
PROXY_LABEL: Final = "claude-mcp.proxy"
"""Label of a restricted session and of the proxy's container: the proxy as JSON."""
PROXY_OF_LABEL: Final = "claude-mcp.proxy-of"
"""Label of a proxy's container: the id of the proxy."""


class Network(StrEnum):
    """Ordered from the widest to the strictest."""

    OPEN = settings.OPEN
    RESTRICTED = settings.RESTRICTED
    NONE = settings.NO_NETWORK


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy as its sessions' labels record it, so that it can be created again."""

    id: str
    image: str
    policy: str
    """JSON; see ``claude_mcp.proxy.policy``."""

    @property
    def name(self) -> str:
        """The name of its container and of the volume with its socket."""
        return f"claude-mcp-proxy-{self.id}"

    @property
    def reached_hosts(self) -> tuple[str, ...]:
        """The provider's hosts and all other allowed hosts."""
        policy = from_json(self.policy)
        hosts = (*policy.provider, *policy.allowed, *policy.private)
        return tuple(dict.fromkeys(map(str, hosts)))

    def to_json(self) -> str:
        return json.dumps({"id": self.id, "image": self.image, "policy": self.policy})


def proxy_from_json(text: str) -> Proxy | None:
    """The proxy that ``to_json`` wrote; None for any other text."""
    try:
        fields: Any = json.loads(text)
        proxy = Proxy(str(fields["id"]), str(fields["image"]), str(fields["policy"]))
        from_json(proxy.policy)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return proxy


def session_traffic(egress: str) -> Traffic:
    """That of a session with this ``EGRESS_LABEL``."""
    return Traffic(to=Peers(PROXY_OF_LABEL, egress, (PORT,)), from_=None)


def proxy_traffic(id: str) -> Traffic:
    """That of a proxy. Both ports are open, so only a session's own limit keeps it from one."""
    return Traffic(to=None, from_=Peers(EGRESS_LABEL, id, (PORT, DENIED_PORT)))


@dataclass(frozen=True, slots=True)
class Access:
    """A session's network; a restricted session has a ``proxy``."""

    network: Network
    proxy: Proxy | None = None
    witness: Proxy | None = None
    """For a session without a network where containers have one: what it may reach while it is
    proved that it reaches nothing else, and which is then removed."""

    @property
    def egress(self) -> Proxy | None:
        """What its traffic is limited to."""
        return self.proxy or self.witness

    @property
    def traffic(self) -> Traffic | None:
        return None if self.egress is None else session_traffic(self.egress.id)

    @property
    def engine_network(self) -> str | None:
        """The value of the engine's option ``--network``."""
        return None if self.network is Network.OPEN else "none"

    @property
    def volumes(self) -> tuple[VolumeMount, ...]:
        """The volume is read-only, so the session can connect to the socket but not replace it."""
        proxy = self.proxy
        return () if proxy is None else (VolumeMount(proxy.name, places.PROXY_DIRECTORY),)

    @property
    def labels(self) -> Mapping[str, str]:
        """What a session's container remembers of it."""
        labels = {}
        if self.network is not Network.OPEN:
            labels[NETWORK_LABEL] = self.network.value
        if self.egress is not None:
            labels[EGRESS_LABEL] = self.egress.id
        if self.proxy is not None:
            labels[PROXY_LABEL] = self.proxy.to_json()
        return labels

    @property
    def environment(self) -> Mapping[str, str]:
        return {} if self.proxy is None else ENVIRONMENT


OPEN: Final = Access(Network.OPEN)
