"""The agent's end of a channel: requests in, answers out, one JSON object per line.

A request is ``{"id": n, "op": name, "args": {...}}``. It is answered by any number of
``{"id": n, "event": {...}}`` and then one ``{"id": n, "ok": {...}}`` or
``{"id": n, "error": {"code": ..., "message": ...}}``. The op ``cancel`` names another request's
id and has no answer of its own. At end of file nobody waits any more, which is the same for all.
"""

from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from claude_mcp.agent.channel import threads
from claude_mcp.contract.codes import Code
from claude_mcp.contract.framing import LineTooLong, Splitter

MAX_LINE_BYTES = 64 * 1024 * 1024
READ_BYTES = 256 * 1024
IDLE_SECONDS = 60.0
"""A channel without use for this long is given up. Its front end closes it after half of that, so
that one is dead whose engine has not told us the end of its input."""

Answer = dict[str, Any]

GREETING: Answer = {"id": 0, "event": {"greeting": True}}


class RequestError(Exception):
    """A failure that the front end is told by code and message."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Request:
    """One request under way; its operation registers what a cancellation has to do."""

    def __init__(self, connection: Connection, number: int, args: dict[str, Any]) -> None:
        self._connection = connection
        self._number = number
        self._lock = threading.Lock()
        self._on_cancel: Callable[[], None] | None = None
        self.cancelled = False
        self.vanished = False
        self.args = args

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.cancelled or self.vanished

    def event(self, event: Answer) -> None:
        self._connection.send({"id": self._number, "event": event})

    def on_cancel(self, cancel: Callable[[], None]) -> None:
        """Say how to stop this operation when nobody waits for it any more, which may be so."""
        with self._lock:
            self._on_cancel = cancel
            gone = self.gone
        if gone:
            cancel()

    def cancel(self) -> None:
        with self._lock:
            if self.cancelled:
                return
            self.cancelled = True
            action = self._on_cancel
        if action is not None:
            action()

    def vanish(self) -> None:
        with self._lock:
            self.vanished = True
            action = None if self.cancelled else self._on_cancel
        if action is not None:
            action()


Operation = Callable[[Request], Answer]


class Connection:
    """Serves one channel until its end of file."""

    def __init__(self, reader: int, writer: int, operations: Mapping[str, Operation]) -> None:
        self._reader = reader
        self._writer = writer
        self._operations = operations
        self._write_lock = threading.Lock()
        self._closed = False
        self._requests: dict[int, Request] = {}
        self._requests_lock = threading.Lock()

    def send(self, message: Answer) -> None:
        self._write(_encoded(message))

    def _write(self, line: bytes) -> None:
        data = memoryview(line)
        with self._write_lock:
            if self._closed:  # the descriptor's number may belong to another channel by now
                return
            try:
                while data:
                    data = data[os.write(self._writer, data) :]
            except OSError:
                # The front end is gone; its end of file stops the requests.
                return

    def serve(self) -> None:
        self.send(GREETING)  # so that the other side knows at once that somebody is here
        try:
            for line in self._lines():
                self._accept(line)
        finally:
            with self._requests_lock:
                open_requests = list(self._requests.values())
            for request in open_requests:
                request.vanish()
            with self._write_lock:
                self._closed = True

    def _lines(self) -> Iterator[bytes]:
        lines = Splitter(MAX_LINE_BYTES)
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        while self._wait_for_input(poll):
            try:
                data = os.read(self._reader, READ_BYTES)
            except OSError:
                return
            if not data:
                return
            try:
                yield from lines.feed(data)
            except LineTooLong:
                return

    def _wait_for_input(self, poll: select.poll) -> bool:
        """False when none came for long, and nobody waits for an answer."""
        while not poll.poll(IDLE_SECONDS * 1000):
            with self._requests_lock:
                if not self._requests:
                    return False
        return True

    def _accept(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            number, name = message["id"], message["op"]
            args = message.get("args") or {}
            if not (isinstance(number, int) and isinstance(name, str) and isinstance(args, dict)):
                raise TypeError("id, op or args")
            if name == "cancel" and not isinstance(args["id"], int):
                raise TypeError("args.id")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.send({"id": None, "error": {"code": Code.MALFORMED, "message": "not a request"}})
            return
        if name == "cancel":
            with self._requests_lock:
                target = self._requests.get(args["id"])
            if target is not None:
                target.cancel()
            return
        request = Request(self, number, args)
        with self._requests_lock:
            self._requests[number] = request
        if not threads.start(self._perform, name, number, request):
            with self._requests_lock:
                del self._requests[number]
            self._write(_failure(number, Code.NO_ROOM, "the request could not be begun"))

    def _perform(self, name: str, number: int, request: Request) -> None:
        operation = self._operations.get(name)
        try:
            if operation is None:
                raise RequestError(
                    Code.UNKNOWN_OPERATION, f"this agent knows no operation {name!r}"
                )
            line = _encoded({"id": number, "ok": operation(request)})
        except RequestError as error:
            line = _failure(number, error.code, error.message)
        except Exception as error:
            line = _failure(number, Code.FAILED, f"{type(error).__name__}: {error}")
        with self._requests_lock:
            self._requests.pop(number, None)
        self._write(line)


def _encoded(message: Answer) -> bytes:
    line = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return line.encode("utf-8", "replace") + b"\n"


def _failure(number: int, code: Code, message: str) -> bytes:
    return _encoded({"id": number, "error": {"code": code, "message": message}})
