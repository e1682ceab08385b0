"""Ways past a restricted network in what the proxy is sent: hosts, tunnels, other protocols."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct

import pytest

from claude_mcp.contract import places as contract
from tests.network_world import (
    ALLOWED,
    FURTHER_PORT,
    OTHER,
    PUBLIC,
    PUBLIC_ADDRESS,
    World,
    addresses_of_host,
    connect,
    get,
)
from tests.restricted import own_address
from tests.witnesses import Witness

# 7, 8: other ports, addresses and hosts by way of the proxy


async def test_other_ports_and_addresses_of_an_allowed_host_are_refused(
    world: World, elsewhere: Witness
) -> None:
    places = [f"{ALLOWED}:{elsewhere.port}", ALLOWED, f"{own_address()}:{world.site.port}"]
    for address in sorted(addresses_of_host()):
        written = f"[{address.partition('%')[0]}]" if ":" in address else address
        places += [f"{written}:{port}" for port in (elsewhere.port, world.site.port)]
    places += [f"[::ffff:{own_address()}]:{world.site.port}", f"{PUBLIC}:{FURTHER_PORT}"]
    for host in (OTHER, PUBLIC_ADDRESS, f"[::ffff:{PUBLIC_ADDRESS}]"):
        places += [f"{host}:{port}" for port in (80, 443, world.site.port, FURTHER_PORT)]
    await world.refuses(*[get(f"http://{place}/", place) for place in places])
    await world.refuses(*[connect(each if ":" in each else f"{each}:443") for each in places])
    assert await world.visits() == []
    assert world.visits_of_proxy(elsewhere) == []
    for port in (80, world.site.port, FURTHER_PORT):
        assert world.visits_behind(PUBLIC, port) == []


def client_hello(name: str | None) -> bytes:
    """What a TLS client begins with."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def in_two_records(hello: bytes) -> bytes:
    def record(body: bytes) -> bytes:
        return hello[:3] + struct.pack(">H", len(body)) + body

    body = hello[5:]
    half = body.index(b"example") + 3
    return record(body[:half]) + record(body[half:])


MARK = "smuggled"
"""In what must not arrive; nothing that may arrive has it."""

OTHER_HOSTS = {
    "host": lambda at: get(f"http://{at}/{MARK}", OTHER),
    "host-with-another-port": lambda at: get(f"http://{at}/{MARK}", f"{ALLOWED}:1"),
    "two-hosts": lambda at: get(f"http://{at}/{MARK}", at, f"Host: {OTHER}"),
    "host-of-two": lambda at: get(f"http://{at}/{MARK}", f"{at}, {OTHER}"),
    "user-before": lambda at: get(f"http://{OTHER}@{at}/{MARK}", at),
    "user-behind": lambda at: get(f"http://{at}@{OTHER}/{MARK}", at),
    "backslash": lambda at: get(f"http://{at}\\@{OTHER}/{MARK}", at),
    "suffix": lambda at: get(f"http://{ALLOWED}.{OTHER}/{MARK}", f"{ALLOWED}.{OTHER}"),
    "connect-host": lambda at: get(at, OTHER, method="CONNECT") + get(f"/{MARK}", at),
    "in-tunnel-host": lambda at: connect(at) + get(f"/{MARK}", OTHER),
    "in-tunnel-two-hosts": lambda at: connect(at) + get(f"/{MARK}", at, f"Host: {OTHER}"),
    "in-tunnel-url": lambda at: connect(at) + get(f"http://{OTHER}/{MARK}", OTHER),
    "in-tunnel-connect": lambda at: connect(at) + connect(f"{MARK}.{OTHER}:443"),
    "in-tunnel-http2": lambda at: connect(at) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + MARK.encode(),
    "in-tunnel-no-protocol": lambda at: connect(at) + MARK.encode() + b"\r\n\r\n",
    "in-tunnel-ftp": lambda at: connect(at) + b"USER " + MARK.encode() + b"\r\n",
    "in-tunnel-ssh": lambda at: connect(at) + b"SSH-2.0-" + MARK.encode() + b"\r\n",
    "tls": lambda at: connect(at) + client_hello(f"{MARK}.{OTHER}"),
    "tls-in-two-records": lambda at: connect(at) + in_two_records(client_hello(f"{MARK}.{OTHER}")),
    "tls-without-a-name": lambda at: connect(at) + client_hello(None) + MARK.encode(),
}  # fmt: skip


@pytest.mark.once
@pytest.mark.parametrize("bypass", OTHER_HOSTS)
async def test_a_request_for_another_host_does_not_arrive(world: World, bypass: str) -> None:
    data = OTHER_HOSTS[bypass](world.allowed)
    (answer,) = await world.send(data)
    assert "welcome" not in answer
    # A tunnel's way is open before it is seen what for.
    assert not any(await world.visits())
    with socket.create_connection(("127.0.0.1", world.site.port)) as direct:
        direct.sendall(data)
    assert MARK.encode() in world.site.until(MARK)[0]


