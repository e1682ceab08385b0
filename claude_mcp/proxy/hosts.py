"""Which hosts may be reached, by name and by address. Pure functions; runs on Python 3.9."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

DEFAULT_PORTS = (443, 80)
"""Of an allowed host that is given without one."""
LONGEST_NAME = 253

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
# The last label is no number: what looks like one may be read as an address, in many notations.
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!0x)(?=[a-z0-9-]*[a-z]){_LABEL}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


@dataclass(frozen=True)
class Host:
    """What may be reached: a name, every name below one (``wildcard``), or an address."""

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
    """A host name as it is compared; None for what is none, an address among them."""
    name = text.lower()
    name = name[:-1] if name.endswith(".") else name
    # Of other alphabets too, some letters are Latin ones in lower case: a Kelvin sign is a "k".
    fits = text.isascii() and len(name) <= LONGEST_NAME
    return name if fits and _NAME.fullmatch(name) else None


def parse_address(text: str) -> Address | None:
    """An address in its usual notation, brackets of version 6 included; without a zone."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in bare:
        return None
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        return None


def split_port(text: str) -> tuple[str, int | None] | None:
    """``host`` or ``host:port``; None if it is neither."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::([0-9]+))?", text)
    if match is None:
        return None
    host, digits = match.groups()
    if digits is None:
        return host, None
    port = int(digits) if _PORT.fullmatch(digits) else 0
    return (host, port) if 0 < port < 65_536 else None


def parse_host(text: str, *, addresses: bool = False) -> Host | None:
    """``name``, ``*.name``, each with or without ``:port``; None if it is none of them.

    With ``addresses``, an address will do too. A wildcard needs two labels behind it: a whole
    top-level domain is no choice.
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
        # IANA's registries of special-purpose addresses: what is not globally reachable.
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        # Of version 6 only the range that is in use for the world; of it, what is special.
        "::/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "4000::/2", "8000::/1",
        # A metadata service at an address that looks public (Azure).
        "168.63.129.16/32",
    )
)  # fmt: skip
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        # This machine, everybody.
        "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/96", "ff00::/8",
        # Metadata services on this link, where Podman has the host too (169.254.1.2).
        "169.254.169.0/24", "169.254.170.0/24", "169.254.0.23/32", "169.254.42.42/32", "fe80::/10",
        # An address of version 4 within, which may be any: of a translator, 6to4, Teredo.
        "::ffff:0:0:0/96", "64:ff9b:1::/48", "2001::/32", "2002::/16",
        # Metadata services elsewhere: Alibaba, Oracle, Azure, AWS, Oracle, Scaleway, Google.
        "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32", "fd00:ec2::254/128",
        "fd00:ec2::23/128", "fd00:c1::a9fe:a9fe/128", "fd00:42::42/128",
        "fd20:ce::254/128",
    )
)  # fmt: skip
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def carried(address: Address) -> Address:
    """The address of version 4 that one of version 6 stands for, if it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether it may be reached by any session."""
    plain = carried(address)
    return not any(plain in network for network in _REFUSED)


def is_reachable(address: Address) -> bool:
    """Whether a host may be there that the operator allows at private addresses too."""
    plain = carried(address)
    return not any(plain in network for network in _NEVER)
