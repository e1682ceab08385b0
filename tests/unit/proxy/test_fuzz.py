"""Whatever is said: no byte to a host that is not allowed, no other error, and no hang.

Some inputs each; with CLAUDE_MCP_STRESS, 100,000.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from claude_mcp.proxy import connections, exchange
from claude_mcp.proxy.client_hello import NotHello, server_name
from claude_mcp.proxy.hosts import Host, allows, canonical_name, parse_address, parse_host
from claude_mcp.proxy.policy import Policy, Upstream, from_json
from claude_mcp.proxy.request_head import Malformed, Request, chunk_size, outgoing, parse
from tests.unit.dice import INPUTS, Dice
from tests.unit.proxy.outside import (
    ANSWER,
    INSIDE,
    PUBLIC,
    client_hello,
    connect,
    get,
    origin,
    proxy,
    read_outcome,
)
from tests.unit.proxy.strict import lenient, strict

STRESS = INPUTS > 1000
pytestmark = pytest.mark.timeout(3600 if STRESS else 120)
# What means something to one reader or another.
TELLING = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"@", b"#", b"\\",
    b"/", b"?", b"//", b"%2e", b".", b"..", b"*", b"[", b"]", b"::1", b"127.0.0.3", b"127.3",
    b"0x7f.3", b"in.example", b"a.example", b":80", b":443", b"http://", b"https://", b"CONNECT ",
    b"GET ", b" HTTP/1.1", b" HTTP/1.0", b"\xff", b"\x80", b"\xa0", b"\x0b", b"A", b"+", b"-",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: in.example\r\n",
    b"Host: a.example\r\n", b"Connection: host\r\n", b" folded\r\n", b"Content-Length:5", b"0\r\n",
    b"\x16\x03\x01", b'{"watch": true}\n', b"{}\n", b"9" * 20,
)  # fmt: skip


class Mutations(Dice):
    def mutated(self, data: bytes, most: int = 4) -> bytes:
        """With some bytes lost, doubled, changed or put in."""
        for _ in range(self.random.randrange(most + 1)):
            at = self.random.randrange(len(data) + 1)
            to = min(len(data), at + self.random.choice((0, 0, 1, 1, 2, 8, 40)))
            middle = self.random.choice((b"", data[at:to] * 2, self.random.choice(TELLING)))
            if self.random.random() < 0.1:
                middle = self.random.randbytes(self.random.randrange(1, 9))
            data = data[:at] + middle + data[to:]
        return data

    def pieces(self, data: bytes) -> list[bytes]:
        """The same in up to three pieces."""
        cuts = sorted(self.random.randrange(len(data) + 1) for _ in range(2))
        return [data[: cuts[0]], data[cuts[0] : cuts[1]], data[cuts[1] :]]


HEADS = (
    b"GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\nAccept: */*",
    b"POST http://a.example:8080/ HTTP/1.1\r\nHost: a.example:8080\r\nContent-Length: 10",
    b"PUT http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, x",
    b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Authorization: Basic x",
    b"GET /x HTTP/1.1\r\nHost: a.example\r\nX: y\r\nX: z",
    b"OPTIONS * HTTP/1.0\r\nConnection: close",
)
TUNNEL = Request("CONNECT", "a.example", 443, "")


def test_a_head_is_refused_or_unambiguous() -> None:
    dice = Mutations(1)
    passed_on = 0
    for _ in range(INPUTS * 2):
        data = dice.mutated(dice.random.choice(HEADS))
        inside = dice.random.choice((None, TUNNEL))
        try:
            request = parse(data, inside)
        except Malformed:
            continue
        if request.tunnel:
            assert inside is None
            continue
        passed_on += 1
        sent = outgoing(request)
        read = strict(sent)
        assert read == lenient(sent)
        assert read.host is not None
        again = parse(sent[:-4], Request("CONNECT", request.host, request.port, ""))
        assert (again.host, again.port, again.path) == (request.host, request.port, request.path)
        assert (again.length, again.chunked) == (request.length, request.chunked)
        assert read.encoding is None or (read.encoding.lower() == "chunked") == request.chunked
        assert int(read.length or 0) == request.length
        if inside is not None:
            assert (request.host, request.port) == ("a.example", 443)
        elif b"http://" + request.authority.encode() not in data.lower():
            assert parse_address(request.host) or b"http://" + request.host.encode() in data.lower()
    assert passed_on > INPUTS // 4


def test_a_client_hello_has_one_name_or_is_refused() -> None:
    dice = Mutations(2)
    samples = [client_hello("a.example"), client_hello(None), b"\x16\x03\x01\x00\x05\x01\0\0\x01a"]
    found = set()
    for _ in range(INPUTS * 2):
        data = dice.mutated(dice.random.choice(samples))[: dice.random.choice((60, 9_999, 9_999))]
        with contextlib.suppress(NotHello):
            name = server_name(data)
            found.add(name)
            assert name is None or name == b"" or name in data
            # What is whole is the same, whatever comes behind it.
            if name is not None:
                assert server_name(data + b"\x16\x03\x01\0\0") == name
    assert {None, b"", b"a.example"} <= found


NAMES = ("a.example", "*.a.example", "a.example:8443", "10.0.0.1:80", "[fd00::1]", "x.y.z.example.")


def test_a_host_pattern_round_trips_or_is_refused() -> None:
    dice = Mutations(3)
    read = 0
    for _ in range(INPUTS * 2):
        sample = dice.random.choice(NAMES).encode()
        text = dice.mutated(sample, 2).decode(dice.random.choice(("latin-1", "utf-8")), "replace")
        addresses = dice.random.random() < 0.5
        rule = parse_host(text, addresses=addresses)
        if rule is None:
            continue
        read += 1
        assert parse_host(str(rule), addresses=True) == rule
        assert str(rule).isascii()
        assert canonical_name(rule.name) == rule.name or (
            addresses and str(parse_address(rule.name)) == rule.name
        )
        if rule.wildcard:
            assert "." in rule.name
            assert not allows([rule], rule.name, rule.port or 443)
            assert allows([rule], f"x.{rule.name}", rule.port or 443)
        else:
            assert allows([rule], rule.name, rule.port or 443)
        assert not allows([rule], "in.other", rule.port or 443)
    assert read > INPUTS // 10


def test_the_size_of_a_chunk_is_a_number_or_malformed() -> None:
    dice = Mutations(4)
    sizes = set()
    for _ in range(INPUTS * 2):
        line = dice.mutated(dice.random.choice((b"5", b"1f;x=y", b"000A ;q", b"0")), 2)
        with contextlib.suppress(Malformed):
            size = chunk_size(line)
            sizes.add(size)
            assert 0 <= size < 1 << 60
            assert line[:1] in b"0123456789abcdefABCDEF"
            assert b"\n" not in line
    assert {0, 5, 0x1F, 0xA} <= sizes


def test_a_policy_survives_being_written_down() -> None:
    dice = Mutations(5)
    rules = [rule for name in NAMES if (rule := parse_host(name, addresses=True))]

    def some() -> tuple[Host, ...]:
        return tuple(dice.random.sample(rules, dice.random.randrange(4)))

    for _ in range(INPUTS):
        further = Upstream("proxy.example", 3128, dice.random.random() < 0.5)
        policy = Policy(
            provider=some(),
            allowed=some(),
            private=some(),
            http=dice.random.choice((None, further)),
            https=dice.random.choice((None, further)),
            direct=tuple(dice.random.sample(NAMES, dice.random.randrange(3))),
        )
        text = policy.to_json()
        read = from_json(text)
        assert read.to_json() == text
        for name in ("a.example", "x.a.example", "10.0.0.1", "in.other"):
            for port in (80, 443, 8443):
                assert read.permits(name, port) == policy.permits(name, port)
                assert read.serves_model(name, port) == policy.serves_model(name, port)
        # And what somebody else wrote is a policy or is none.
        bent = json.dumps(dice.bent(json.loads(text), 0.2))
        with contextlib.suppress(ValueError):
            assert isinstance(from_json(bent), Policy)


async def test_mutated_conversations_reach_only_allowed_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Valid ones, mutated and cut: beside the host that is allowed nobody is reached or asked for,
    and what reaches it is one request, or TLS that asks for it."""
    monkeypatch.setattr(exchange, "HEAD_SECONDS", 5.0)
    monkeypatch.setattr(connections, "LINGER_SECONDS", 5.0)
    dice = Mutations(6)
    names = {"a.example": [PUBLIC], "in.example": [INSIDE]}
    async with origin() as host, origin(INSIDE, port=host.port) as inside:
        place = f"a.example:{host.port}"
        policy = Policy(
            allowed=tuple(Host(name, port=host.port) for name in ("a.example", "in.example"))
        )
        opening = b'{"session": "x", "https": "Basic secret"}\n'
        head = f"POST /x HTTP/1.1\r\nHost: {place}\r\n".encode()
        samples = (
            get(place, "/", f"Host: {place}"),
            get(place, "/", "Content-Length: 5") + b"hello",
            get(place, "/", "Transfer-Encoding: chunked") + b"5;x\r\nhello\r\n0\r\nX: y\r\n\r\n",
            get(place) + get(f"in.example:{host.port}"),
            connect(place) + client_hello("a.example"),
            connect(place) + client_hello("in.example"),
            connect(place) + head + b"Content-Length: 5\r\n\r\nhello" + head,
            connect(f"in.example:{host.port}") + client_hello("in.example"),
        )
        answered = 0
        async with proxy(tmp_path, policy, names) as made:

            async def converse() -> None:
                nonlocal answered
                said = dice.mutated(dice.random.choice(samples), 3)
                first = opening if dice.random.random() < 0.9 else dice.mutated(opening, 2)
                pieces = dice.pieces(said)
                vanishes = dice.random.random() < 0.1
                async with made.client(first) as client:
                    with contextlib.suppress(ConnectionError):
                        for piece in pieces:
                            await client.send(piece)
                            await asyncio.sleep(0)
                        if vanishes:
                            client.writer.transport.abort()
                            return
                        client.writer.write_eof()
                    response = read_outcome(await client.rest()).response
                    answered += response == ANSWER

            for _ in range(INPUTS // 20):
                await asyncio.gather(*(converse() for _ in range(20)))
            told = made.told
            assert set(made.asked) <= set(names)
        assert await inside.heard() == []
        arrived = [each for each in await host.heard() if each]
    assert answered > INPUTS // 10
    assert b"secret" not in b"".join(arrived)
    assert "secret" not in json.dumps([each for each in told if "session" in each["session"]])
    for each in arrived:
        if each[:1] == b"\x16":
            name = server_name(each)
            assert name is None or canonical_name(name.decode("latin-1")) == "a.example"
            continue
        start, end, _ = each.partition(b"\r\n\r\n")
        assert strict(start + end).host == place
