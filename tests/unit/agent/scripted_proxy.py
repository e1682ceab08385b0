"""A session's proxy that is scripted, at the other end of the real forwarder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from claude_mcp.agent.network.egress import Egress
from tests.unit.agent.conftest import threads
from tests.unit.agent.scripted import until

PATIENCE_SECONDS = 60.0
ADVICE = "a new session can allow it with allowedHosts"
REFUSED = b"HTTP/1.1 403 no\r\nConnection: close\r\n\r\n"


class ScriptedProxy:
    """Refuses every host by its name, those that begin with ``open.`` excepted."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._connections: list[socket.socket] = []
        self.openings: list[dict[str, Any]] = []
        """What connections began with, those that only watched excepted."""

    def start(self) -> None:
        listener = self._listener = socket.socket(socket.AF_UNIX)
        listener.bind(self._path)
        listener.listen()
        self._accepting = threading.Thread(target=self._serve, args=(listener,), daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Gone at once, with all of its connections."""
        listener, self._listener = self._listener, None
        if listener is None or self._accepting is None:
            return
        os.unlink(self._path)
        listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        listener.close()
        for each in self._connections:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, contextlib.suppress(OSError):
            opening = json.loads(lines.readline() or b"{}")
            if opening.get("watch"):
                connection.recv(1)
                return
            self.openings.append(opening)
            request = lines.readline().decode()
            connection.sendall(self._decision(request))

    def _decision(self, request: str) -> bytes:
        match = re.match(r"GET http://([^:/ ]+)(?::(\d+))?/", request)
        if match is None:
            reason = "it is not an HTTP/1.1 request"
            return json.dumps({"decision": "refused", "reason": reason}).encode() + b"\n" + REFUSED
        fields: dict[str, Any] = {"host": match[1], "port": int(match[2] or 80)}
        if match[1].startswith("open."):
            return json.dumps({"decision": "allowed", **fields}).encode() + b"\nHTTP/1.1 200 OK\r\n"
        if match[1][0].isdigit():
            fields["reason"] = "only host names are allowed, not addresses"
        else:
            fields.update(reason="this session may not reach it", advice=ADVICE)
        return json.dumps({"decision": "refused", **fields}).encode() + b"\n" + REFUSED


def port_of(egress: Egress) -> int:
    return int(egress._listener.getsockname()[1])


def ask(egress: Egress, url: str, request: str = "GET {} HTTP/1.1\r\n\r\n") -> bytes:
    """The answer to a program that asks the session's proxy for a URL."""
    with socket.create_connection(("127.0.0.1", port_of(egress)), PATIENCE_SECONDS) as client:
        client.sendall(request.format(url).encode())
        answer = b""
        while data := client.recv(65536):
            answer += data
        return answer


@contextlib.contextmanager
def ending(egress: Egress) -> Iterator[Egress]:
    """End a forwarder, and the thread that would start it again."""

    def end_thread() -> None:
        raise SystemExit

    hook = threading.excepthook
    try:
        yield egress
    finally:
        threading.excepthook = lambda args: args.exc_type is SystemExit or hook(args)
        egress._start_again = end_thread  # type: ignore[method-assign]

        def is_over() -> bool:
            egress._process.kill()  # another one, if it was just being started again
            return not threads("_supervise")

        until(is_over)
        threading.excepthook = hook
        egress._listener.close()
