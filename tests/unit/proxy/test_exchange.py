"""Complete conversations with a real proxy, and what reaches which host."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_mcp.proxy import connections, exchange
from claude_mcp.proxy.client_hello import REFUSED as TLS_REFUSED
from claude_mcp.proxy.hosts import Host
from claude_mcp.proxy.policy import Policy, Upstream
from tests.unit.conftest import open_files
from tests.unit.proxy.outside import (
    ANSWER,
    ANSWER_TO_TLS,
    INSIDE,
    PUBLIC,
    Outcome,
    Proxy,
    Visit,
    client_hello,
    closed_port,
    connect,
    get,
    origin,
    proxy,
    read_outcome,
    soon,
    until,
)
from tests.unit.proxy.strict import strict

NAMES = {"a.example": [PUBLIC], "b.example": [PUBLIC], "in.example": [INSIDE]}
SECRET = "opensesame"
REAL = client_hello("a.example")


def policy(*ports: int) -> Policy:
    """One that allows a.example, and a name that is inside, at these ports."""
    names = ("a.example", "in.example", PUBLIC, INSIDE)
    return Policy(allowed=tuple(Host(name, port=port) for name in names for port in ports))


async def test_a_plain_request_reaches_its_host(tmp_path: Path) -> None:
    async with origin() as host, proxy(tmp_path, policy(host.port), NAMES) as made:
        place = f"a.example:{host.port}"
        outcome = await made.ask(
            get(place, "/x?y", "Content-Length: 4", "Proxy-Authorization: s", method="PUT"), b"body"
        )
        assert outcome.decisions == [
            {"decision": "allowed", "host": "a.example", "port": host.port}
        ]
        assert outcome.response == ANSWER
        [heard] = await host.heard()
    head, _, body = heard.partition(b"\r\n\r\n")
    read = strict(head + b"\r\n\r\n")
    assert (read.method, read.target, read.host, body) == ("PUT", "/x?y", place, b"body")
    assert made.asked == ["a.example"]
    assert made.told == [{**outcome.decisions[0], "session": "mine"}]


async def test_a_tunnel_carries_tls_for_its_own_host(tmp_path: Path) -> None:
    async with origin() as host, proxy(tmp_path, policy(host.port), NAMES) as made:
        place = connect(f"A.EXAMPLE.:{host.port}")
        sent = client_hello("a.example")
        for pieces in ([place, sent], [place + sent], [place + sent[:9], sent[9:60], sent[60:]]):
            outcome = await made.ask(*pieces)
            assert [each["decision"] for each in outcome.decisions] == ["tunnel", "allowed"]
            assert outcome.response == ANSWER_TO_TLS
        assert await host.heard() == [sent] * 3
    assert [each["decision"] for each in made.told] == ["allowed"] * 3


async def test_a_client_hello_may_arrive_byte_by_byte(tmp_path: Path) -> None:
    async with origin() as host, proxy(tmp_path, policy(host.port), NAMES) as made:
        async with made.client() as client:
            await client.send(connect(f"a.example:{host.port}"))
            assert (await client.decision())["decision"] == "tunnel"
            for byte in REAL:
                assert await host.heard_so_far(1) == [b""]
                await client.send(bytes((byte,)))
            assert (await client.decision())["decision"] == "allowed"
            assert await client.rest() == ANSWER_TO_TLS
        assert await host.heard() == [REAL]


async def test_one_plain_request_may_go_through_a_tunnel(tmp_path: Path) -> None:
    async with origin() as host, proxy(tmp_path, policy(host.port), NAMES) as made:
        place = f"a.example:{host.port}"
        outcome = await made.ask(
            connect(place),
            f"POST /x HTTP/1.1\r\nHost: {place}\r\nTransfer-Encoding: chunked\r\n\r\n".encode(),
            b"5;x=y\r\nhello\r\n00\r\nTrailer: x\r\n\r\n" + get("in.example"),
        )
        assert outcome.final == "allowed"
        assert outcome.response == ANSWER
        [heard] = await host.heard()
    head, _, body = heard.partition(b"\r\n\r\n")
    assert strict(head + b"\r\n\r\n").host == place
    assert body == b"5\r\nhello\r\n0\r\n\r\n"


Ask = Callable[[int], list[bytes]]


def tunnel(data: bytes, host: str = "a.example") -> Ask:
    return lambda port: [connect(f"{host}:{port}"), data]


def plain(*fields: str, path: str = "/", host: str = "a.example", body: bytes = b"") -> Ask:
    return lambda port: [get(f"{host}:{port}", path, *fields), body]


REFUSED: dict[str, tuple[Ask, str]] = {
    "another name": (plain(host="b.example"), "may not reach"),
    "a name below": (plain(host="x.a.example"), "may not reach"),
    "data in a name": (plain(host=f"{SECRET}.b.example"), "may not reach"),
    "another port": (lambda port: [connect("a.example:22")], "may not reach"),
    "no port, and that is another": (lambda port: [get("a.example")], "may not reach"),
    "an address": (tunnel(REAL, "127.0.0.9"), "only host names"),
    "an address of version 6": (tunnel(REAL, "[::1]"), "only host names"),
    "an address in another notation": (tunnel(REAL, "0x7f.3"), "no valid host"),
    "an address that is allowed but inside": (tunnel(REAL, INSIDE), "no public address"),
    "an allowed name that is inside": (tunnel(REAL, "in.example"), "no public address"),
    "an allowed name that is inside, plain": (plain(host="in.example"), "no public address"),
    "a Host that is another": (plain("Host: in.example"), "its Host"),
    "two lengths": (plain("Content-Length: 1", "Content-Length: 2"), "more than once"),
    "a length and chunks": (plain("Content-Length: 1", "Transfer-Encoding: chunked"), "more than"),
    "a line that is folded": (plain("X: y", " Host: in.example"), "malformed header"),
    "an empty line that is half": (plain("X: y\n\nGET / HTTP/1.1"), "malformed header"),
    "HTTP/2": (lambda port: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], "not an HTTP/1.1"),
    "HTTP/0.9": (
        lambda port: [f"GET http://a.example:{port}/\r\n\r\n".encode()],
        "not an HTTP/1.1",
    ),
    "https without a tunnel": (
        lambda port: [b"GET https://a.example/ HTTP/1.1\r\n\r\n"],
        "CONNECT",
    ),
    "for the proxy itself": (lambda port: [b"GET / HTTP/1.1\r\n\r\n"], "CONNECT"),
    "TLS without a tunnel": (lambda port: [REAL + b"\r\n\r\n"], "not an HTTP/1.1"),
    "TLS for another host": (tunnel(client_hello("in.example")), "another host"),
    "TLS for a host below": (tunnel(client_hello("x.a.example")), "another host"),
    "TLS for no host": (tunnel(client_hello(None)), "another host"),
    "TLS that is no hello": (tunnel(b"\x16\x03\x01\x00\x05\x02\0\0\0\0"), "ClientHello"),
    "a tunnel in a tunnel": (tunnel(connect("in.example:443")), "must name a path"),
    "a whole URL in a tunnel": (tunnel(get("a.example")), "must name a path"),
    "another Host in a tunnel": (tunnel(b"GET / HTTP/1.1\r\nHost: in.example\r\n\r\n"), "its Host"),
    "no HTTP in a tunnel": (tunnel(b"SSH-2.0-OpenSSH\r\n\r\n"), "not an HTTP/1.1"),
    "bytes in a tunnel": (tunnel(b"\0\1\2\r\n\r\n"), "not an HTTP/1.1"),
    "TLS of a former time in a tunnel": (tunnel(b"\x80.\1\3\1\r\n\r\n"), "not an HTTP/1.1"),
}


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.6\r\n", b"EHLO a.example\r\n", b"USER me\r\nx", b"\r\n"]
)
async def test_another_protocol_is_refused_at_once(tmp_path: Path, said: bytes) -> None:
    """It waits for an answer to its first line, and would wait for ever."""
    async with origin() as host, proxy(tmp_path, policy(host.port), NAMES) as made:
        for tunnelled in (True, False):
            async with made.client() as client:
                await client.send((connect(f"a.example:{host.port}") if tunnelled else b"") + said)
                if tunnelled:
                    assert (await client.decision())["decision"] == "tunnel"
                decision = await client.decision()
                assert decision["decision"] == "refused"
                assert "not an HTTP/1.1" in decision["reason"]
        assert await host.heard(1) == [b""]
    assert [each["decision"] for each in made.told] == ["refused"] * 2


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_request_reaches_no_host(tmp_path: Path, name: str) -> None:
    """A host that may be reached and one that may not; both would write down a byte."""
    ask, why = REFUSED[name]
    async with origin() as host, origin(INSIDE, port=host.port) as inside:
        async with proxy(tmp_path, policy(host.port), NAMES) as made:
            outcome = await made.ask(*ask(host.port))
            # And what may be, may still be.
            assert (await made.ask(*plain()(host.port))).response == ANSWER
        heard = [each for each in await host.heard() if each]
        assert await inside.heard() == []
    assert len(heard) == 1
    assert strict(heard[0]).target == "/"
    assert outcome.final == "refused"
    assert why in outcome.reason
    assert not {"b.example", f"{SECRET}.b.example", "x.a.example"} & set(made.asked)
    assert outcome.response == TLS_REFUSED or outcome.response.startswith(b"HTTP/1.1 403 ")
    assert [each["decision"] for each in made.told] == ["refused", "allowed"]
    assert made.told[0]["session"] == "mine"
    assert ("host" in made.told[0]) == ("host" in outcome.decisions[-1])


async def test_a_name_is_resolved_once_per_connection(tmp_path: Path) -> None:
    answers = [[PUBLIC], [INSIDE], [PUBLIC, INSIDE]]

    async def rebind(name: str, port: int) -> list[str]:
        return answers.pop(0)

    async with origin() as host, origin(INSIDE, port=host.port) as inside:
        async with proxy(tmp_path, policy(host.port), rebind) as made:
            outcomes = [await made.ask(get(f"a.example:{host.port}")) for _ in range(3)]
        assert [each.final for each in outcomes] == ["allowed", "refused", "allowed"]
        assert made.asked == ["a.example"] * 3
        assert await inside.heard() == []
        assert len(await host.heard()) == 2


async def test_a_redirect_does_not_widen_access(tmp_path: Path) -> None:
    async def redirect(visit: Visit) -> None:
        await visit.hear(b"\r\n\r\n")
        await visit.say(f"HTTP/1.1 302 Found\r\nLocation: http://{INSIDE}/\r\n\r\n".encode())

    async with origin(answer=redirect) as host, origin(INSIDE, port=host.port) as inside:
        async with proxy(tmp_path, policy(host.port), NAMES) as made:
            outcome = await made.ask(get(f"a.example:{host.port}"))
            assert outcome.response.endswith(f"Location: http://{INSIDE}/\r\n\r\n".encode())
            assert (await made.ask(get(f"{INSIDE}:{host.port}"))).final == "refused"
        assert await inside.heard() == []


async def test_a_second_request_is_not_forwarded(tmp_path: Path) -> None:
    async with origin() as host, proxy(tmp_path, policy(host.port), NAMES) as made:
        place = f"a.example:{host.port}"
        second = get(place, "/second")
        for first in (
            get(place) + second,
            get(place, "/", "Content-Length: 3", method="POST") + b"abc" + second,
            get(place, "/", "Content-Length: 0", "Connection: keep-alive") + second,
            get(place, "/", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n" + second,
        ):
            outcome = await made.ask(first)
            assert outcome.response == ANSWER
        heard = await host.heard()
    assert len(heard) == 4
    assert all(b"second" not in each and each.count(b"HTTP/1.1") == 1 for each in heard)


@pytest.mark.parametrize("length", [4, 100_000])
async def test_a_truncated_body_gets_no_response(tmp_path: Path, length: int) -> None:
    async def wait_for_all(visit: Visit) -> None:
        await visit.hear()

    async with origin(answer=wait_for_all) as host:
        async with proxy(tmp_path, policy(host.port), NAMES) as made:
            place = f"a.example:{host.port}"
            outcome = await made.ask(get(place, "/", f"Content-Length: {length}"), b"abc")
            assert (outcome.final, outcome.response) == ("allowed", b"")
        [heard] = await host.heard(1)
    assert heard.endswith(b"\r\n\r\nabc")


async def test_no_secret_is_logged(tmp_path: Path) -> None:
    opening = {"session": "mine", "http": f"Basic {SECRET}", "https": f"Basic {SECRET}"}
    async with origin() as host, proxy(tmp_path, policy(host.port), NAMES) as made:
        made.opening = opening
        secrets = (f"/{SECRET}", f"X: {SECRET}", f"Authorization: {SECRET}", f"Cookie: {SECRET}")
        outcomes = [
            await made.ask(get(f"{name}:{host.port}", *secrets))
            for name in ("a.example", "b.example", "in.example")
        ]
        outcomes += [
            await made.ask(get("a.example", *secrets)),
            await made.ask(get(f"a.example:{host.port}", *secrets, SECRET)),
            await made.ask(*tunnel(f"GET /{SECRET} HTTP/1.1\r\n\r\n".encode())(host.port)),
            await made.ask(*tunnel(client_hello(SECRET))(host.port)),
            await made.ask(SECRET.encode() + b"\r\n\r\n"),
        ]
        heard = b"".join(await host.heard())
    assert len(made.told) == len(outcomes)
    assert SECRET not in json.dumps(made.told)
    assert heard.count(f"GET /{SECRET} ".encode()) == 2
    assert b"Basic" not in heard
    for each in made.told:
        assert set(each) <= {"decision", "host", "port", "reason", "session"}
        assert ("reason" in each) == (each["decision"] != "allowed")
    for outcome in outcomes:
        if outcome.final == "refused":
            assert SECRET.encode() not in outcome.response


@pytest.mark.parametrize(
    "opening",
    [b"what\n", b"3\n", b"[]\n", b'"x"\n', b"null\n", b"\xff\xfe\n", b"{\n", b"\n", b"\0\n",
     b"[" * 6_000 + b"\n",
     b'{"a":' * 1_500 + b"\n", b"9" * 5_000 + b"\n", get("a.example") + b"\n"],
)  # fmt: skip
async def test_a_malformed_first_line_is_refused(tmp_path: Path, opening: bytes) -> None:
    async with origin() as host, proxy(tmp_path, policy(host.port), NAMES) as made:
        outcome = await made.ask(get(f"a.example:{host.port}"), opening=opening)
        assert outcome.final == "refused"
        assert "first line" in outcome.reason
        assert await host.heard() == []


@pytest.mark.parametrize("data", [b"x" * 200_000, b"x" * 10_000, b"{}", b""])
async def test_an_endless_first_line_is_refused(tmp_path: Path, data: bytes) -> None:
    async with proxy(tmp_path, policy(1), NAMES) as made:
        assert await made.ask(opening=data) == Outcome([], b"")
        assert made.told == []


async def test_a_session_is_whatever_it_says(tmp_path: Path) -> None:
    async with proxy(tmp_path, policy(1), NAMES) as made:
        odd: list[object] = [{}, 7, ["x"], None, "\ud800\n", "x" * 5_000]
        for said in odd:
            await made.ask(get("b.example"), opening=json.dumps({"session": said}).encode() + b"\n")
        deep = b'{"session":' + b"[" * 3_000 + b"]" * 3_000 + b"}\n"
        assert (await made.ask(get("b.example"), opening=deep)).final == "refused"
        assert len(made.told) == len(odd) + 1
        assert all(isinstance(each["session"], str) for each in made.told)
        assert max(len(each["session"]) for each in made.told) == 200
        json.dumps(made.told).encode()


async def test_a_connection_that_says_nothing_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(name: str, port: int) -> list[str]:
        """What must come in time is what comes after the request."""
        monkeypatch.setattr(exchange, "HEAD_SECONDS", 0.05)
        return [PUBLIC]

    async with origin() as host, proxy(tmp_path, policy(host.port), resolve) as made:
        place = connect(f"a.example:{host.port}")
        for said in (b"", place[:20], place, place + REAL[:40], place + b"GET / "):
            seconds = 60.0 if place in said else 0.05
            monkeypatch.setattr(exchange, "HEAD_SECONDS", seconds)
            async with made.client() as client:
                await client.send(said)
                assert b"allowed" not in await client.rest()
            await made.idle()
        assert await host.heard(3) == [b""] * 3


async def test_who_only_watches_sees_the_end(tmp_path: Path) -> None:
    watch = b'{"watch": true}\n'
    async with proxy(tmp_path, policy(1), NAMES) as made:
        async with made.client(watch) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 0.05)
        async with made.client(watch) as client:
            await client.send(b"x")
            assert await client.rest() == b""


async def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    said = b"HTTP/1.1 502 claude-mcp cannot reach a.example:"
    with closed_port() as port:
        async with proxy(tmp_path, policy(port), NAMES) as made:
            for ask in (get(f"a.example:{port}"), connect(f"a.example:{port}")):
                outcome = await made.ask(ask)
                assert outcome.final == "failed"
                assert outcome.response.startswith(said)


async def test_a_refusal_says_what_to_do(tmp_path: Path) -> None:
    async with proxy(tmp_path, policy(1), NAMES) as made:
        response = (await made.ask(connect("b.example:443"))).response.decode()
    head, _, body = response.partition("\r\n\r\n")
    said = "claude-mcp refused b.example:443: this session may not reach it; a new session can"
    assert body.startswith(said)
    assert head.startswith(f"HTTP/1.1 403 {said}")
    assert f"\r\nContent-Length: {len(body)}\r\n" in head


def further(port: int) -> Policy:
    """Everything goes through an upstream proxy."""
    through = Upstream(PUBLIC, port)
    names = (Host("a.example"), Host("direct.example", port=port))
    return Policy(allowed=names, http=through, https=through, direct=("direct.example",))


def basic(word: str) -> str:
    return "Basic " + base64.b64encode(word.encode()).decode()


async def open_tunnel(visit: Visit) -> None:
    await visit.hear(b"\r\n\r\n")
    if visit.heard.startswith(b"CONNECT"):
        await visit.say(b"HTTP/1.1 200 Fine\r\nVia: x\r\n\r\n")
        visit.heard += await visit.reader.read(65536)
    await visit.say(ANSWER)
    visit.writer.write_eof()
    await visit.hear()


async def test_only_direct_hosts_bypass_the_upstream_proxy(tmp_path: Path) -> None:
    """It alone is told who asks."""
    async with origin(answer=open_tunnel) as host:
        async with proxy(tmp_path, further(host.port), {"direct.example": [PUBLIC]}) as made:
            made.opening = {"session": "x", "http": basic("plain"), "https": basic("tunnel")}
            mine = "Proxy-Authorization: mine"
            inner = b"GET /inner HTTP/1.1\r\nProxy-Authorization: mine\r\n\r\n"
            outcomes = [
                await made.ask(get("a.example", "/x", mine)),
                await made.ask(connect("a.example:443", mine), REAL),
                await made.ask(connect("a.example:80", mine), inner),
                await made.ask(get(f"direct.example:{host.port}", "/x", mine)),
            ]
            assert [each.final for each in outcomes] == ["allowed"] * 4
            assert [each.response for each in outcomes] == [ANSWER] * 4
            refused = await made.ask(get("b.example"))
        assert (refused.final, made.asked) == ("refused", ["direct.example"])
        first, second, third, fourth = await host.heard()
    assert first.startswith(b"GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n")
    assert f"\r\nProxy-Authorization: {basic('plain')}\r\n".encode() in first
    tunnelled = f"Proxy-Authorization: {basic('tunnel')}\r\n\r\n".encode()
    assert second.endswith(tunnelled + REAL)
    head, _, inside = third.partition(tunnelled)
    assert head.startswith(b"CONNECT a.example:80 HTTP/1.1\r\n")
    for passed_on in (inside, fourth):
        assert b"uthorization" not in passed_on
        strict(passed_on)
    assert b"mine" not in first + second + third + fourth


@pytest.mark.parametrize(
    "said", [7, None, "", "x\r\nHost: b.example", "x\ny", "x\0", "ä", "\ud800", ["x"], {"x": 1}]
)
async def test_an_authorization_that_is_none(tmp_path: Path, said: object) -> None:
    async with origin(answer=open_tunnel) as host:
        async with proxy(tmp_path, further(host.port), {}) as made:
            made.opening = {"http": said, "https": said}
            await made.ask(get("a.example"))
            await made.ask(connect("a.example:443"), REAL)
        assert all(b"uthorization" not in each for each in await host.heard())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"HTTP/1.1 407 No\r\n\r\n", "answered: 407 No"), (b"what\r\n\r\n", "answered: nothing"),
     (b"", "answered: nothing")],
)  # fmt: skip
async def test_an_upstream_proxy_that_opens_no_tunnel_is_reported(
    tmp_path: Path, answer: bytes, reason: str
) -> None:
    async def refuse(visit: Visit) -> None:
        await visit.hear(b"\r\n\r\n")
        await visit.say(answer)
        visit.writer.write_eof()
        await visit.hear()

    async with origin(answer=refuse) as host, proxy(tmp_path, further(host.port), {}) as made:
        made.opening = {"https": basic("word")}
        outcome = await made.ask(connect("a.example:443"), REAL)
        assert (outcome.final, outcome.response[:12]) == ("failed", b"HTTP/1.1 502")
        assert reason in outcome.reason
        assert basic("word") not in json.dumps(made.told)
        [heard] = await host.heard(1)
        assert REAL not in heard


async def test_an_unreachable_upstream_proxy_is_reported(tmp_path: Path) -> None:
    with closed_port() as port:
        async with proxy(tmp_path, further(port), {}) as made:
            for ask in (connect("a.example:443"), get("a.example")):
                outcome = await made.ask(ask)
                assert outcome.final == "failed"
                assert f"the proxy {PUBLIC}:{port} cannot be reached" in outcome.reason


async def half_close(made: Proxy, port: int) -> None:
    async with made.client() as client:
        await client.send(get(f"a.example:{port}"))
        client.writer.write_eof()
        await client.rest()


async def vanish(made: Proxy, port: int) -> None:
    async with made.client() as client:
        await client.send(connect(f"a.example:{port}") + REAL)
        client.writer.transport.abort()


async def vanish_in_a_body(made: Proxy, port: int) -> None:
    async with made.client() as client:
        await client.send(get(f"a.example:{port}", "/", "Content-Length: 9"))
        assert (await client.decision())["decision"] == "allowed"
        client.writer.transport.abort()


async def say_half(made: Proxy, port: int) -> None:
    await made.ask(get(f"a.example:{port}")[:-2])


async def be_refused(made: Proxy, port: int) -> None:
    await made.ask(get("b.example"))
    await made.ask(connect(f"in.example:{port}"))
    await made.ask(*tunnel(client_hello("b.example"))(port))


async def ask_and_be_answered(made: Proxy, port: int) -> None:
    assert (await made.ask(*tunnel(REAL)(port))).response == ANSWER_TO_TLS


@pytest.mark.parametrize(
    "end", [half_close, vanish, vanish_in_a_body, say_half, be_refused, ask_and_be_answered]
)
async def test_a_finished_connection_leaves_nothing_open(
    tmp_path: Path, end: Callable[[Proxy, int], asyncio.Future[None]]
) -> None:
    async with origin() as host, proxy(tmp_path, policy(host.port), NAMES) as made:
        known: set[str] = set()

        def is_as_before() -> bool:
            return open_files() <= known

        for _ in range(4):
            await soon(end(made, host.port))
            await made.idle()
            await host.heard()
            known |= set() if known else open_files()  # the first may open what is kept for all
            await until(is_as_before)


async def test_a_client_that_does_not_close_is_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is over for the proxy, whatever its client does then."""
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.05)
    async with (
        origin() as host,
        proxy(tmp_path, policy(host.port), NAMES) as made,
        made.client() as client,
    ):
        await client.send(get(f"a.example:{host.port}"))
        assert (await client.rest()).endswith(ANSWER)
        await made.idle()


