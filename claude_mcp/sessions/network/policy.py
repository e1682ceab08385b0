"""Decides what a new session may reach: the caller's choice, limited by the configuration."""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from claude_mcp.config import Config
from claude_mcp.contract.urls import proxy_parts
from claude_mcp.contract.wording import named
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.errors import ConfigError, UsageError
from claude_mcp.proxy.hosts import Host, allows, parse_host
from claude_mcp.proxy.policy import Policy, Upstream, split_direct
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.network.access import Access, Network, Proxy
from claude_mcp.sessions.providers import resolve, vertex
from claude_mcp.sessions.providers.addresses import port_of
from claude_mcp.sessions.providers.options import VERTEX
from claude_mcp.sessions.providers.resolve import Provider

MOST_HOSTS: Final = 200
DIGEST_CHARS: Final = 16
HTTPS_PORT: Final = 443
FIXED: Final = "{}, because CLAUDE_MCP_NETWORK_FIXED is set."


def settle(
    config: Config,
    dialect: Dialect,
    wanted: str | None,
    hosts: Sequence[str],
    provider: Provider,
    user: str,
) -> Access:
    """The network of a new session; ``user`` is its ``uid:gid``.

    Raises:
        UsageError: a host cannot be allowed, or the provider cannot be reached this way.
        ConfigError: a configured value is invalid.
    """
    network = network_of(config, wanted)
    if config.network_fixed:
        _check_fixed(network_of(config, None), network, hosts, provider)
        if network is Network.RESTRICTED:
            _check_provider(config, dialect, provider)
    allowed = _hosts(named("allowedHosts"), hosts, UsageError)
    if network is not Network.RESTRICTED:
        if hosts:
            raise UsageError(
                f"{named('allowedHosts')} requires the network 'restricted'; this session's "
                f"network is '{network.value}'.",
                hint="Ask for the network 'restricted' as well, or leave the hosts out."
                if network is Network.OPEN
                else "A session without a network reaches no host; leave the hosts out.",
            )
        has_device = network is Network.NONE and dialect.network_policies
        return Access(network, witness=_witness(config) if has_device else None)
    credential = provider.credentials.credential
    if credential is not None and credential.kind == "machine":
        raise UsageError(
            "A restricted session cannot use this machine's role, because it cannot reach the "
            "metadata service.",
            hint="Pass keys, a bearer token or a credentials file, or use the network 'open'.",
        )
    policy = _policy(config, allowed, provider).to_json()
    image = config.proxy_image or config.image
    # A proxy is shared only by sessions of the same user that expect the same code in it.
    parts = (policy, image, user, payload.proxy_archive())
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:DIGEST_CHARS]
    return Access(network, Proxy(digest, image, policy))


