#!/usr/bin/env python3
"""A local stand-in for the Messages API, enough for the real Claude Code; standard library only.

The prompt itself says what the "model" does: a line `standin: [step, ...]` in the last prompt of
a request, or else the first of the given rules whose `match` occurs in it, or else a short answer.
The rule: it keeps no state about a conversation. How far a turn has come is read from the request,
so side calls, retries and several clients at once cannot confuse it. (`times` alone is counted.)

Steps, each a JSON object:
  {"say": "text", "repeat": 3}           text of the answer; with "pause": 0.1, word by word, so
                                         many seconds apart
  {"tool": "Bash", "input": {...}}       calls a tool; the steps behind it answer the tool's result
  {"tools": [{"tool": .., "input": ..}]} calls several tools at once
  {"recall": true}                       says the earlier prompts of the conversation, one per line
  {"echo": true}                         says {"sha256", "bytes", "head"} of the prompt as received
  {"report": true}                       says the text of the last tool result
  {"wait": 2.5}                          seconds; before the first word nothing at all is sent
  {"fail": 529, "retry_after": 1}        an HTTP error, in the midst of an answer an error event;
                                         "reset": seconds since the epoch, the end of a usage limit
  {"cut": true}                          closes the connection in the midst of the answer
  {"never": true}                        never answers
`fail`, `cut` and `never` take `"times": n`: only the first n requests for this call of the turn.

GET /standin/requests lists what was asked, credentials included, to clients on loopback only;
`?after=N&wait=S` waits up to S seconds for a request with a higher number than N.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import ipaddress
import json
import re
import select
import signal
import socket
import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from typing import Self  # Tests of the agent use this module, and run on Python 3.9 too.

KEPT_REQUESTS = 2_000
KEPT_CHARACTERS = 64_000_000
STOP_SECONDS = 5.0
DELTAS_PER_BLOCK = 4
DELTA_CHARACTERS = 65_536
DIRECTIVE = "standin:"
# What Claude Code itself puts between the prompts, as text blocks of the user's messages.
_NOT_A_PROMPT = (
    "<system-reminder>",
    "[Request interrupted by user",
    "Your response above was cut off mid-stream.",
)
_KEPT_HEADERS = (
    "authorization",
    "x-api-key",
    "api-key",
    "x-amz-security-token",
    "user-agent",
    "anthropic-beta",
    "anthropic-version",
    "x-claude-code-session-id",
    "x-stainless-retry-count",
    "x-gateway-token",
)
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@dataclass(frozen=True)
class Conversation:
    """What the messages of one request say, as far as the stand-in cares."""

    prompts: tuple[str, ...]
    """Each text of the user, oldest first, as received."""
    context: tuple[str, ...]
    """What Claude Code added by itself: reminders, system messages."""
    tool_results: tuple[str, ...]
    """Texts of all tool results, oldest first."""
    calls_done: int
    """Model calls since the last prompt that called a tool."""

    @property
    def prompt(self) -> str:
        return self.prompts[-1] if self.prompts else ""


@dataclass(frozen=True)
class Request:
    """One request as it came in. `number` counts from 1; `time` is seconds since the epoch."""

    number: int
    time: float
    method: str
    path: str
    client: str
    headers: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    stream: bool = False
    prompts: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    tool_results: tuple[str, ...] = ()
    system_characters: int = 0
    tools: tuple[str, ...] = ()

    @property
    def characters(self) -> int:
        return sum(len(t) for t in (*self.prompts, *self.context, *self.tool_results))


class DirectiveError(ValueError):
    """A directive or rule that cannot be followed; the text says why."""


def _blocks(content: object) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def _text_of(content: object) -> str:
    return "\n".join(str(b["text"]) for b in _blocks(content) if isinstance(b.get("text"), str))


def read_conversation(messages: object) -> Conversation:
    """Tell prompts from reminders and tool results, block by block: Claude Code joins them."""
    prompts: list[str] = []
    context: list[str] = []
    results: list[str] = []
    calls_done, calling = 0, False
    for message in messages if isinstance(messages, list) else []:
        role = message.get("role") if isinstance(message, dict) else None
        for block in _blocks(message.get("content")) if role else []:
            kind, text = block.get("type"), block.get("text")
            if role == "assistant":
                calling = calling or kind == "tool_use"
            elif kind == "tool_result":
                results.append(_text_of(block.get("content")))
                calls_done, calling = calls_done + calling, False
            elif kind == "text" and isinstance(text, str):
                if role == "user" and not text.startswith(_NOT_A_PROMPT):
                    prompts.append(text)
                    calls_done, calling = 0, False
                else:
                    context.append(text)
    return Conversation(tuple(prompts), tuple(context), tuple(results), calls_done)


def parse_steps(value: object) -> tuple[dict[str, Any], ...]:
    """Check a list of steps; raises DirectiveError."""
    if not isinstance(value, list):
        raise DirectiveError("steps must be a list")
    known = {"say", "tool", "tools", "recall", "echo", "report", "wait", "fail", "cut", "never"}
    for step in value:
        if not isinstance(step, dict) or len(known & step.keys()) != 1:
            raise DirectiveError(f"not a step: {json.dumps(step)[:80]}")
    return tuple(value)


def directive(prompt: str) -> tuple[dict[str, Any], ...] | None:
    """The steps a prompt asks for, None without a directive; raises DirectiveError."""
    start = prompt.find(DIRECTIVE)
    while start > 0 and prompt[start - 1] != "\n":
        start = prompt.find(DIRECTIVE, start + 1)
    if start < 0:
        return None
    line, _, _ = prompt[start + len(DIRECTIVE) :].partition("\n")
    try:
        return parse_steps(json.loads(line))
    except ValueError as error:
        raise DirectiveError(f"standin directive: {error}") from None


def split_calls(steps: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group steps by model call: a call ends behind a step that uses tools.

    The last call always answers something: an answer without content is none to Claude Code.
    """
    calls: list[list[dict[str, Any]]] = [[]]
    for step in steps:
        calls[-1].append(step)
        if "tool" in step or "tools" in step:
            calls.append([])
    calls[-1] = calls[-1] or [{"say": "done"}]
    return calls


