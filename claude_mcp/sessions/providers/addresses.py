"""Translates addresses of this host for use in a container, and checks that it can reach them."""

from __future__ import annotations

import ipaddress
import socket
import sys
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.urls import proxy_parts
from claude_mcp.engine.dialects.dialect import Dialect

PROC_TCP: Final = ("/proc/net/tcp", "/proc/net/tcp6")
ELSEWHERE: Final = "192.0.2.1"
"""An address of no machine (RFC 5737)."""
_LISTEN: Final = "0A"


def in_container(
    name: str,
    value: str,
    dialect: Dialect,
    problems: list[str],
    warnings: list[str],
    *,
    scheme_optional: bool = False,
) -> tuple[str, bool]:
    """The URL to use inside the container, and whether it differs from ``value``.

    A container cannot reach the host's loopback. It knows the host by another name, and reaches
    only servers that listen on more than loopback. With some rootless engines, only one of the two
    leads to the host: the name, or the host's own address. A proxy's scheme may be missing
    (``scheme_optional``); for a base URL, assuming one would be a guess.
    """
    try:
        parts = proxy_parts(value) if scheme_optional else urlsplit(value)
        port = port_of(parts)
    except ValueError:
        problems.append(f"{name} is not a URL.")
        return value, False
    for secret in secrets_of(value):
        redactor.add(secret)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        problems.append(f"{name} must be an http or https URL.")
        return value, False
    host = parts.hostname.lower().rstrip(".")
    if not dialect.alias_reaches_host and (is_loopback(host) or host == dialect.host_alias):
        address = own_address() or "the one that other machines use"
        kind = f"rootless {dialect.title}" if dialect.rootless else dialect.title
        problems.append(
            f"{name} points to {host}:{port}, but that does not lead to this machine from a "
            f"container of {kind}. Use this machine's own address ({address}), "
            "and make the server listen there."
        )
        return value, False
    # A container may have this machine's addresses itself.
    has_it_too = not dialect.own_addresses_reach_host and is_own_address(host)
    if not has_it_too and not is_loopback(host):
        return value, False
    if sys.platform == "linux" and not dialect.in_virtual_machine:
        match _listeners(port):
            case "loopback":
                problems.append(
                    f"{name} points to {parts.hostname}:{port}, but that server listens only on "
                    "the host's loopback, which a container cannot reach. Make it listen on all "
                    "addresses (0.0.0.0), or use an address that other machines can reach."
                )
            case "nobody":
                warnings.append(
                    f"{name} points to {parts.hostname}:{port}, but nothing listens there."
                )
    return _with_host(parts, dialect.host_alias).geturl(), True


def is_unused(port: int, dialect: Dialect) -> bool:
    """Whether certainly nothing listens on this TCP port of the engine's host."""
    known = sys.platform == "linux" and not dialect.in_virtual_machine
    return known and _listeners(port) == "nobody"


def port_of(parts: SplitResult) -> int:
    """The port in a URL or its scheme's default; ValueError if it is not a port."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def secrets_of(address: str) -> list[str]:
    """An address that contains a password, and that password; empty if it contains none."""
    try:
        password = proxy_parts(address).password
    except ValueError:
        return []
    return [address, password, unquote(password)] if password else []


def _with_host(parts: SplitResult, host: str) -> SplitResult:
    userinfo, at, _ = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port is not None else ""
    return parts._replace(netloc=f"{userinfo}{at}{host}{port}")


def is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_own_address(host: str) -> bool:
    """Whether this is an address of this machine, or its name."""
    if host == socket.gethostname().lower():
        return True
    try:
        address = ipaddress.ip_address(host)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))  # the kernel refuses the addresses of others
    except (ValueError, OSError):
        return False
    return not address.is_unspecified


def own_address() -> str | None:
    """The address that this machine uses towards others; None if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ELSEWHERE, 9))  # of a datagram socket: nothing is sent
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _listeners(port: int, tables: tuple[str, ...] = PROC_TCP) -> str:
    """Listeners on a TCP port of this host: ``nobody``, ``loopback`` (only) or ``wide``.

    Parses the columns local_address (hexadecimal, 32-bit words in host byte order) and st of the
    kernel's tables.
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
