"""What a policy permits, and its JSON form."""

from __future__ import annotations

import ipaddress

import pytest

from claude_mcp.proxy.hosts import Host, parse_host
from claude_mcp.proxy.policy import Policy, Upstream, from_json, split_direct


def hosts(*texts: str) -> tuple[Host, ...]:
    found = tuple(parse_host(text, addresses=True) for text in texts)
    return tuple(each for each in found if each is not None)


POLICY = Policy(
    provider=hosts("api.example"),
    allowed=hosts("*.a.example", "b.example:8443", "203.0.113.9:80"),
    private=hosts("in.example", "10.0.0.5:3000"),
    http=Upstream("proxy.example", 3128),
    https=Upstream("proxy.example", 3129, tls=True),
    direct=("in.example", "*.direct.example", ".dotted.example", "ported.example:8443"),
)


@pytest.mark.parametrize(
    ("name", "port", "permitted"),
    [
        ("api.example", 443, True), ("api.example", 444, False), ("x.a.example", 80, True),
        ("a.example", 443, False), ("b.example", 8443, True), ("b.example", 443, False),
        ("in.example", 443, True), ("10.0.0.5", 3000, True), ("10.0.0.5", 443, False),
        ("203.0.113.9", 80, True), ("", 443, False), ("example", 443, False),
    ],
)  # fmt: skip
def test_a_policy_permits_its_hosts(name: str, port: int, permitted: bool) -> None:
    assert POLICY.permits(name, port) is permitted
    assert not Policy().permits(name, port)


def test_only_the_provider_serves_the_model() -> None:
    assert POLICY.serves_model("api.example", 443)
    assert not POLICY.serves_model("api.example", 22)
    assert not POLICY.serves_model("in.example", 443)


@pytest.mark.parametrize(
    ("address", "name", "port", "accepted"),
    [
        ("8.8.8.8", "api.example", 443, True), ("8.8.8.8", "in.example", 443, True),
        ("10.1.1.1", "in.example", 443, True), ("10.1.1.1", "in.example", 22, False),
        ("10.1.1.1", "api.example", 443, False), ("10.1.1.1", "x.a.example", 443, False),
        ("fd00::7", "in.example", 443, True), ("fd00::7", "api.example", 443, False),
        ("127.0.0.1", "in.example", 443, False), ("::1", "in.example", 443, False),
        ("::ffff:127.0.0.1", "in.example", 443, False), ("0.0.0.0", "in.example", 443, False),
        ("169.254.169.254", "in.example", 443, False), ("10.0.0.5", "10.0.0.5", 3000, True),
    ],
)  # fmt: skip
def test_a_policy_accepts_addresses_by_host(
    address: str, name: str, port: int, accepted: bool
) -> None:
    assert POLICY.accepts(ipaddress.ip_address(address), name, port) is accepted


@pytest.mark.parametrize(
    ("name", "port", "goes_directly"),
    [
        ("in.example", 443, True), ("x.in.example", 443, True), ("xin.example", 443, False),
        ("x.direct.example", 80, True), ("direct.example", 80, True), ("dotted.example", 1, True),
        ("x.dotted.example", 1, True), ("ported.example", 8443, True),
        ("ported.example", 443, False), ("api.example", 443, False),
    ],
)  # fmt: skip
def test_only_direct_hosts_bypass_the_upstream_proxy(
    name: str, port: int, goes_directly: bool
) -> None:
    through = POLICY.upstream(name, port, tunnel=True), POLICY.upstream(name, port, tunnel=False)
    assert through == ((None, None) if goes_directly else (POLICY.https, POLICY.http))


def test_a_star_bypasses_the_upstream_proxy() -> None:
    policy = Policy(http=Upstream("proxy.example", 1), direct=("*",))
    assert policy.upstream("a.example", 80, tunnel=False) is None
    assert policy.upstream("a.example", 80, tunnel=True) is None
    assert Policy(direct=("", ".", "*.")).upstream("a.example", 80, tunnel=False) is None
    for empty in ("", ".", "*.", ":80"):
        odd = Policy(http=policy.http, direct=(empty,))
        assert odd.upstream("a.example", 80, tunnel=False) == policy.http


def test_entries_of_no_proxy() -> None:
    assert split_direct(" a.example,.b , c:80\td,,\n*") == ("a.example", ".b", "c:80", "d", "*")
    assert split_direct(" , ") == ()


def test_a_policy_round_trips() -> None:
    assert from_json(POLICY.to_json()).to_json() == POLICY.to_json()
    read = from_json(POLICY.to_json())
    assert set(read.allowed) == set(POLICY.allowed)
    assert (read.provider, read.http, read.https) == (POLICY.provider, POLICY.http, POLICY.https)
    assert set(read.private) == set(POLICY.private)
    assert set(read.direct) == set(POLICY.direct)
    assert from_json(Policy().to_json()) == Policy()


def test_equal_policies_have_equal_text() -> None:
    one = Policy(allowed=hosts("a.example", "b.example"), direct=("x", "y"))
    other = Policy(allowed=hosts("b.example", "a.example"), direct=("y", "x"))
    assert one.to_json() == other.to_json()
    assert one.to_json() != Policy(private=one.allowed, direct=one.direct).to_json()


@pytest.mark.parametrize("name", ["*.com", "127.1", "", "a b", "http://a.example"])
def test_an_invalid_host_makes_a_policy_malformed(name: str) -> None:
    for key in ("provider", "allowed", "private"):
        with pytest.raises(ValueError, match=key):
            from_json(f'{{"{key}": ["{name}"]}}')


@pytest.mark.parametrize(
    "text",
    ["", "what", "[]", "3", "null", '"x"', "[" * 100_000, '{"allowed": 3}', '{"allowed": [3]}',
     '{"allowed": "ab"}', '{"http": ["a"]}', '{"http": 3}', '{"http": {}}', '{"direct": 3}',
     '{"direct": "*"}', '{"direct": [3]}'],
)  # fmt: skip
def test_malformed_json_is_not_a_policy(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(text)
