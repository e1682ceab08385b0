"""What a new session may reach: its creator's choice, within the server's configuration."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from claude_mcp.config import Config
from claude_mcp.contract.urls import proxy_parts
from claude_mcp.errors import ConfigError, UsageError
from claude_mcp.proxy.names import Host, parse_host
from claude_mcp.proxy.policy import Policy, Upstream, split_direct
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.network.access import Access, Network, Proxy
from claude_mcp.sessions.providers.addresses import port_of
from claude_mcp.sessions.providers.options import ANTHROPIC, BEDROCK, FOUNDRY, VERTEX
from claude_mcp.sessions.providers.resolve import Provider

MOST_HOSTS: Final = 200
DIGEST_CHARS: Final = 16
GOOGLE_TOKENS: Final = "oauth2.googleapis.com"


def settle(
    config: Config, wanted: str | None, hosts: Sequence[str], provider: Provider, user: str
) -> Access:
    """The network of a new session, whose ``user`` is ``uid:gid``.

    Raises:
        UsageError: a host cannot be allowed, or the provider cannot be reached like this.
        ConfigError: the same of what is configured.
    """
    network = _network(config, wanted)
    if config.network_fixed:
        _check_fixed(_network(config, None), network, hosts, provider)
    allowed = _hosts("allowedHosts", hosts, UsageError)
    if network is not Network.RESTRICTED:
        if hosts:
            raise UsageError(
                f"allowedHosts is for the network 'restricted', and this one is '{network.value}'."
            )
        return Access(network)
    credential = provider.handover.get("credential") or {}
    if credential.get("kind") == "machine":
        raise UsageError(
            "A restricted session cannot ask for the role of this machine: the metadata service "
            "is out of its reach.",
            hint="Give keys, a bearer token or a credentials file, or use the network 'open'.",
        )
    servers = _hosts("CLAUDE_MCP_ALLOWED_HOSTS", config.allowed_hosts, ConfigError)
    private = _hosts("CLAUDE_MCP_PRIVATE_HOSTS", config.private_hosts, ConfigError, addresses=True)
    model = _provider_hosts(provider)
    if "baseUrl" not in provider.places:
        # The operator's gateway may be at a private address; one that a caller chose may not.
        private = (*private, *model)
    proxies = provider.handover["proxies"]
    policy = Policy(
        provider=model,
        allowed=(*allowed, *servers),
        private=private,
        http=_upstream(proxies.get("HTTP_PROXY")),
        https=_upstream(proxies.get("HTTPS_PROXY")),
        direct=split_direct(proxies.get("NO_PROXY", "")),
    ).to_json()
    image = config.proxy_image or config.image
    # Nobody shares a proxy with the sessions of somebody else, nor one that runs older code.
    parts = (policy, image, user, payload.proxy_archive())
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:DIGEST_CHARS]
    return Access(network, Proxy(digest, image, policy))


def _network(config: Config, wanted: str | None) -> Network:
    try:
        return Network(wanted or config.network)
    except ValueError:
        names = "open, restricted or none"
        if wanted is None:
            raise ConfigError(f"CLAUDE_MCP_NETWORK must be {names}.") from None
        raise UsageError(f"network must be {names}.") from None


def _check_fixed(
    configured: Network, network: Network, hosts: Sequence[str], provider: Provider
) -> None:
    """What a caller chose may not lead further than the server's configuration."""
    order = [*Network]
    problem = None
    if order.index(network) < order.index(configured):
        problem = f"Sessions of this server have the network {configured.value!r}"
    elif hosts:
        problem = "Sessions of this server reach what its configuration allows, and no allowedHosts"
    elif network is Network.RESTRICTED and "baseUrl" in provider.places:
        problem = "Restricted sessions of this server use its provider's address, and no baseUrl"
    if problem is not None:
        raise UsageError(f"{problem}: CLAUDE_MCP_NETWORK_FIXED is set.")


def _hosts(
    told: str,
    texts: Sequence[str],
    error: type[UsageError] | type[ConfigError],
    *,
    addresses: bool = False,
) -> tuple[Host, ...]:
    if len(texts) > MOST_HOSTS:
        raise error(f"{told} has more than {MOST_HOSTS} hosts.")
    found = []
    for text in texts:
        host = parse_host(_ascii(text), addresses=addresses)
        if host is None:
            raise error(
                f"{told}: {text[:100]!r} is no host.",
                hint="Give names such as files.example.org, *.example.org or "
                "files.example.org:8443, without a scheme or a path.",
            )
        found.append(host)
    return tuple(found)


def _ascii(text: str) -> str:
    """Names in other scripts have a form in ASCII, which is what programs ask for.

    It must lead back: of some characters, such as the German sharp s, programs make different
    forms, and those are names of different owners.
    """
    if text.isascii():
        return text
    name, colon, port = unicodedata.normalize("NFC", text.strip().lower()).partition(":")
    try:
        written = name.encode("idna")
        leads_back = written.decode("idna") == name
    except UnicodeError:
        return ""
    return f"{written.decode()}{colon}{port}" if leads_back else ""


def _provider_hosts(provider: Provider) -> tuple[Host, ...]:
    handover = provider.handover
    address = handover.get("baseUrl")
    if address:
        parts = urlsplit(address)
        name = (parts.hostname or "").rstrip(".")
        host = parse_host(f"[{name}]" if ":" in name else name, addresses=True)
        if host is None:
            raise UsageError(f"A restricted session cannot reach a provider at {name!r}.")
        # Google's tokens come from Google, whoever serves the model.
        further = (Host(GOOGLE_TOKENS, port=443),) if provider.name == VERTEX else ()
        return (Host(host.name, port=port_of(parts)), *further)
    return tuple(Host(name, port=443) for name in _PROVIDER_NAMES[provider.name](handover))


def _bedrock_names(handover: Mapping[str, Any]) -> tuple[str, ...]:
    region = handover["region"]
    kinds = ("", "-fips") if region.startswith("us-gov-") else ("",)
    services = ("bedrock-runtime", "bedrock")
    return tuple(
        f"{service}{kind}.{region}.amazonaws.com" for service in services for kind in kinds
    )


def _vertex_names(handover: Mapping[str, Any]) -> tuple[str, ...]:
    """As Claude Code 2.1.330 has them."""
    region = handover["region"]
    if region == "global":
        serving = "aiplatform.googleapis.com"
    elif region in ("us", "eu"):
        serving = f"aiplatform.{region}.rep.googleapis.com"
    else:
        serving = f"{region}-aiplatform.googleapis.com"
    return serving, GOOGLE_TOKENS


def _anthropic_names(handover: Mapping[str, Any]) -> tuple[str, ...]:
    return ("api.anthropic.com",)


def _foundry_names(handover: Mapping[str, Any]) -> tuple[str, ...]:
    return (f"{handover['resource'].lower()}.services.ai.azure.com",)


_PROVIDER_NAMES: Final = {
    ANTHROPIC: _anthropic_names,
    BEDROCK: _bedrock_names,
    VERTEX: _vertex_names,
    FOUNDRY: _foundry_names,
}


def _upstream(address: str | None) -> Upstream | None:
    if not address:
        return None
    parts = proxy_parts(address)
    return Upstream(parts.hostname or "", port_of(parts), tls=parts.scheme == "https")
