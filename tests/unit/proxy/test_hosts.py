"""Host patterns, and addresses that may not be reached."""

from __future__ import annotations

import ipaddress
import socket
import time

import pytest

from claude_mcp.proxy.hosts import (
    Host,
    allows,
    canonical_name,
    is_permitted_private,
    is_public,
    parse_address,
    parse_host,
    split_port,
)


def host(text: str) -> Host:
    found = parse_host(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("rule", "name", "port"),
    [
        ("a.example", "a.example", 443),
        ("a.example", "a.example", 80),
        ("A.Example.", "a.example", 443),
        ("a.example:8443", "a.example", 8443),
        ("*.a.example", "b.a.example", 443),
        ("*.a.example", "c.b.a.example", 80),
        ("*.a.example:22", "b.a.example", 22),
        ("a_b.example", "a_b.example", 443),
        ("localhost", "localhost", 443),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", 443),
    ],
)
def test_a_pattern_allows_its_hosts(rule: str, name: str, port: int) -> None:
    assert allows([host("other.example"), host(rule)], name, port)


@pytest.mark.parametrize(
    ("rule", "name", "port"),
    [
        ("a.example", "b.a.example", 443),
        ("a.example", "aa.example", 443),
        ("a.example", "a.example.evil.example", 443),
        ("a.example", "a.example", 22),
        ("a.example", "a.example", 8443),
        ("a.example:8443", "a.example", 443),
        ("*.a.example", "a.example", 443),
        ("*.a.example", "ba.example", 443),
        ("*.a.example", "b.a.example", 22),
        ("*.a.example:22", "b.a.example", 443),
    ],
)
def test_a_pattern_allows_no_other_host(rule: str, name: str, port: int) -> None:
    assert not allows([host(rule)], name, port)


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "*", "*.", "*.com", "*.com.", "*.localhost", "*.*.example.com",
        "a.*.example",
        "a*.example.com", "a..example", ".a.example", "a.example..", "-a.example", "a-.example",
        "a b.example", "a.example\0", "a.example\n.b", "a\0.example", "a.example/", "a@b.example",
        "a.example:0", "a.example:65536", "a.example:080", "a.example:+80", "a.example:", "a:b:80",
        "a.example:80:80", "%61.example", "a.exa\u200bmple", "exämple.example", "\uff41.example",
        "a\u3002example", "\u212aube.example", "a.example:٨٠", "*.127.0.0.1", "*.0.1",
        f"{'a' * 64}.example", "a." * 130 + "example",
        "a.example:" + "9" * 10_000,
    ],
)  # fmt: skip
def test_an_invalid_pattern_is_refused(text: str) -> None:
    assert parse_host(text) is None
    assert parse_host(text, addresses=True) is None


ADDRESSES_IN_ANY_NOTATION = [
    "127.0.0.1", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0",
    "0.0.0.0", "1", "127.0.0.1.", "0177.0.0.1", "127.0.0.0x1", "10.0.0.0xA", "1.2.3.4.5", "a.1",
    "[::]", "[::1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1%eth0]",
    "[fe80::1%25eth0]", "::1", "[::1", "::1]", "[127.0.0.1]", "0X7F.1", "0x", "a.0x1f",
]  # fmt: skip


@pytest.mark.parametrize("text", ADDRESSES_IN_ANY_NOTATION)
def test_no_notation_of_an_address_is_a_name(text: str) -> None:
    assert canonical_name(text) is None
    assert parse_host(text) is None


def test_the_system_reads_no_accepted_name_as_an_address() -> None:
    """Of all that is short and looks like numbers."""
    accepted = refused = 0
    pieces = ["0", "1", "255", "0x1", "0x", "01", "a", "f", "x", "1a", "e1", "-1", "_"]
    for first in pieces:
        for second in ["", *(f".{piece}" for piece in pieces)]:
            name = canonical_name(first + second)
            if name is None:
                refused += 1
                continue
            accepted += 1
            with pytest.raises(OSError, match=r"."):
                socket.inet_aton(name)
    assert accepted > 20
    assert refused > 100


def test_the_longest_name() -> None:
    longest = ".".join(["a" * 63] * 3 + ["a" * 61])
    assert canonical_name(longest) == canonical_name(f"{longest}.") == longest
    assert canonical_name(f"{longest}a") is None