MALFORMED_BODIES = {
    "no size": b"what\r\n",
    "an empty size": b"\r\n",
    "a negative size": b"-1\r\nabc",
    "a size that is too large": b"f" * 17 + b"\r\nabc",
    "a chunk that is longer than it says": b"2\r\nabc\r\n0\r\n\r\n",
    "a chunk that is shorter than it says": b"5\r\nabc\r\n0\r\n\r\n",
    "a line end that is half": b"3\nabc\n0\n\n",
    "an extension without end": b"3;" + b"x" * 100_000,
    "an extension with an odd byte": b"3;\0\r\nabc\r\n0\r\n\r\n",
    "trailers without end": b"0\r\n" + b"X: y\r\n" * 101,
    "no last chunk": b"3\r\nabc\r\n",
    "nothing": b"",
}
WOULD_GO_ON = ("a chunk that is shorter than it says", "no last chunk", "nothing")


@pytest.mark.parametrize("name", MALFORMED_BODIES)
async def test_malformed_chunks_get_no_response(tmp_path: Path, name: str) -> None:
    """And what was passed on of it does not look whole."""

    async def wait_for_all(visit: Visit) -> None:
        if (await visit.hear(b"\r\n0\r\n\r\n")).endswith(b"\r\n0\r\n\r\n"):
            await visit.say(ANSWER)

    async with (
        origin(answer=wait_for_all) as host,
        proxy(tmp_path, policy(host.port), NAMES) as made,
    ):
        request = get(f"a.example:{host.port}", "/", "Transfer-Encoding: chunked", method="POST")
        whole = await made.ask(request + b"3\r\nabc\r\n0\r\n\r\n")
        assert whole.response == ANSWER
        async with made.client() as client:
            await client.send(request + MALFORMED_BODIES[name])
            if name in WOULD_GO_ON or "half" in name:
                client.writer.write_eof()
            assert read_outcome(await client.rest()).response == b""
        arrived = await host.heard(2)
    assert len(arrived) == 2
    assert not arrived[1].endswith(b"0\r\n\r\n")


async def answer_early(visit: Visit) -> None:
    """And take nothing more: what still comes is answered by a reset."""
    await visit.hear(b"\r\n\r\n")
    await visit.say(ANSWER + bytes(100_000))


@pytest.mark.parametrize("field", ["Content-Length: 9000000", "Transfer-Encoding: chunked"])
async def test_a_response_may_precede_the_end_of_the_request(tmp_path: Path, field: str) -> None:
    """As that a body is too large."""
    async with (
        origin(answer=answer_early) as host,
        proxy(tmp_path, policy(host.port), NAMES) as made,
    ):
        for _ in range(5):
            body = b"%x\r\n" % 9_000_000 + bytes(9_000_000)
            outcome = await made.ask(get(f"a.example:{host.port}", "/", field, method="PUT"), body)
            assert (outcome.final, outcome.response) == ("allowed", ANSWER + bytes(100_000))
