"""Request heads are unambiguous or refused."""

from __future__ import annotations

import time

import pytest

from claude_mcp.proxy.request_head import Malformed, Request, chunk_size, connect, outgoing, parse
from tests.unit.proxy.strict import lenient, strict

TUNNEL = Request("CONNECT", "a.example", 443, "")


def head(first: str = "GET http://a.example/ HTTP/1.1", *fields: str) -> bytes:
    return "\r\n".join([first, *fields]).encode("latin-1")


@pytest.mark.parametrize(
    ("first", "host", "port", "path"),
    [
        ("GET http://a.example/ HTTP/1.1", "a.example", 80, "/"),
        ("GET HTTP://A.Example. HTTP/1.1", "a.example", 80, "/"),
        ("GET http://a.example:8080/x?y HTTP/1.0", "a.example", 8080, "/x?y"),
        ("GET http://a.example?x=/@:80 HTTP/1.1", "a.example", 80, "/?x=/@:80"),
        ("GET http://a.example//b.example/ HTTP/1.1", "a.example", 80, "//b.example/"),
        ("OPTIONS http://10.0.0.1/ HTTP/1.1", "10.0.0.1", 80, "/"),
        ("GET http://[FD00::0:1]:81/ HTTP/1.1", "fd00::1", 81, "/"),
        ("CONNECT a.example:443 HTTP/1.1", "a.example", 443, ""),
        ("CONNECT A.EXAMPLE.:22 HTTP/1.0", "a.example", 22, ""),
        ("CONNECT [::1]:443 HTTP/1.1", "::1", 443, ""),
    ],
)
def test_a_request_names_its_destination(first: str, host: str, port: int, path: str) -> None:
    request = parse(head(first))
    assert (request.host, request.port, request.path) == (host, port, path)
    assert request.tunnel == first.startswith("CONNECT")


@pytest.mark.parametrize(
    "first",
    [
        "", "GET", "GET /", "GET http://a.example/", "GET  http://a.example/ HTTP/1.1",
        " GET http://a.example/ HTTP/1.1", "GET http://a.example/ HTTP/1.1 ",
        "GET http://a.example/\tHTTP/1.1", "GET\thttp://a.example/ HTTP/1.1",
        "GET http://a.example/ x HTTP/1.1", "GET http://a.example/ HTTP/2.0",
        "GET http://a.example/ HTTP/1.2", "GET http://a.example/ HTTP/1.10",
        "GET http://a.example/ HTTP/0.9", "GET http://a.example/ http/1.1",
        "PRI * HTTP/2.0", "PRI * HTTP/1.1", "get http://a.example/ HTTP/1.1",
        "G\0T http://a.example/ HTTP/1.1", "GET http://a.example/\0 HTTP/1.1",
        "GET http://a.example/\r HTTP/1.1", "GET http://a.example/ HTTP/1.1\n",
        "GET http://a.example/\nHost: b HTTP/1.1", "GET / HTTP/1.1", "GET a.example HTTP/1.1",
        "GET //a.example/ HTTP/1.1", "GET * HTTP/1.1", "GET https://a.example/ HTTP/1.1",
        "GET ftp://a.example/ HTTP/1.1", "GET http:a.example/ HTTP/1.1",
        "GET http:/a.example/ HTTP/1.1", "GET http:///a.example/ HTTP/1.1",
        "GET http://b@a.example/ HTTP/1.1", "GET http://b:c@a.example/ HTTP/1.1",
        "GET http://a.example@b.example/ HTTP/1.1", "GET http://a.example#b.example/ HTTP/1.1",
        "GET http://a.example/#b HTTP/1.1", "GET http://a.example\\b.example/ HTTP/1.1",
        "GET http://a.example/\\b HTTP/1.1", "GET http://a.example:/ HTTP/1.1",
        "GET http://a.example:0/ HTTP/1.1", "GET http://a.example:65536/ HTTP/1.1",
        "GET http://a.example:80:80/ HTTP/1.1", "GET http://a%2eexample/ HTTP/1.1",
        "GET http://a.ex\xe4mple/ HTTP/1.1", "GET http://a.example/\xe4 HTTP/1.1",
        "GET http://127.1/ HTTP/1.1", "GET http://2130706433/ HTTP/1.1",
        "GET http://0x7f.1/ HTTP/1.1", "GET http://[fe80::1%25eth0]/ HTTP/1.1",
        "GET http://::1/ HTTP/1.1", "GET http://a.example;b/ HTTP/1.1",
        "CONNECT a.example HTTP/1.1", "CONNECT a.example: HTTP/1.1", "CONNECT :443 HTTP/1.1",
        "CONNECT http://a.example:443 HTTP/1.1", "CONNECT a.example:443/ HTTP/1.1",
        "CONNECT b@a.example:443 HTTP/1.1", "CONNECT * HTTP/1.1", "CONNECT / HTTP/1.1",
        "CONNECT 127.1:443 HTTP/1.1", "CONNECT [::1%lo]:443 HTTP/1.1",
        f"{'A' * 21} http://a.example/ HTTP/1.1",
    ],
)  # fmt: skip
def test_other_request_lines_are_refused(first: str) -> None:
    with pytest.raises(Malformed):
        parse(head(first))


