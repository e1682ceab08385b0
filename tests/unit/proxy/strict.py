"""Two other parsers of a request: a strict one, and Python's own."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

# All that a request may say about itself; each once.
FRAMING = ("host", "content-length", "transfer-encoding")
LINE = re.compile(r"([A-Z]+) ([!-~]+) HTTP/1\.1")
FIELD = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+): ((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*"
                   r"[!-~\x80-\xff])?)?)")  # fmt: skip


@dataclass(frozen=True)
class Read:
    method: str
    target: str
    host: str | None
    length: str | None
    encoding: str | None


def strict(data: bytes) -> Read:
    """Parse exactly one head in canonical form; fail for anything else."""
    head, end, more = data.partition(b"\r\n\r\n")
    assert (end, more) == (b"\r\n\r\n", b"")
    first, *lines = head.decode("latin-1").split("\r\n")
    start = LINE.fullmatch(first)
    assert start is not None, first
    found: dict[str, str] = {}
    for line in lines:
        match = FIELD.fullmatch(line)
        assert match is not None, line
        name = match.group(1).lower()
        assert name not in FRAMING or name not in found
        found[name] = match.group(2)
    assert found["connection"] == "close"
    assert "proxy-authorization" not in found
    return Read(start.group(1), start.group(2), *map(found.get, FRAMING))


def lenient(data: bytes) -> Read:
    """As the server of Python's library reads it; fails if it refuses it, or leaves something."""
    handler = BaseHTTPRequestHandler.__new__(BaseHTTPRequestHandler)
    handler.rfile = io.BufferedReader(io.BytesIO(data))
    handler.wfile = io.BytesIO()
    handler.client_address = ("", 0)
    handler.log_message = lambda *_: None  # type: ignore[method-assign]
    handler.request_version = ""
    handler.raw_requestline = handler.rfile.readline(65537)  # type: ignore[attr-defined]
    assert handler.parse_request(), handler.wfile.getvalue()
    assert handler.rfile.read() == b""
    assert handler.close_connection
    fields = handler.headers
    assert all(len(fields.get_all(name, [])) < 2 for name in FRAMING)
    # Of the path it makes another, as it takes several slashes at its beginning for one.
    target = handler.requestline.split()[1]
    return Read(handler.command, target, *(fields.get(name) for name in FRAMING))
