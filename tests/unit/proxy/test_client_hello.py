"""Finding the server name in real and in malformed ClientHellos."""

from __future__ import annotations

import ssl

import pytest

from claude_mcp.proxy.client_hello import REFUSED, NotHello, server_name
from tests.unit.proxy.outside import client_hello

REAL = client_hello("a.example")


def records(message: bytes, piece: int) -> bytes:
    """A handshake message in records of so many bytes."""
    cut = [message[at : at + piece] for at in range(0, len(message), piece)]
    return b"".join(b"\x16\x03\x01" + len(each).to_bytes(2, "big") + each for each in cut)


def block(count: int, data: bytes) -> bytes:
    return len(data).to_bytes(count, "big") + data


def extension(*names: bytes, kind: int = 0) -> bytes:
    inner = b"".join(bytes((kind,)) + block(2, name) for name in names)
    return b"\x00\x00" + block(2, block(2, inner))


def made_up(*extensions: bytes) -> bytes:
    """A ClientHello with these extensions."""
    body = b"\x03\x03" + bytes(32) + block(1, b"") + block(2, b"\x13\x01") + block(1, b"\0")
    return records(b"\x01" + block(3, body + block(2, b"".join(extensions))), 1 << 14)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("a.example", b"a.example"),
        ("A.Example", b"A.Example"),
        ("bücher.example", b"xn--bcher-kva.example"),
        (None, b""),
    ],
)
def test_a_real_client_hello_contains_its_server_name(asked: str | None, name: bytes) -> None:
    assert server_name(client_hello(asked)) == name


def test_an_incomplete_client_hello_needs_more_data() -> None:
    for count in range(len(REAL)):
        assert server_name(REAL[:count]) is None
    assert server_name(REAL) == b"a.example"
    assert server_name(REAL + b"\x14\x03\x03\x00\x01\x01") == b"a.example"


@pytest.mark.parametrize("piece", [100, 120, 200, 300])
def test_a_client_hello_may_span_several_records(piece: int) -> None:
    cut = records(REAL[5:], piece)
    assert cut.count(b"\x16\x03\x01") > 1
    for count in range(len(cut)):
        assert server_name(cut[:count]) is None
    assert server_name(cut) == b"a.example"


def test_a_record_may_hold_less_than_the_length_of_the_message() -> None:
    message = REAL[5:]
    cut = records(message[:1], 1) + records(message[1:3], 2) + records(message[3:], 1 << 14)
    assert server_name(cut) == b"a.example"


def test_too_many_records_are_refused() -> None:
    with pytest.raises(NotHello, match="too many records"):
        server_name(records(REAL[5:], 20))


def test_a_client_hello_that_is_too_long_is_refused() -> None:
    long = b"\x01\x00\x40\x01" + bytes((1 << 14) + 1)
    assert server_name(records(long, 1 << 14)[:8]) is None
    for count in (9, 16_000, None):
        with pytest.raises(NotHello, match="too long"):
            server_name(records(long, 1 << 14)[:count])
    longest = records(b"\x01\x00\x40\x00" + bytes(1 << 14), 1 << 14)
    assert server_name(longest[:-1]) is None
    assert server_name(longest) == b""


@pytest.mark.parametrize(
    "extensions",
    [
        [extension(b"a.example", b"b.example")],
        [extension(b"a.example"), extension(b"b.example")],
        [extension(b"a.example"), extension(b"a.example")],
        [extension(b"a.example", kind=1)],
        [extension(b"a.example")[:-1]],
        [b"\x00\x00\x00\x09"],
        [b"\x00\x00\x00\x02\x00\x09"],
        [b"\x00"],
    ],
)
def test_several_or_malformed_server_names_are_refused(extensions: list[bytes]) -> None:
    with pytest.raises(NotHello):
        server_name(made_up(*extensions))


def test_a_name_is_found_among_other_extensions() -> None:
    others = [b"\x00\x2b" + block(2, b"\x02\x03\x04"), b"\xfe\x0d" + block(2, b"b.example" * 9)]
    assert server_name(made_up(*others, extension(b"a.example"), *others)) == b"a.example"
    assert server_name(made_up(*others)) == b""
    assert server_name(made_up(extension())) == b""
    assert server_name(made_up(extension(b""))) == b""


def test_a_client_hello_without_extensions_has_no_name() -> None:
    body = b"\x03\x01" + bytes(32) + block(1, b"") + block(2, b"\0\x2f") + block(1, b"\0")
    assert server_name(records(b"\x01" + block(3, body), 1 << 14)) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x80\x2e\x01\x03\x01",
        b"\x17\x03\x03\x00\x05hello",
        b"\x15\x03\x01\x00\x02\x01\x00",
        b"\x16\x02\x00\x00\x05",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
        b"\x16\x03\x01\x00\x01\x01\x17\x03\x01\x00\x01a",
        b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x00",
    ],
)
def test_other_protocols_are_not_a_client_hello(data: bytes) -> None:
    with pytest.raises(NotHello):
        server_name(data)


def test_a_changed_byte_never_raises_an_unexpected_error() -> None:
    names = set()
    for at in range(len(REAL)):
        for value in (0, 1, 255, REAL[at] ^ 1, at % 256):
            try:
                names.add(server_name(REAL[:at] + bytes((value,)) + REAL[at + 1 :]))
            except NotHello:
                names.add(None)
    assert {b"a.example", b"", None} < names


def test_the_refusal_is_a_fatal_alert() -> None:
    context = ssl.create_default_context()
    said = ssl.MemoryBIO()
    client = context.wrap_bio(said, ssl.MemoryBIO(), server_hostname="a.example")
    said.write(REFUSED)
    with pytest.raises(ssl.SSLError, match=r"(?i)access.denied"):
        client.do_handshake()


def test_data_after_the_client_hello_is_ignored() -> None:
    """As the data that a client sends with a resumption, before any answer."""
    early = b"\x17\x03\x03\x40\x00" + bytes(1 << 14)
    assert server_name(REAL + early * 3) == b"a.example"
    with pytest.raises(NotHello):
        server_name(records(REAL[5:200], 1 << 14) + early * 3)