class Answer:
    """One answer, as events or as one JSON body; nothing is sent before its first word."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, http: Handler, body: dict[str, Any], size: int) -> None:
        self._http = http
        self._stream = body.get("stream") is True
        self._blocks: list[dict[str, Any]] = []
        self._input_tokens = max(1, size // 4)
        self._output_characters = 0
        self._message: dict[str, Any] = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": str(body.get("model", "")),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        self.begun = False

    def _usage(self, output_tokens: int) -> dict[str, int]:
        return {
            "input_tokens": self._input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
        }

    def event(self, kind: str, **values: object) -> None:
        data = json.dumps({"type": kind, **values})
        self._http.send_chunk(f"event: {kind}\ndata: {data}\n\n".encode())

    def begin(self) -> None:
        if self.begun:
            return
        self.begun = True
        if self._stream:
            self._http.start_stream(self.content_type)
            self.event("message_start", message={**self._message, "usage": self._usage(1)})

    def _block(
        self, block: dict[str, Any], empty: dict[str, Any], kind: str, text: str, pause: float = 0
    ) -> None:
        self.begin()
        index = len(self._blocks)
        self._blocks.append(block)
        self._output_characters += len(text)
        if not self._stream:
            return
        self.event("content_block_start", index=index, content_block=empty)
        key = "text" if kind == "text_delta" else "partial_json"
        step = min(DELTA_CHARACTERS, max(1, -(-len(text) // DELTAS_PER_BLOCK)))
        pieces = [text[at : at + step] for at in range(0, len(text), step)]
        for piece in re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text) if pause else pieces:
            if pause and not self._http.pause(pause):
                return
            self.event("content_block_delta", index=index, delta={"type": kind, key: piece})
        self.event("content_block_stop", index=index)

    def text(self, text: str, pause: float = 0) -> None:
        block = {"type": "text", "text": text}
        self._block(block, {"type": "text", "text": ""}, "text_delta", text, pause)

    def tool(self, name: str, tool_input: dict[str, Any]) -> None:
        block = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": name}
        self._block(
            {**block, "input": tool_input},
            {**block, "input": {}},
            "input_json_delta",
            json.dumps(tool_input),
        )

    def finish(self, stop_reason: str) -> None:
        self.begin()
        usage = self._usage(max(1, self._output_characters // 4))
        if self._stream:
            delta = {"stop_reason": stop_reason, "stop_sequence": None}
            self.event("message_delta", delta=delta, usage=usage)
            self.event("message_stop")
            self._http.end_stream()
            return
        ending = {"content": self._blocks, "stop_reason": stop_reason, "usage": usage}
        self._http.send_json(200, {**self._message, **ending})

    def fail(
        self, status: int, retry_after: object = None, text: str = "", reset: object = None
    ) -> None:
        error = {
            "type": _ERROR_TYPES.get(status, "api_error"),
            "message": text or f"stand-in failure {status}",
        }
        if self.begun and self._stream:
            self.event("error", error=error)
            self._http.end_stream()
            return
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        if reset is not None:
            limit = "anthropic-ratelimit-unified-"
            headers |= {f"{limit}status": "rejected", f"{limit}reset": str(reset)}
            headers |= {f"{limit}representative-claim": "five_hour"}
        self._http.send_json(status, {"type": "error", "error": error}, headers)

    def cut(self) -> None:
        if self._stream:
            self.begin()
            block = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": "This answer is cut o"}
            self.event("content_block_start", index=len(self._blocks), content_block=block)
            self.event("content_block_delta", index=len(self._blocks), delta=delta)
        self._http.drop()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer is many small writes: without this each would wait for the client's delayed ACK.
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a request line may carry what a test treats as a secret."""

    def send_json(self, status: int, value: object, headers: Mapping[str, str] = {}) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def start_stream(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("cache-control", "no-cache")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def drop(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def pause(self, seconds: float | None) -> bool:
        """Wait, for ever with None; False as soon as the client is gone or the stand-in stops."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if not readable:
            return True
        with contextlib.suppress(OSError):
            if self.connection.recv(1, socket.MSG_PEEK):  # the client sends on while it waits
                return not self.server.standin.stopping.wait(seconds)
        return False

    def handle(self) -> None:
        with self.server.standin.connected(self.connection), contextlib.suppress(OSError):
            super().handle()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        standin = self.server.standin
        if url.path == "/standin/requests":
            if not ipaddress.ip_address(self.client_address[0]).is_loopback:
                self.send_json(403, {"error": "only for clients on loopback"})
                return
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            after, wait = int(query.get("after", "0")), float(query.get("wait", "0"))
            with contextlib.suppress(TimeoutError):
                standin.wait_for(lambda request: request.number > after, timeout=wait)
            found = [asdict(request) for request in standin.requests if request.number > after]
            self.send_json(200, found)
            return
        standin.record(self, {})
        self.send_json(200 if url.path in ("", "/") else 404, {})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(data)
        except ValueError:
            body = None
        standin = self.server.standin
        path = urlsplit(self.path).path
        asked = body if isinstance(body, dict) else {}
        conversation = standin.record(self, asked)
        answer = Answer(self, asked, len(data))
        if path == "/v1/messages/count_tokens":
            self.send_json(200, {"input_tokens": max(1, len(data) // 4)})
        elif path != "/v1/messages":
            answer.fail(404, text="no such path")
        elif not isinstance(body, dict):
            answer.fail(400, text="the body is not a JSON object")
        else:
            self.perform(answer, conversation)

    def perform(self, answer: Answer, conversation: Conversation) -> None:
        """Do what the prompt says."""
        try:
            steps = self.server.standin.steps_for(conversation)
        except DirectiveError as error:
            answer.fail(400, text=str(error))
            return
        stop_reason = "end_turn"
        for number, step in enumerate(steps):
            if {"fail", "cut", "never"} & step.keys():
                if not self.server.standin.still(self, conversation, number, step.get("times")):
                    continue
                if "fail" in step:
                    answer.fail(int(step["fail"]), step.get("retry_after"), reset=step.get("reset"))
                elif "cut" in step:
                    answer.cut()
                else:
                    self.pause(None)
                    self.drop()
                return
            if "wait" in step:
                if not self.pause(float(step["wait"])):
                    return
            elif "tool" in step or "tools" in step:
                for call in step.get("tools", [step]):
                    answer.tool(str(call["tool"]), call.get("input", {}))
                stop_reason = "tool_use"
            else:
                answer.text(_words(step, conversation), float(step.get("pause", 0)))
        answer.finish(stop_reason)


def _words(step: Mapping[str, Any], conversation: Conversation) -> str:
    if "say" in step:
        return str(step["say"]) * int(step.get("repeat", 1))
    if "recall" in step:
        return "\n".join(conversation.prompts[:-1]) or "(nothing)"
    if "report" in step:
        return conversation.tool_results[-1] if conversation.tool_results else "(nothing)"
    data = conversation.prompt.encode("utf-8", "surrogatepass")
    echo = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return json.dumps({**echo, "head": conversation.prompt[:60]})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    standin: Standin

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        sys.stderr.write(f"stand-in: {type(error).__name__}: {error}\n")


class Standin:
    """The server with its records: `with Standin() as standin: ... standin.url`."""

    handler = Handler

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        rules: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._rules = [(str(rule["match"]), parse_steps(rule["steps"])) for rule in rules]
        self._address = (host, port)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._requests: deque[Request] = deque(maxlen=KEPT_REQUESTS)
        self._kept_characters = 0
        self._count = 0
        self._hits: Counter[bytes] = Counter()
        self._connections: set[socket.socket] = set()
        self.stopping = threading.Event()

    @property
    def port(self) -> int:
        if self._server is None:
            raise RuntimeError("the stand-in is not running")
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{self._address[0]}:{self.port}"

    @property
    def requests(self) -> tuple[Request, ...]:
        """What was asked, oldest first: the last KEPT_REQUESTS within KEPT_CHARACTERS of text."""
        with self._changed:
            return tuple(self._requests)

    @property
    def model_calls(self) -> tuple[Request, ...]:
        """The requests among them that called the model in a conversation."""
        return tuple(request for request in self.requests if request.path == "/v1/messages")

    @property
    def count(self) -> int:
        """How much was asked in all, what is no longer kept included."""
        with self._changed:
            return self._count

    def since(self, count: int) -> tuple[Request, ...]:
        """What is kept of the requests that came after this ``count``."""
        return tuple(request for request in self.requests if request.number > count)

    def start(self) -> Self:
        self.stopping.clear()
        self._server = _Server(self._address, self.handler)
        self._server.standin = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close every connection and wait for the threads behind them."""
        if self._server is None or self._thread is None:
            return
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        with self._changed:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, STOP_SECONDS)
        self._server.server_close()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_for(self, wanted: Callable[[Request], bool], timeout: float = 60.0) -> Request:
        """The first kept request that is wanted, awaited up to `timeout` seconds (TimeoutError)."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for request in self._requests:
                    if wanted(request):
                        return request
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError("no such request came")

    def steps_for(self, conversation: Conversation) -> Sequence[dict[str, Any]]:
        """What this model call has to do; raises DirectiveError."""
        steps = directive(conversation.prompt)
        if steps is None:
            found = (steps for match, steps in self._rules if match in conversation.prompt)
            steps = next(found, ({"say": f"ok: {conversation.prompt[:60]}"},))
        calls = split_calls(steps)
        return calls[min(conversation.calls_done, len(calls) - 1)]

    def record(self, http: Handler, body: Mapping[str, Any]) -> Conversation:
        conversation = read_conversation(body.get("messages"))
        tools = body.get("tools")
        with self._changed:
            self._count += 1
            request = Request(
                number=self._count,
                time=time.time(),
                method=http.command,
                path=urlsplit(http.path).path,
                client=str(http.client_address[0]),
                headers={n: http.headers[n] for n in _KEPT_HEADERS if n in http.headers},
                model=str(body.get("model", "")),
                stream=body.get("stream") is True,
                prompts=conversation.prompts,
                context=conversation.context,
                tool_results=conversation.tool_results,
                system_characters=len(_text_of(body.get("system"))),
                tools=tuple(str(t.get("name")) for t in tools) if isinstance(tools, list) else (),
            )
            if len(self._requests) == KEPT_REQUESTS:
                self._kept_characters -= self._requests.popleft().characters
            self._requests.append(request)
            self._kept_characters += request.characters
            while self._kept_characters > KEPT_CHARACTERS and len(self._requests) > 1:
                self._kept_characters -= self._requests.popleft().characters
            self._changed.notify_all()
        return conversation

    def still(
        self, http: Handler, conversation: Conversation, step: int, times: int | None
    ) -> bool:
        """Count a request that meets a failing step; False when it has failed often enough."""
        if times is None:
            return True
        place = (
            http.headers.get("x-claude-code-session-id"),
            len(conversation.prompts),
            conversation.calls_done,
            step,
            conversation.prompt,
        )
        key = hashlib.sha256(json.dumps(place).encode()).digest()
        with self._changed:
            self._hits[key] += 1
            return self._hits[key] <= times

    @contextlib.contextmanager
    def connected(self, connection: socket.socket) -> Iterator[None]:
        with self._changed:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._changed:
                self._connections.discard(connection)
                self._changed.notify_all()


def main() -> int:
    parser = argparse.ArgumentParser(description="A local stand-in for the Messages API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 chooses one; printed as JSON")
    parser.add_argument("--rules", type=Path, help="JSON file: [{match: text, steps: [...]}]")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with whoever holds our stdin"
    )
    options = parser.parse_args()
    rules = json.loads(options.rules.read_text()) if options.rules else []
    ending = {signal.SIGTERM, signal.SIGINT}
    if not options.until_stdin_closes:
        signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # before there are threads to get them
    with Standin(options.host, options.port, rules) as standin:
        sys.stdout.write(json.dumps({"port": standin.port}) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            if options.until_stdin_closes:
                sys.stdin.buffer.read()
            else:
                signal.sigwait(ending)
    return 0


if __name__ == "__main__":
    sys.exit(main())
