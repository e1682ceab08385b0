"""Parses HTTP request heads so strictly that no other implementation can read them differently.

Pure functions; runs on Python 3.9. Sources: RFC 9112, and RFC 9110, section 7.6.1, for the fields
that a proxy must remove.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from claude_mcp.proxy.hosts import canonical_name, parse_address, split_port

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
# Kept even if `Connection` lists them: without these fields the request would be a different one.
_NEEDED = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization"})


class Malformed(Exception):
    """The request must not be forwarded; the message says why."""


@dataclass(frozen=True)
class Request:
    """One request: its destination and the parts that are forwarded."""

    method: str
    host: str
    """A canonical name, or an address without brackets."""
    port: int
    path: str
    fields: tuple[tuple[bytes, bytes], ...] = ()
    length: int = 0
    """Length of the body in bytes, unless it is chunked."""
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
        raise Malformed("it is not an HTTP/1.1 request")
    method, target, minor = match.groups()
    return method, target, minor


def parse(head: bytes, inside: Request | None = None) -> Request:
    """Parse a head without its empty line; ``inside`` is the tunnel that the request came through.

    Raises:
        Malformed
    """
    first, *lines = head.split(b"\r\n")
    method, target, minor = first_line(first)
    fields = tuple(_field(line) for line in lines)
    hosts = [value for name, value in fields if name.lower() == b"host"]
    if len(hosts) > 1:
        raise Malformed("it has more than one Host field")
    if inside is not None:
        host, port, path = _in_tunnel(method, target, inside)
    elif method == b"CONNECT":
        host, port, path = *_authority(target, None), ""
    else:
        host, port, path = _absolute(target)
    if hosts and _authority(hosts[0], port) != (host, port):
        raise Malformed("its Host field names another host")
    length, chunked = _framing(fields, minor)
    if method == b"CONNECT" and (length or chunked):
        raise Malformed("CONNECT must not have a body")
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
        raise Malformed("it names no valid host and port")
    written, port = parts
    address = parse_address(written)
    name = canonical_name(written) if address is None else str(address)
    number = default if port is None else port
    if name is None or number is None:
        raise Malformed("it names no valid host and port")
    return name, number


def _absolute(target: bytes) -> tuple[str, int, str]:
    match = re.fullmatch(rb"[hH][tT][tT][pP]://([^/?#@\\]+)([/?][^#\\]*)?", target)
    if match is None:
        raise Malformed("a proxy accepts only CONNECT or an http:// URL")
    host, port = _authority(match.group(1), 80)
    path = (match.group(2) or b"/").decode()
    return host, port, path if path.startswith("/") else f"/{path}"


def _in_tunnel(method: bytes, target: bytes, inside: Request) -> tuple[str, int, str]:
    if method == b"CONNECT" or not re.fullmatch(rb"/[^#\\]*|\*", target):
        raise Malformed("a request in a tunnel must name a path")
    return inside.host, inside.port, target.decode()


def _framing(fields: tuple[tuple[bytes, bytes], ...], minor: bytes) -> tuple[int, bool]:
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    encodings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(encodings) > 1:
        raise Malformed("it declares the length of its body more than once")
    if encodings:
        if encodings[0].lower() != b"chunked" or minor != b"1":
            raise Malformed("its transfer encoding is not supported")
        return 0, True
    if lengths:
        if not _LENGTH.fullmatch(lengths[0]):
            raise Malformed("its Content-Length is not a number")
        return int(lengths[0]), False
    return 0, False


def _passed_on(fields: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    left_out = {b"host", *_HOP_BY_HOP}
    for name, value in fields:
        if name.lower() == b"connection":
            left_out |= {each.strip().lower() for each in value.split(b",")} - _NEEDED
    return tuple((name, value) for name, value in fields if name.lower() not in left_out)


def outgoing(request: Request, *, absolute: bool = False, authorization: str = "") -> bytes:
    """The head to forward; ``absolute`` and ``authorization`` are for an upstream proxy.

    The connection ends with the response, so no second request can follow on it.
    """
    target = f"http://{request.authority}{request.path}" if absolute else request.path
    lines = [f"{request.method} {target} HTTP/1.1".encode(), b"Host: " + request.authority.encode()]
    lines += [name + b": " + value for name, value in request.fields]
    if authorization:
        lines.append(b"Proxy-Authorization: " + authorization.encode("latin-1"))
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


def connect(host: str, port: int, authorization: str = "") -> bytes:
    """The head that asks an upstream proxy for a tunnel."""
    target = authority(host, port)
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if authorization:
        lines.append(f"Proxy-Authorization: {authorization}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})(?:[ \t]{0,10};[\t\x20-\x7e\x80-\xff]*)?")


def chunk_size(line: bytes) -> int:
    """The size in the line before a chunk; extensions are ignored.

    Raises:
        Malformed
    """
    match = _CHUNK.fullmatch(line)
    if match is None:
        raise Malformed("its chunked body is malformed")
    return int(match.group(1), 16)