def _witness(config: Config) -> Proxy:
    image = config.proxy_image or config.image
    return Proxy(secrets.token_hex(DIGEST_CHARS // 2), image, Policy().to_json())


def _policy(config: Config, allowed: tuple[Host, ...], provider: Provider) -> Policy:
    servers = _hosts("CLAUDE_MCP_ALLOWED_HOSTS", config.allowed_hosts, ConfigError)
    private = _hosts("CLAUDE_MCP_PRIVATE_HOSTS", config.private_hosts, ConfigError, addresses=True)
    model = _provider_hosts(provider)
    if "baseUrl" not in provider.places:
        # The operator's gateway may have a private address; a gateway that a caller chose may not.
        private = (*private, *model)
    proxies = provider.credentials.proxies
    return Policy(
        provider=model,
        allowed=(*allowed, *servers),
        private=private,
        http=_upstream(proxies.get("HTTP_PROXY")),
        https=_upstream(proxies.get("HTTPS_PROXY")),
        direct=split_direct(proxies.get("NO_PROXY", "")),
    )


def network_of(config: Config, wanted: str | None) -> Network:
    """The network that a caller wants, or else the configured one."""
    try:
        return Network(wanted or config.network)
    except ValueError:
        names = "open, restricted or none"
        if wanted is None:
            raise ConfigError(f"CLAUDE_MCP_NETWORK must be {names}.") from None
        raise UsageError(f"{named('network')} must be {names}.") from None


def _check_fixed(
    configured: Network, network: Network, hosts: Sequence[str], provider: Provider
) -> None:
    """Refuse anything by which a caller would widen the configured network."""
    order = [*Network]
    problem = None
    if order.index(network) < order.index(configured):
        problem = f"Sessions on this server are limited to the network {configured.value!r}"
    elif hosts:
        problem = f"{named('allowedHosts')} is not accepted"
    elif network is Network.RESTRICTED and "baseUrl" in provider.places:
        problem = f"A restricted session cannot choose its own {named('baseUrl')}"
    if problem is not None:
        raise UsageError(FIXED.format(problem))


def _check_provider(config: Config, dialect: Dialect, provider: Provider) -> None:
    """Refuse a provider, region or resource that the operator's settings do not lead to."""
    try:
        known = _provider_hosts(resolve.resolve(config, dialect))
    except UsageError:  # the server has no provider of its own
        known = ()
    known += _hosts("CLAUDE_MCP_ALLOWED_HOSTS", config.allowed_hosts, ConfigError)
    added = [
        str(host)
        for host in _provider_hosts(provider)
        if not allows(known, host.name, host.port or HTTPS_PORT)
    ]
    if added:
        problem = FIXED.format(f"A restricted session cannot reach {' and '.join(added)}")
        raise UsageError(
            problem,
            hint="Use the server's provider, with its region or resource. The operator can add "
            "hosts to CLAUDE_MCP_ALLOWED_HOSTS.",
        )


def _hosts(
    option: str,
    texts: Sequence[str],
    error: type[UsageError] | type[ConfigError],
    *,
    addresses: bool = False,
) -> tuple[Host, ...]:
    if len(texts) > MOST_HOSTS:
        raise error(f"{option} has more than {MOST_HOSTS} hosts.")
    found = []
    for text in texts:
        host = parse_host(_ascii(text), addresses=addresses)
        if host is None:
            raise error(
                f"{option}: {text[:100]!r} is not a valid host.",
                hint="Use names such as files.example.org, *.example.org or "
                "files.example.org:8443, without a scheme or a path.",
            )
        found.append(host)
    return tuple(found)


def _ascii(text: str) -> str:
    """The ASCII form (IDNA) of an international name, as programs request it; "" if ambiguous.

    The conversion must be reversible. Programs convert some characters, such as the German sharp
    s, in different ways, and the resulting names can belong to different owners.
    """
    if text.isascii():
        return text
    name, colon, port = unicodedata.normalize("NFC", text.strip().lower()).partition(":")
    try:
        written = name.encode("idna")
        reversible = written.decode("idna") == name
    except UnicodeError:
        return ""
    return f"{written.decode()}{colon}{port}" if reversible else ""


def _provider_hosts(provider: Provider) -> tuple[Host, ...]:
    credentials = provider.credentials
    address = credentials.base_url
    if not address:
        return tuple(Host(name, port=443) for name in resolve.hosts(credentials))
    parts = urlsplit(address)
    name = (parts.hostname or "").rstrip(".")
    host = parse_host(f"[{name}]" if ":" in name else name, addresses=True)
    if host is None:
        raise UsageError(f"A restricted session cannot reach a provider at {name!r}.")
    tokens = (Host(vertex.TOKEN_HOST, port=443),) if provider.name == VERTEX else ()
    return (Host(host.name, port=port_of(parts)), *tokens)


def _upstream(address: str | None) -> Upstream | None:
    if not address:
        return None
    parts = proxy_parts(address)
    return Upstream(parts.hostname or "", port_of(parts), tls=parts.scheme == "https")