@pytest.mark.parametrize(
    "fields",
    [
        ["Content-Length: 3", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 3"],
        ["Content-Length: 3", "Content-Length: 3"],
        ["Content-Length: 3", "content-length: 4"],
        ["Content-Length: 3, 3"],
        ["Content-Length: +3"],
        ["Content-Length: -3"],
        ["Content-Length: 0x3"],
        ["Content-Length: 010"],
        ["Content-Length: 00"],
        ["Content-Length: 3 3"],
        ["Content-Length: 3;"],
        ["Content-Length: 3.0"],
        ["Content-Length: 1e3"],
        ["Content-Length: 1_0"],
        ["Content-Length: \xb2"],
        ["Content-Length:"],
        ["Content-Length: " + "9" * 19],
        ["Content-Length : 3"],
        ["Content-Length\t: 3"],
        [" Content-Length: 3"],
        ["\tContent-Length: 3"],
        ["Content-Length: 3\n"],
        ["Content-Length: 3\rX: y"],
        ["Content-Length: 3\nTransfer-Encoding: chunked"],
        ["X: y\rTransfer-Encoding: chunked"],
        ["X: y\n\nGET http://b.example/ HTTP/1.1"],
        ["X: a", " Transfer-Encoding: chunked"],
        ["X: a", "\tb"],
        ["X: \0"],
        ["X\0: a"],
        ["X: \x7f"],
        ["X: \x0b"],
        ["X Y: a"],
        ["X"],
        [": a"],
        ["\xe4: a"],
        ["(x): a"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: identity, chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunkedx"],
        ["Transfer-Encoding: chunked;q=1"],
        ['Transfer-Encoding: "chunked"'],
        ["Transfer-Encoding: \x0bchunked"],
        ["Transfer-Encoding: \xa0chunked"],
        ["Transfer-Encoding: chun\tked"],
        ["Transfer-Encoding:"],
        ["Transfer-Encoding: ,chunked"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding", " : chunked"],
        ["Transfer-Encoding:", " chunked"],
        ["Host: a.example", "Host: a.example"],
        ["Host: a.example", "host: b.example"],
        ["Host: b.example"],
        ["Host: a.example:81"],
        ["Host: a.example, b.example"],
        ["Host: a.example b.example"],
        ["Host: x@a.example"],
        ["Host: a.example/"],
        ["Host: http://a.example"],
        ["Host: a.ex\xe4mple"],
        ["Host:"],
        ["Host : a.example"],
        [" Host: b.example"],
        ["Host: a.example\0"],
    ],
)
def test_ambiguous_requests_are_refused(fields: list[str]) -> None:
    with pytest.raises(Malformed):
        parse(head("POST http://a.example/ HTTP/1.1", *fields))
    with pytest.raises(Malformed):
        parse(head("POST / HTTP/1.1", *fields), Request("CONNECT", "a.example", 80, ""))


@pytest.mark.parametrize("value", ["chunked", "Chunked", "CHUNKED", " \t chunked\t"])
def test_a_body_in_chunks(value: str) -> None:
    request = parse(head("POST http://a.example/ HTTP/1.1", f"Transfer-Encoding:{value}"))
    assert request.chunked
    with pytest.raises(Malformed):
        parse(head("POST http://a.example/ HTTP/1.0", f"Transfer-Encoding:{value}"))


@pytest.mark.parametrize("value", ["0", " 3", "\t12 "])
def test_a_body_with_a_length(value: str) -> None:
    request = parse(head("POST http://a.example/ HTTP/1.1", f"Content-Length:{value}"))
    assert (request.length, request.chunked) == (int(value), False)


@pytest.mark.parametrize("field", ["Content-Length: 1", "Transfer-Encoding: chunked"])
def test_a_request_for_a_tunnel_has_no_body(field: str) -> None:
    assert parse(head("CONNECT a.example:443 HTTP/1.1", "Content-Length: 0")).tunnel
    with pytest.raises(Malformed):
        parse(head("CONNECT a.example:443 HTTP/1.1", field))


@pytest.mark.parametrize(
    "value", ["a.example", "A.EXAMPLE", "a.example.", "a.example:80", " a.example "]
)
def test_a_host_in_any_spelling(value: str) -> None:
    request = parse(head("GET http://a.example/ HTTP/1.1", f"Host:{value}"))
    assert outgoing(request).count(b"Host") == 1
    assert b"\r\nHost: a.example\r\n" in outgoing(request)


@pytest.mark.parametrize(
    "first",
    ["GET http://a.example/ HTTP/1.1", "CONNECT a.example:443 HTTP/1.1", "GET x HTTP/1.1",
     "GET //a HTTP/2.0", "GET a.example:443 HTTP/1.1", "OPTIONS ** HTTP/1.1",
     "GET /#x HTTP/1.1", "GET /\\x HTTP/1.1", "CONNECT / HTTP/1.1"],
)  # fmt: skip
def test_a_request_in_a_tunnel_must_name_a_path(first: str) -> None:
    with pytest.raises(Malformed):
        parse(head(first), TUNNEL)


def test_a_request_in_a_tunnel_is_for_the_host_of_the_tunnel() -> None:
    for fields in ([], ["Host: a.example"], ["Host: A.example.:443"]):
        request = parse(head("GET /x?y HTTP/1.1", *fields), TUNNEL)
        assert (request.host, request.port, request.path) == ("a.example", 443, "/x?y")
    assert parse(head("OPTIONS * HTTP/1.1"), TUNNEL).path == "*"
    for other in ("Host: b.example", "Host: a.example:80"):
        with pytest.raises(Malformed):
            parse(head("GET / HTTP/1.1", other), TUNNEL)


def test_hop_by_hop_fields_are_removed() -> None:
    request = parse(
        head(
            "POST http://a.example/x HTTP/1.1", "Proxy-Authorization: Basic key",
            "host: a.example",
            "PROXY-CONNECTION: keep-alive", "Keep-Alive: 5", "TE: trailers", "Trailer: X",
            "Upgrade: h2c", "HTTP2-Settings: x", "Proxy-Authenticate: x", "X-One: 1", "X-Two:2",
            "Connection: close, X-one ,,content-length", "Content-Length: 4", "connection: Host",
            "Connection: authorization, transfer-encoding", "Authorization: Bearer key",
        )
    )  # fmt: skip
    assert outgoing(request) == (
        b"POST /x HTTP/1.1\r\nHost: a.example\r\nX-Two: 2\r\nContent-Length: 4\r\n"
        b"Authorization: Bearer key\r\nConnection: close\r\n\r\n"
    )


def test_an_upstream_proxy_receives_the_full_url_and_authorization() -> None:
    request = parse(head("GET http://a.example:8080/x HTTP/1.1"))
    assert outgoing(request, absolute=True, authorization="Basic x") == (
        b"GET http://a.example:8080/x HTTP/1.1\r\nHost: a.example:8080\r\n"
        b"Proxy-Authorization: Basic x\r\nConnection: close\r\n\r\n"
    )
    assert connect("fd00::1", 443, "Basic x") == (
        b"CONNECT [fd00::1]:443 HTTP/1.1\r\nHost: [fd00::1]:443\r\n"
        b"Proxy-Authorization: Basic x\r\n\r\n"
    )
    assert (
        connect("a.example", 80) == b"CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("first", "fields", "host"),
    [
        ("GET http://a.example HTTP/1.0", [], "a.example"),
        (
            "PUT http://a.example:443/x HTTP/1.1",
            ["Content-Length: 7", "X: \xe4\t"],
            "a.example:443",
        ),
        ("POST http://[::1]/?q HTTP/1.1", ["Transfer-Encoding: chunked"], "[::1]"),
        ("GET http://a.example:8/ HTTP/1.1", ["Connection: x, host", "X: y"], "a.example:8"),
    ],
)
def test_other_parsers_read_the_forwarded_request_identically(
    first: str, fields: list[str], host: str
) -> None:
    request = parse(head(first, *fields))
    passed_on = outgoing(request)
    assert strict(passed_on) == lenient(passed_on)
    assert strict(passed_on).host == host
    assert strict(passed_on).target == request.path


@pytest.mark.parametrize(
    ("line", "size"),
    [(b"0", 0), (b"5", 5), (b"fF", 255), (b"0005", 5), (b"5;x=y", 5), (b'5 ;x="\xe4;"', 5),
     (b"f" * 15, 16**15 - 1), (b"5;", 5)],
)  # fmt: skip
def test_the_size_of_a_chunk(line: bytes, size: int) -> None:
    assert chunk_size(line) == size


@pytest.mark.parametrize(
    "line",
    [b"", b" 5", b"5 ", b"+5", b"-5", b"0x5", b"5\n", b"5\r", b"\n5", b"5 5", b"g", b"f" * 16,
     b"5\0", b"5;\0", b"5;\n", b"5;a\rb", b"5,", b"5\t" * 11 + b";", b";x", b"5_0", b"\xb2"],
)  # fmt: skip
def test_an_invalid_chunk_size_is_refused(line: bytes) -> None:
    with pytest.raises(Malformed):
        chunk_size(line)


@pytest.mark.parametrize(
    "odd",
    [b"GET " + b"!" * 65_000, b"GET http://" + b"a." * 32_000 + b"/ HTTP/1.1",
     b"GET http://a.example/" + b"?" * 64_000 + b" HTTP/1.0x", b"A" * 65_000,
     b"GET http://a.example/ HTTP/1.1\r\n" + b"a:\r\n" * 16_000 + b"\0",
     b"GET http://a.example/ HTTP/1.1\r\nX:" + b" \t" * 32_000 + b"\0",
     b"GET http://a.example/ HTTP/1.1\r\nConnection: " + b"," * 64_000 + b"\0",
     b"CONNECT " + b"1" * 64_000 + b":" + b"1" * 900 + b" HTTP/1.1", b"\r\n" * 32_000],
)  # fmt: skip
def test_parsing_a_head_takes_linear_time(odd: bytes) -> None:
    began = time.process_time()
    with pytest.raises(Malformed):
        parse(odd)
    with pytest.raises(Malformed):
        chunk_size(b"5" + b" " * 10 + odd)
    assert time.process_time() - began < 0.5