def test_addresses_are_patterns_only_if_enabled() -> None:
    for text, name, written in [
        ("10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("10.0.0.1:8080", "10.0.0.1", "10.0.0.1:8080"),
        ("[FD00::0:1]:8080", "fd00::1", "[fd00::1]:8080"),
    ]:
        found = parse_host(text, addresses=True)
        assert found is not None
        assert (found.name, str(found)) == (name, written)
        assert parse_host(written, addresses=True) == found
    for text in ("[fe80::1%eth0]", "*.10.0.0.1", "*.[::1]", "10.1", "fd00::1", "010.0.0.1"):
        assert parse_host(text, addresses=True) is None


@pytest.mark.parametrize("text", ["a.example", "a.example:1", "*.a.example", "*.a.example:65535"])
def test_a_pattern_round_trips(text: str) -> None:
    assert str(host(text)) == text


def test_a_port_is_split_off_or_the_text_is_refused() -> None:
    assert split_port("a:1") == ("a", 1)
    assert split_port("[::1]:65535") == ("[::1]", 65535)
    assert split_port("a") == ("a", None)
    for text in ("", ":1", "a:", "a:b", "a:1:2", "[::1]1", "[::1", "[g]", "[::1%lo]:1", "a:-1"):
        assert split_port(text) is None


SPECIAL = [
    # IANA's registries of special-purpose addresses, and multicast.
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
    "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
    "::/128", "::1/128", "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64",
    "2001::/23", "2001::/32", "2001:2::/48", "2001:10::/28", "2001:20::/28", "2001:db8::/32",
    "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fd00::/8", "fe80::/10", "fec0::/10",
    "ff00::/8",
]  # fmt: skip


@pytest.mark.parametrize("text", SPECIAL)
def test_special_addresses_are_not_public(text: str) -> None:
    network = ipaddress.ip_network(text)
    first, last = network.network_address, network.broadcast_address
    middle = ipaddress.ip_address((int(first) + int(last)) // 2)
    for address in (first, middle, last):
        assert not is_public(address)
        if isinstance(address, ipaddress.IPv4Address):
            for wrapped in (f"::ffff:{address}", f"64:ff9b::{address}", f"::{address}"):
                assert not is_public(ipaddress.ip_address(wrapped))


@pytest.mark.parametrize(
    "text",
    ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "172.32.0.0",
     "192.167.255.255", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8",
     "64:ff9b::8.8.8.8"],
)  # fmt: skip
def test_public_addresses_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


def test_every_public_address_is_global_to_python() -> None:
    public = 0
    for high in range(1 << 12):  # every /12 of both versions
        for address in (
            ipaddress.IPv4Address(high << 20),
            ipaddress.IPv6Address(high << 116),
            ipaddress.IPv6Address((high << 116) + (1 << 100) + 1),
        ):
            if is_public(address):
                public += 1
                assert address.is_global
                assert not address.is_multicast
    assert public > 1000


NEVER = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::", "::1", "::ffff:127.0.0.1",
    "::ffff:0.0.0.0", "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "::ffff:169.254.169.254",
    "224.0.0.1", "255.255.255.255", "ff02::1", "169.254.169.254", "169.254.170.2",
    "169.254.170.23", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254",
    "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fe80::a9fe:a9fe",
    "169.254.0.23", "169.254.42.42", "169.254.169.253", "::127.0.0.1", "::169.254.169.254",
    "64:ff9b:1::7f00:1", "64:ff9b:1:a9fe:a9:fe00::", "2002:7f00:1::1", "2002:a9fe:a9fe::",
    "2001:0:7f00:1::1", "::ffff:0:7f00:1",
]  # fmt: skip


@pytest.mark.parametrize("text", NEVER)
def test_addresses_that_are_never_reachable(text: str) -> None:
    assert not is_permitted_private(ipaddress.ip_address(text))
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "8.8.8.8", "169.254.1.2"],
)
def test_addresses_that_a_private_host_may_have(text: str) -> None:
    assert is_permitted_private(ipaddress.ip_address(text))


def test_an_address_with_a_zone_is_refused() -> None:
    assert parse_address("fe80::1%1") is None
    assert parse_address("[fe80::1%eth0]") is None
    assert parse_address("fe80::1") == ipaddress.ip_address("fe80::1")


@pytest.mark.parametrize(
    "text",
    ["a." * 32_000, "a" * 64_000, "-" * 64_000, "0" * 64_000, ":" * 64_000, "[" + ":" * 64_000,
     "a:" + "1" * 64_000, "*." * 32_000, "1." * 32_000 + "x", "[" + "0:" * 32_000 + "]"],
)  # fmt: skip
def test_parsing_a_name_takes_linear_time(text: str) -> None:
    began = time.process_time()
    assert parse_host(text, addresses=True) is None
    assert time.process_time() - began < 0.5
