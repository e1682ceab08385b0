"""The agent's end of a channel: requests in, events and answers out, as `operations` describes.

The end of the input cancels nothing by itself. It only tells each request that its caller has
disconnected.
"""

from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Callable, TypeVar

from claude_mcp.agent.channel import threads
from claude_mcp.contract import operations
from claude_mcp.contract.codes import Code
from claude_mcp.contract.framing import LineTooLong, Splitter
from claude_mcp.contract.messages import Malformed, from_json, to_json

MAX_LINE_BYTES = 64 * 1024 * 1024
READ_BYTES = 256 * 1024
IDLE_SECONDS = 60.0
"""A channel that is unused for this long is closed. Front ends close theirs after half of that, so
an older one is dead and its engine has not reported the end of the input."""

Answer = dict[str, Any]
"""The JSON object of a message in `operations`."""

Arguments = TypeVar("Arguments", bound=tuple[Any, ...])


class RequestError(Exception):
    """The agent refuses a request; code and message are the answer."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Request:
    """A request in progress; its operation registers how to cancel it."""

    def __init__(self, connection: Connection, number: int, args: Mapping[str, Any]) -> None:
        self._connection = connection
        self._number = number
        self._lock = threading.Lock()
        self._on_cancel: Callable[[], None] | None = None
        self.cancelled = False
        self.disconnected = False
        self.args = args

    def read(self, kind: type[Arguments]) -> Arguments:
        """The arguments, as the operation's own class."""
        try:
            return from_json(kind, self.args)
        except Malformed as error:
            raise RequestError(Code.MALFORMED, str(error)) from error

    @property
    def abandoned(self) -> bool:
        """Whether the caller no longer waits for the answer."""
        return self.cancelled or self.disconnected

    def event(self, event: Answer) -> None:
        self._connection.send(operations.Answer(self._number, event=event))

    def answer(self, answer: Answer) -> None:
        """Answer before the operation ends; what it returns is then ignored."""
        self._connection.finish(self._number, _encoded(operations.Answer(self._number, ok=answer)))

    def on_cancel(self, cancel: Callable[[], None]) -> None:
        """Register what to do when the caller stops waiting; it is done at once if that has
        happened already."""
        with self._lock:
            self._on_cancel = cancel
            abandoned = self.abandoned
        if abandoned:
            cancel()

    def cancel(self) -> None:
        with self._lock:
            if self.cancelled:
                return
            self.cancelled = True
            action = self._on_cancel
        if action is not None:
            action()

    def disconnect(self) -> None:
        with self._lock:
            self.disconnected = True
            action = None if self.cancelled else self._on_cancel
        if action is not None:
            action()


Operation = Callable[[Request], Answer]


class Connection:
    """Serves one channel until the end of its input."""

    def __init__(self, reader: int, writer: int, operations: Mapping[str, Operation]) -> None:
        self._reader = reader
        self._writer = writer
        self._operations = operations
        self._write_lock = threading.Lock()
        self._closed = False
        self._requests: dict[int, Request] = {}
        self._requests_lock = threading.Lock()
        self._has_answered = False
        """Whether a request has ended since the channel was last looked at."""

    def send(self, answer: operations.Answer) -> None:
        self._write(_encoded(answer))

    def _write(self, line: bytes) -> None:
        data = memoryview(line)
        with self._write_lock:
            if self._closed:  # another channel may have the descriptor's number by now
                return
            try:
                while data:
                    data = data[os.write(self._writer, data) :]
            except OSError:
                # The front end has disconnected; the end of its input will tell the requests.
                return

    def serve(self) -> None:
        self.send(operations.Answer(0, event=operations.GREETING))
        try:
            for line in self._lines():
                self._accept(line)
        finally:
            with self._requests_lock:
                open_requests = list(self._requests.values())
            for request in open_requests:
                request.disconnect()
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
        """False if none came for ``IDLE_SECONDS`` and no request was in progress meanwhile."""
        while not poll.poll(IDLE_SECONDS * 1000):
            with self._requests_lock:
                if not self._requests and not self._has_answered:
                    return False
                self._has_answered = False
        return True

    def _accept(self, line: bytes) -> None:
        try:
            message = _parsed(line)
            cancelled = None
            if message.op == operations.CANCEL:
                cancelled = from_json(operations.Cancel, message.args).id
                if not isinstance(cancelled, int):
                    raise Malformed("args.id is not a number")
        except (ValueError, RecursionError):
            refusal = operations.Refusal(Code.MALFORMED, "not a request")
            self.send(operations.Answer(None, error=refusal))
            return
        if cancelled is not None:
            with self._requests_lock:
                target = self._requests.get(cancelled)
            if target is not None:
                target.cancel()
            return
        request = Request(self, message.id, message.args)
        with self._requests_lock:
            self._requests[message.id] = request
        if not threads.start(self._perform, message.op, message.id, request):
            with self._requests_lock:
                del self._requests[message.id]
            why = "the session's process limit is reached"
            self._write(_failure(message.id, Code.NO_ROOM, why))

    def _perform(self, name: str, number: int, request: Request) -> None:
        operation = self._operations.get(name)
        try:
            if operation is None:
                why = f"this agent has no operation {name!r}"
                raise RequestError(Code.UNKNOWN_OPERATION, why)
            line = _encoded(operations.Answer(number, ok=operation(request)))
        except RequestError as error:
            line = _failure(number, error.code, error.message)
        except Exception as error:
            line = _failure(number, Code.FAILED, f"{type(error).__name__}: {error}")
        self.finish(number, line)

    def finish(self, number: int, line: bytes) -> None:
        """End a request with its answer, unless it was answered before."""
        with self._requests_lock:
            is_open = self._requests.pop(number, None) is not None
            self._has_answered = True
        if is_open:
            self._write(line)


def _parsed(line: bytes) -> operations.Request:
    """Raises ValueError, or RecursionError, for what is not a request."""
    message = from_json(operations.Request, json.loads(line))
    types = (isinstance(message.id, int), isinstance(message.op, str))
    if not all(types) or not isinstance(message.args, dict):
        raise Malformed("id, op or args has the wrong type")
    return message


def _encoded(answer: operations.Answer) -> bytes:
    line = json.dumps(to_json(answer), ensure_ascii=False, separators=(",", ":"))
    return line.encode("utf-8", "replace") + b"\n"


def _failure(number: int, code: Code, message: str) -> bytes:
    return _encoded(operations.Answer(number, error=operations.Refusal(code, message)))
