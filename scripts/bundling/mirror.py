"""A server on loopback that an image is built from: it records what a build fetches, or repeats it.

Debian's packages are asked for as from a proxy (``GET http://HOST/PATH``), npm's and Python's as
``GET /HOST/PATH``, which is fetched over TLS. What was recorded is checked where it is used: by
Debian's signatures, and by the hashes in ``Dockerfile.custom``.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

HOST: Final = "127.0.0.1"
INDEX: Final = "index.html"
_SECONDS: Final = 120
_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?")
_LINK: Final = re.compile(rb"https://(?=[A-Za-z0-9.-]+(?::[0-9]+)?/)")
_CHUNK: Final = 1024 * 1024


class Mirror:
    """Serves a directory; with ``record``, fetches what is not there and keeps it."""

    def __init__(self, directory: Path, *, record: bool = False) -> None:
        self._server = _Server(directory, record)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}"

    @property
    def missing(self) -> list[str]:
        """What was asked for and is not there, for whoever explains a failure."""
        return sorted(self._server.missing)

    def through(self, address: str) -> str:
        """The address of a registry, as seen through this server."""
        return f"{self.url}/{address.partition('://')[2]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, directory: Path, record: bool) -> None:
        self.directory = directory
        self.record = record
        self.missing: set[str] = set()
        super().__init__((HOST, 0), _Handler)


def place_of(path: str) -> Path | None:
    """Where the answer to a request is kept, below the directory; None for what is never asked."""
    host, _, rest = path.partition("/")
    parts = unquote(rest).split("/")
    last = parts.pop() or INDEX
    if not _HOST.fullmatch(host) or any(part in ("", ".", "..") for part in (*parts, last)):
        return None
    if any(ord(char) < 32 or char == "\\" for char in rest):
        return None
    return Path(host, *parts, last)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SECONDS

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def _answer(self, *, with_content: bool) -> None:
        scheme = "http" if self.path.startswith("http://") else "https"
        asked = urlsplit(self.path)
        path = f"{asked.netloc}{asked.path}" if asked.netloc else asked.path.lstrip("/")
        if path.startswith(f"{HOST}:"):  # a client that uses its proxy for our own address too
            scheme, path = "https", path.partition("/")[2]
        place = place_of(path)
        if place is None or asked.query:
            self.send_error(400)
            return
        file = self.server.directory / place
        if not file.is_file() and self.server.record:
            self._fetch(f"{scheme}://{path}", file)
        if not file.is_file():
            self.server.missing.add(path)
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(file.stat().st_size))
        is_page = file.name == INDEX
        self.send_header("Content-Type", "text/html" if is_page else "application/octet-stream")
        self.end_headers()
        if with_content:
            with file.open("rb") as content:
                shutil.copyfileobj(content, self.wfile, _CHUNK)

    def _fetch(self, url: str, file: Path) -> None:
        request = urllib.request.Request(url, headers={"Accept": "text/html, */*;q=0.5"})
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with (
                urllib.request.urlopen(request, timeout=_SECONDS) as answer,
                tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as kept,
            ):
                if file.name == INDEX:
                    kept.write(_LINK.sub(b"/", answer.read()))
                else:
                    shutil.copyfileobj(answer, kept, _CHUNK)
        except (OSError, urllib.error.URLError) as error:
            self.log_error("%s: %s", url, error)
            return
        Path(kept.name).chmod(0o644)
        Path(kept.name).replace(file)

    def log_message(self, *args: Any) -> None:
        """The build tells what it fetches."""
