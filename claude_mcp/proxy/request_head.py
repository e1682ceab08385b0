"""Heads of HTTP requests, read so strictly that nobody behind can read them another way.

Pure functions; runs on Python 3.9. Source: RFC 9112 and, for what a proxy has to leave out,
RFC 9110, section 7.6.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from claude_mcp.proxy.names import canonical_name, parse_address, split_port

MOST_BYTES = 64 * 1024
END = b"\r\n\r\n"

_REQUEST = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"upgrade", b"http2-settings",
    }
)  # fmt: skip
# What stays although a `Connection` names it: without one of these the request is another.
_NEEDED = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization"})


class Malformed(Exception):
    """It is not to be passed on; the message says why."""


@dataclass(frozen=True)
class Request:
    """One request: where to, and what of it is passed on."""

    method: str
    host: str
    """Canonical: a name, or an address without brackets."""
    port: int
    path: str
    fields: tuple[tuple[bytes, bytes], ...] = ()
    length: int = 0
    """Bytes of the body; not used for a chunked one."""
    chunked: bool = False

    @property
    def tunnel(self) -> bool:
        return self.method == "CONNECT"

    @property
    def authority(self) -> str:
        return authority(self.host, None if self.port == 80 and not self.tunnel else self.port)


def authority(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def first_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Method, target and minor version.

    Raises:
        Malformed
    """
    match = _REQUEST.fullmatch(line)
    if match is None:
        raise Malformed("that is no HTTP/1.1 request")
    method, target, minor = match.groups()
    return method, target, minor


def parse(head: bytes, inside: Request | None = None) -> Request:
    """A head without its empty line; ``inside`` is the tunnel that it came through.

    Raises:
        Malformed
    """
    first, *lines = head.split(b"\r\n")
    method, target, minor = first_line(first)
    fields = tuple(_field(line) for line in lines)
    hosts = [value for name, value in fields if name.lower() == b"host"]
    if len(hosts) > 1:
        raise Malformed("it has more than one Host")
    if inside is not None:
        host, port, path = _in_tunnel(method, target, inside)
    elif method == b"CONNECT":
        host, port, path = *_authority(target, None), ""
    else:
        host, port, path = _absolute(target)
    if hosts and _authority(hosts[0], port) != (host, port):
        raise Malformed("its Host is not the host that it is for")
    length, chunked = _framing(fields, minor)
    if method == b"CONNECT" and (length or chunked):
        raise Malformed("a CONNECT has no body")
    return Request(
        method=method.decode(),
        host=host,
        port=port,
        path=path,
        fields=_passed_on(fields),
        length=length,
        chunked=chunked,
    )


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not (colon and _FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(value)):
        raise Malformed("it has a malformed header field")
    return name, value.strip(b" \t")


def _authority(text: bytes, default: int | None) -> tuple[str, int]:
    parts = split_port(text.decode("latin-1"))
    if parts is None:
        raise Malformed("it names no host and port")
    written, port = parts
    address = parse_address(written)
    name = canonical_name(written) if address is None else str(address)
    number = default if port is None else port
    if name is None or number is None:
        raise Malformed("it names no host and port")
    return name, number


def _absolute(target: bytes) -> tuple[str, int, str]:
    match = re.fullmatch(rb"[hH][tT][tT][pP]://([^/?#@\\]+)([/?][^#\\]*)?", target)
    if match is None:
        raise Malformed("a proxy takes CONNECT, or a URL that begins with http://")
    host, port = _authority(match.group(1), 80)
    path = (match.group(2) or b"/").decode()
    return host, port, path if path.startswith("/") else f"/{path}"


def _in_tunnel(method: bytes, target: bytes, inside: Request) -> tuple[str, int, str]:
    if method == b"CONNECT" or not re.fullmatch(rb"/[^#\\]*|\*", target):
        raise Malformed("a tunnel takes requests for a path only")
    return inside.host, inside.port, target.decode()


def _framing(fields: tuple[tuple[bytes, bytes], ...], minor: bytes) -> tuple[int, bool]:
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    encodings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(encodings) > 1:
        raise Malformed("how long its body is, it says more than once")
    if encodings:
        if encodings[0].lower() != b"chunked" or minor != b"1":
            raise Malformed("its transfer encoding is not known here")
        return 0, True
    if lengths:
        if not _LENGTH.fullmatch(lengths[0]):
            raise Malformed("its length is no number")
        return int(lengths[0]), False
    return 0, False


def _passed_on(fields: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    left_out = {b"host", *_HOP_BY_HOP}
    for name, value in fields:
        if name.lower() == b"connection":
            left_out |= {each.strip().lower() for each in value.split(b",")} - _NEEDED
    return tuple((name, value) for name, value in fields if name.lower() not in left_out)


def outgoing(request: Request, *, absolute: bool = False, authorization: str = "") -> bytes:
    """The head as it is passed on; ``absolute`` and ``authorization`` are for a further proxy.

    The connection ends with the response: nothing that follows a request could be another one.
    """
    target = f"http://{request.authority}{request.path}" if absolute else request.path
    lines = [f"{request.method} {target} HTTP/1.1".encode(), b"Host: " + request.authority.encode()]
    lines += [name + b": " + value for name, value in request.fields]
    if authorization:
        lines.append(b"Proxy-Authorization: " + authorization.encode("latin-1"))
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


def connect(host: str, port: int, authorization: str = "") -> bytes:
    """The head that asks a further proxy for a tunnel."""
    target = authority(host, port)
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if authorization:
        lines.append(f"Proxy-Authorization: {authorization}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})(?:[ \t]{0,10};[\t\x20-\x7e\x80-\xff]*)?")


def chunk_size(line: bytes) -> int:
    """The size in the line before a chunk, whose extensions mean nothing.

    Raises:
        Malformed
    """
    match = _CHUNK.fullmatch(line)
    if match is None:
        raise Malformed("its body is not chunked as it says")
    return int(match.group(1), 16)