async def test_what_names_the_allowed_host_arrives(world: World) -> None:
    """The control of the test above, for each of the ways."""
    at = world.allowed
    hello = client_hello(ALLOWED)
    tunnelled = [get("/tunnelled", at), hello, in_two_records(hello)]
    await world.send(get(f"http://{at}/plain", at), *[connect(at) + each for each in tunnelled])
    plain, http, *tls = await world.visits()
    assert (plain[:10], http[:14]) == (b"GET /plain", b"GET /tunnelled")
    assert tls == tunnelled[1:]


# 9: more than one request, as somebody else may read it


def post(at: str, *fields: str, body: str = "", newline: str = "\r\n") -> bytes:
    lines = [f"POST http://{at}/first HTTP/1.1", f"Host: {at}", *fields, "", body]
    return newline.join(lines).encode("latin-1")


SECOND = f"GET /{MARK} HTTP/1.1\r\nHost: {OTHER}\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"
SMUGGLED = {
    "length-and-chunked": lambda at: post(
        at, f"Content-Length: {len(SECOND) + 5}", CHUNKED, body="0\r\n\r\n" + SECOND
    ),
    "chunked-and-length": lambda at: post(
        at, CHUNKED, "Content-Length: 4", body=f"{len(SECOND):x}\r\n{SECOND}\r\n0\r\n\r\n"
    ),
    "two-lengths": lambda at: post(
        at, "Content-Length: 0", f"Content-Length: {len(SECOND)}", body=SECOND
    ),
    "list-of-lengths": lambda at: post(at, f"Content-Length: 0, {len(SECOND)}", body=SECOND),
    "signed-length": lambda at: post(at, f"Content-Length: +{len(SECOND)}", body=SECOND),
    "hexadecimal-length": lambda at: post(at, f"Content-Length: {len(SECOND):#x}", body=SECOND),
    "two-encodings": lambda at: post(at, CHUNKED, "Transfer-Encoding: identity", body=SECOND),
    "list-of-encodings": lambda at: post(at, f"{CHUNKED}, identity", body=SECOND),
    "unknown-encoding": lambda at: post(at, "Transfer-Encoding: xchunked", body=SECOND),
    "space-before-colon": lambda at: post(
        at, "Transfer-Encoding : chunked", "Content-Length: 0", body="0\r\n\r\n" + SECOND
    ),
    "vertical-tab": lambda at: post(at, "Transfer-Encoding:\x0bchunked", body=SECOND),
    "chunked-in-1.0": lambda at: post(at, CHUNKED, body="0\r\n\r\n" + SECOND).replace(
        b"first HTTP/1.1", b"first HTTP/1.0"
    ),
    "folded-encoding": lambda at: post(at, "Transfer-Encoding:\r\n chunked", body=SECOND),
    "folded-field": lambda at: post(at, f"X-One: 1\r\n\tHost: {OTHER}", body=SECOND),
    "folded-host": lambda at: get(f"http://{at}/", f"{at}\r\n {MARK}"),
    "field-with-a-space": lambda at: get(f"http://{at}/", at, f"GET /{MARK} HTTP/1.1: 1"),
    "bare-lf": lambda at: post(at, body=SECOND, newline="\n"),
    "bare-lf-in-a-field": lambda at: post(at, f"X-One: 1\n\n{SECOND}"),
    "bare-cr-in-a-field": lambda at: post(at, f"X-One: 1\r\r{MARK}"),
    "nul-in-a-field": lambda at: post(at, f"X-One: \0{MARK}"),
    "pipelined": lambda at: get(f"http://{at}/", at) + SECOND.encode(),
    "pipelined-url": lambda at: get(f"http://{at}/", at)
    + get(f"http://{OTHER}/{MARK}", OTHER) + get(f"http://{at}/{MARK}", at),
    "pipelined-behind-a-body": lambda at: post(at, "Content-Length: 2", body="ab" + SECOND),
    "pipelined-in-a-tunnel": lambda at: connect(at) + get("/", at) + SECOND.encode(),
    "connect-with-a-body": lambda at: get(
        at, at, f"Content-Length: {len(SECOND)}", method="CONNECT") + SECOND.encode(),
    "behind-chunks": lambda at: post(at, CHUNKED, body="2\r\nab\r\n0\r\n\r\n" + SECOND),
    "longer-chunk": lambda at: post(at, CHUNKED, body="2\r\nab" + SECOND + "0\r\n\r\n"),
    "hexadecimal-chunk": lambda at: post(at, CHUNKED, body="0x2\r\nab\r\n" + SECOND),
    "negative-chunk": lambda at: post(at, CHUNKED, body="-1\r\n" + SECOND),
    "huge-chunk": lambda at: post(at, CHUNKED, body="1" + "0" * 16 + "2\r\n" + SECOND),
    "chunks-of-bare-lf": lambda at: post(at, CHUNKED, body="0\n\n" + SECOND),
    "lf-in-a-chunk-extension": lambda at: post(at, CHUNKED, body="1;\n" + SECOND),
    "trailer": lambda at: post(
        at, CHUNKED, body=f"0\r\nHost: {OTHER}\r\nX-One: {MARK}\r\n\r\n"),
    "http-0.9": lambda at: f"GET http://{at}/{MARK}\r\n\r\n".encode(),
    "http-2": lambda at: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + MARK.encode(),
    "upgrade-to-http-2": lambda at: get(
        f"http://{at}/", at, "Connection: Upgrade, HTTP2-Settings", f"Upgrade: h2c-{MARK}",
        f"HTTP2-Settings: {MARK}"),
}  # fmt: skip


