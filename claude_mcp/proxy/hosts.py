"""Host patterns and the addresses that may be reached. Pure functions; runs on Python 3.9."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

DEFAULT_PORTS = (443, 80)
"""The ports of an allowed host without an explicit port."""
LONGEST_NAME = 253

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
# The last label must not look numeric, because resolvers accept addresses in many notations.
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!0x)(?=[a-z0-9-]*[a-z]){_LABEL}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


@dataclass(frozen=True)
class Host:
    """A pattern: a name, all of its subdomains (``wildcard``), or an address."""

    name: str
    wildcard: bool = False
    port: int | None = None

    def matches(self, name: str, port: int) -> bool:
        if port != self.port if self.port is not None else port not in DEFAULT_PORTS:
            return False
        return name.endswith(f".{self.name}") if self.wildcard else name == self.name

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        port = "" if self.port is None else f":{self.port}"
        return f"{'*.' if self.wildcard else ''}{name}{port}"


def canonical_name(text: str) -> str | None:
    """A host name in the form used for comparison; None if it is invalid or an address."""
    name = text.lower()
    name = name[:-1] if name.endswith(".") else name
    # Some non-ASCII letters become ASCII in lower case: the Kelvin sign becomes "k".
    fits = text.isascii() and len(name) <= LONGEST_NAME
    return name if fits and _NAME.fullmatch(name) else None


def parse_address(text: str) -> Address | None:
    """An IPv4 or IPv6 address, the latter with or without brackets; None with a zone."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in bare:
        return None
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        return None


def split_port(text: str) -> tuple[str, int | None] | None:
    """Split ``host`` or ``host:port``; None if the text is neither."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::([0-9]+))?", text)
    if match is None:
        return None
    host, digits = match.groups()
    if digits is None:
        return host, None
    port = int(digits) if _PORT.fullmatch(digits) else 0
    return (host, port) if 0 < port < 65_536 else None


def parse_host(text: str, *, addresses: bool = False) -> Host | None:
    """Parse ``name`` or ``*.name``, with or without ``:port``; None if the text is invalid.

    Addresses are accepted only with ``addresses``. A wildcard must be followed by at least two
    labels, so it cannot cover a top-level domain.
    """
    parts = split_port(text.strip())
    if parts is None:
        return None
    written, port = parts
    wildcard = written.startswith("*.")
    name = canonical_name(written[2:] if wildcard else written)
    if name is None:
        address = parse_address(written) if addresses and not wildcard else None
        return None if address is None else Host(str(address), port=port)
    if wildcard and "." not in name:
        return None
    return Host(name, wildcard, port)


def allows(hosts: Iterable[Host], name: str, port: int) -> bool:
    return any(host.matches(name, port) for host in hosts)


_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        # IANA special-purpose registries: addresses that are not globally reachable.
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        # IPv6: everything outside 2000::/3, and the special ranges in it.
        "::/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "4000::/2", "8000::/1",
        # Azure's metadata service has an address outside the special ranges.
        "168.63.129.16/32",
    )
)  # fmt: skip
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        # This machine; multicast and broadcast.
        "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/96", "ff00::/8",
        # Link-local metadata services. Podman's address of the host, 169.254.1.2, stays allowed.
        "169.254.169.0/24", "169.254.170.0/24", "169.254.0.23/32", "169.254.42.42/32", "fe80::/10",
        # Ranges that embed an arbitrary IPv4 address: mapped, NAT64, Teredo, 6to4.
        "::ffff:0:0:0/96", "64:ff9b:1::/48", "2001::/32", "2002::/16",
        # Other metadata services: Alibaba, Oracle, Azure, AWS, Oracle, Scaleway, Google.
        "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32", "fd00:ec2::254/128",
        "fd00:ec2::23/128", "fd00:c1::a9fe:a9fe/128", "fd00:42::42/128",
        "fd20:ce::254/128",
    )
)  # fmt: skip
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def embedded_ipv4(address: Address) -> Address:
    """The IPv4 address embedded in a mapped or NAT64 address; otherwise the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether every session may reach the address."""
    plain = embedded_ipv4(address)
    return not any(plain in network for network in _REFUSED)


def is_permitted_private(address: Address) -> bool:
    """Whether a host in CLAUDE_MCP_PRIVATE_HOSTS may have this address."""
    plain = embedded_ipv4(address)
    return not any(plain in network for network in _NEVER)
