"""Who serves a session's model, with which credentials, and at which address.

What is missing or contradictory is said before a container exists, all problems at once.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from claude_mcp.config import Config
from claude_mcp.credentials import Secret
from claude_mcp.engine.dialects import Dialect
from claude_mcp.errors import UsageError
from claude_mcp.redaction import redactor
from claude_mcp.sessions.labels import CredentialSource

ANTHROPIC: Final = "anthropic"
BASE_URL: Final = "ANTHROPIC_BASE_URL"
PROC_TCP: Final = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTEN: Final = "0A"


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as a session uses it; ``handover`` is what travels on the agent's stdin."""

    name: str
    source: CredentialSource
    handover: dict[str, Any]
    needs_host_alias: bool
    warnings: tuple[str, ...]


def resolve(config: Config, dialect: Dialect, api_key: str | None = None) -> Provider:
    """The provider for a session; ``api_key`` is the session's own.

    Values given for a session win over the server's as a whole: with a key of its own, none
    of the server's credentials goes in.

    Raises:
        UsageError: naming every problem.
    """
    problems: list[str] = []
    warnings: list[str] = []
    source = CredentialSource.SERVER
    credential: tuple[str, Secret] | None = None
    if api_key is not None:
        source = CredentialSource.SESSION
        if not api_key.strip():
            problems.append("apiKey is empty.")
        credential = ("apiKey", Secret(api_key.strip()))
    elif config.auth_token is not None:
        credential = ("authToken", config.auth_token)
    elif config.api_key is not None:
        credential = ("apiKey", config.api_key)
    elif config.oauth_token is not None:
        credential = ("oauthToken", config.oauth_token)
    if credential is None:
        source = CredentialSource.NONE
        warnings.append(
            "No credentials: prompts will fail. Set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or "
            "CLAUDE_CODE_OAUTH_TOKEN, or pass apiKey to create_session."
        )

    translated = False
    base_url = None
    if config.base_url is not None:
        base_url, moved = _address(BASE_URL, config.base_url, dialect, problems, warnings)
        translated |= moved
    proxies: dict[str, str] = {}
    for name, value in config.proxies.items():
        if name == "NO_PROXY":
            proxies[name] = value
            continue
        proxies[name], moved = _address(name, value, dialect, problems, warnings)
        translated |= moved
    if problems:
        raise UsageError(" ".join(problems))
    if base_url != config.base_url and proxies:
        # No proxy knows the name by which a container reaches this host.
        names = (proxies.get("NO_PROXY"), dialect.host_alias)
        proxies["NO_PROXY"] = ",".join(filter(None, names))
    return Provider(
        name=ANTHROPIC,
        source=source,
        handover={
            "provider": ANTHROPIC,
            "credential": credential and {"kind": credential[0], "value": credential[1].reveal()},
            "baseUrl": base_url,
            "proxies": proxies,
        },
        needs_host_alias=translated,
        warnings=tuple(warnings),
    )


def _address(
    name: str, value: str, dialect: Dialect, problems: list[str], warnings: list[str]
) -> tuple[str, bool]:
    """An address as the container must write it, and whether that differs.

    On the host's loopback nothing but the host itself is reached; a container reaches the
    host under another name, and only what listens on more than loopback.
    """
    try:
        # A proxy is often written without its scheme; for a base URL that would be a guess.
        plain = "://" in value or name == BASE_URL
        parts = urlsplit(value if plain else f"http://{value}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        problems.append(f"{name} is not a URL.")
        return value, False
    if parts.password:
        redactor.add(parts.password)
        redactor.add(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        problems.append(f"{name} must be an http or https URL.")
        return value, False
    if not _is_loopback(parts.hostname):
        return value, False
    if sys.platform == "linux" and not dialect.in_virtual_machine:
        match _listeners(port):
            case "loopback":
                problems.append(
                    f"{name} points at {parts.hostname}:{port}, which listens on the host's "
                    "loopback only, and a container cannot reach that. Let it listen on all "
                    "addresses of the host (0.0.0.0), or give an address that other machines "
                    "can reach."
                )
            case "nobody":
                warnings.append(f"{name} points at {parts.hostname}:{port}: nothing listens there.")
    return _with_host(parts, dialect.host_alias).geturl(), True


def _with_host(parts: SplitResult, host: str) -> SplitResult:
    userinfo, at, _ = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port is not None else ""
    return parts._replace(netloc=f"{userinfo}{at}{host}{port}")


def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listeners(port: int, tables: tuple[str, ...] = PROC_TCP) -> str:
    """Who listens on a TCP port of this host: ``nobody``, ``loopback`` only, or ``wide``.

    Read from the kernel's tables: columns local_address (hexadecimal, 32-bit words in host
    order) and st.
    """
    found = "nobody"
    for table in tables:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, hexadecimal_port = fields[1].partition(":")
            if fields[3] != _LISTEN or int(hexadecimal_port, 16) != port:
                continue
            if not _kernel_address(address).is_loopback:
                return "wide"
            found = "loopback"
    return found


def _kernel_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def restore(config: Config, dialect: Dialect, source: CredentialSource) -> Mapping[str, Any] | None:
    """The server's handover for a session that has no credentials (any more), or None.

    A session that was made with credentials of its own never gets the server's.
    """
    if source is CredentialSource.SESSION:
        return None
    provider = resolve(config, dialect)
    return provider.handover if provider.source is CredentialSource.SERVER else None