@pytest.mark.once
@pytest.mark.parametrize("bypass", SMUGGLED)
async def test_no_second_request_arrives(world: World, bypass: str) -> None:
    """The listener records what comes to the allowed host byte by byte."""
    data = SMUGGLED[bypass](world.allowed)
    await world.send(data)
    for visit in await world.visits():
        assert visit.count(b" HTTP/1.") == 1
        assert visit.count(b"\r\nHost: ") == 1
        assert f"\r\nHost: {world.allowed}\r\n".encode() in visit
        assert MARK.encode() not in visit
    with socket.create_connection(("127.0.0.1", world.site.port)) as direct:
        direct.sendall(data)
    assert MARK.encode() in world.site.until(MARK)[0]


@pytest.mark.once
async def test_a_body_stays_one_whatever_a_connection_field_says(world: World) -> None:
    fields = ("Connection: content-length, host", f"Content-Length: {len(SECOND)}")
    await world.send(post(world.allowed, *fields, body=SECOND))
    (visit,) = await world.visits()
    head, _, body = visit.partition(b"\r\n\r\n")
    assert body == SECOND.encode()
    assert f"Content-Length: {len(SECOND)}".encode() in head.split(b"\r\n")
    assert f"Host: {world.allowed}".encode() in head.split(b"\r\n")


# 12: other protocols


@pytest.mark.once
async def test_the_proxy_speaks_no_other_protocol(world: World, elsewhere: Witness) -> None:
    """SOCKS, FTP and what else curl knows; SOCKS and FTP to the allowed host neither."""
    port = world.site.port
    for host in (ALLOWED, OTHER):
        name, number = host.encode(), struct.pack(">H", port)
        address = socket.inet_aton(world.names[host])
        request = get("/", f"{host}:{port}")
        socks = [
            b"\4\1" + number + address + b"me\0" + request,
            b"\4\1" + number + b"\0\0\0\1me\0" + name + b"\0" + request,
            b"\5\1\0" + b"\5\1\0\1" + address + number + request,
            b"\5\1\0" + b"\5\1\0\3" + bytes((len(name),)) + name + number + request,
        ]
        for answer in await world.send(*socks):
            assert "welcome" not in answer
            assert not answer.startswith(("\0", "\5"))
        words = ("--fail", "--proxy", f"http://127.0.0.1:{contract.PROXY_PORT}")
        code, said = await world.curl(*words, f"ftp://{host}:{port}/x")
        assert code != 0
        assert "403" in said
    for place in (f"{OTHER}:{world.site.port}", f"{own_address()}:{elsewhere.port}"):
        for scheme in ("gopher", "dict", "telnet", "tftp", "smtp", "ldap", "imap", "mqtt"):
            code, said = await world.curl(*words, f"{scheme}://{place}/x")
            assert code != 0, said
    assert await world.visits() == []
    assert world.visits_behind(OTHER, port) == []
    assert world.visits_of_proxy(elsewhere) == []


@pytest.mark.once
async def test_a_proxy_that_is_asked_for_itself_goes_on(world: World) -> None:
    itself = [f"{host}:{contract.PROXY_PORT}" for host in ("127.0.0.1", "localhost", "[::1]")]
    for place in itself:
        await world.refuses(
            connect(place) + connect(world.allowed),
            get(f"http://{place}/", place),
            get(f"http://{place}/http://{world.allowed}/", place),
        )
    url = f"http://127.0.0.1:{contract.PROXY_PORT}"
    command = f"https_proxy={url} http_proxy={url} no_proxy= curl --max-time 20 {url}/"
    assert "claude-mcp refused" in await world.run(world.restricted, command)
    assert await world.visits() == []


@pytest.mark.once
async def test_no_websocket_is_opened_in_plain_http(world: World) -> None:
    """Neither to a host that is not allowed, nor, without a word of it, to one that is."""
    fields = (
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip
    place, at = f"{OTHER}:{world.site.port}", world.allowed
    await world.refuses(get(f"http://{place}/", place, *fields))
    await world.send(get(f"http://{at}/", at, *fields) + b"\x81\x05hello")
    (visit,) = await world.visits()
    assert b"Upgrade" not in visit
    assert visit.endswith(b"\r\nConnection: close\r\n\r\n")
    assert world.visits_behind(OTHER, world.site.port) == []
