"""Whether a session reaches its gateway, tried once while the session is made.

Claude Code tries an address that leads nowhere again for three minutes. The agent tries it with one
connection, over which nothing is sent.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from claude_mcp.contract.handover import Credentials
from claude_mcp.contract.places import PROBED_OK
from claude_mcp.contract.redaction import redactor
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.sessions.network.access import Network
from claude_mcp.sessions.providers import addresses

MAX_OUTCOME_CHARS: Final = 100


@dataclass(frozen=True, slots=True)
class Gateway:
    host: str
    """As it is called in the session: an IP address, or the engine's name for the host."""
    port: int


def to_try(credentials: Credentials, dialect: Dialect, network: Network) -> Gateway | None:
    """The gateway, if the session connects to it directly and no name server is asked for it."""
    if credentials.base_url is None or credentials.proxies or network is not Network.OPEN:
        return None
    parts = urlsplit(credentials.base_url)
    host = parts.hostname or ""
    if host != dialect.host_alias:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return None
    return Gateway(host, addresses.port_of(parts))


def warnings(gateway: Gateway, outcome: str, dialect: Dialect) -> tuple[str, ...]:
    """What follows from the agent's ``outcome``, which may be forged."""
    if outcome.strip() == PROBED_OK:
        return ()
    why = redactor.redact(" ".join(outcome.split())[:MAX_OUTCOME_CHARS])
    return (
        f"Nothing answers at the gateway's address {gateway.host}:{gateway.port} from inside the "
        f"session ({why}), so prompts will fail. {_advice(gateway.host, dialect)}",
    )


def _advice(host: str, dialect: Dialect) -> str:
    if host == dialect.host_alias or not addresses.is_own_address(host):
        return (
            "Start the gateway, make it listen on all addresses (0.0.0.0), and let the firewall "
            "admit containers."
        )
    own = addresses.own_address()
    if dialect.alias_reaches_host:
        return f"Use http://{dialect.host_alias} instead: it leads to this machine."
    return f"Use this machine's own address ({own or 'the one that other machines use'}) instead."
