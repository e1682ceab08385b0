"""The stdio server as a process of its own: how it ends, and what it writes to which stream."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.server.app import TOO_EARLY
from tests.measuring import MEASURED
from tests.unit import fake_engine

PATIENCE_SECONDS = 60


class Serving:
    """A server in a process, spoken to in plain JSON-RPC."""

    def __init__(self, program: Path, *flags: str) -> None:
        environment = {
            **MEASURED,
            "PATH": os.environ["PATH"],
            "CLAUDE_MCP_CONFIG": os.devnull,
            "CLAUDE_MCP_ENGINE": str(program),
            "ANTHROPIC_API_KEY": "sk-ant-of-the-server-0123",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "claude_mcp", *flags, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self._number = 0

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def send(self, method: str, **params: Any) -> None:
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        self.write(json.dumps(message).encode())

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def initialize(self) -> None:
        client = {"name": "test", "version": "0"}
        self.send("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        assert self.answer()["result"]["serverInfo"]["name"] == "claude-mcp"

    def call(self, tool: str, **arguments: Any) -> int:
        """Returns the request's id."""
        self.send("tools/call", name=tool, arguments=arguments)
        return self._number

    def notify(self, method: str, params: object) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        self.write(json.dumps(message).encode())

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def children(self) -> list[int]:
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(each) for each in text.split()]

    def end(self) -> tuple[int, bytes]:
        """Exit code and stderr, once it has ended."""
        assert self.process.stderr is not None
        code = self.process.wait(PATIENCE_SECONDS)
        return code, self.process.stderr.read()


@contextmanager
def serving(program: Path, *flags: str) -> Iterator[Serving]:
    server = Serving(program, *flags)
    try:
        with server.process:
            server.initialize()
            yield server
    finally:
        server.process.kill()


@contextmanager
def hanging(program: Path, project: Path, tool: str, **arguments: Any) -> Iterator[Serving]:
    """A server with a session, and a call that hangs in it, its id 2."""
    fake_engine.add_session(program, "fix-tests", project)
    with serving(program) as server:
        assert server.call(tool, sessionId="fix-tests", **arguments) == 2
        wait_for(server, program, "hanging")
        yield server


def wait_for(server: Serving, program: Path, word: str) -> None:
    """Wait until the fake engine has noted it; the server must not end before."""
    while word not in fake_engine.calls(program):
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_server_with_all_its_children(
    program: Path, project: Path, number: signal.Signals
) -> None:
    with hanging(program, project, "execute_command", command="hang") as server:
        children = server.children()
        server.process.send_signal(number)
        assert server.end() == (0, b"")
    assert children
    assert not any(Path(f"/proc/{each}").exists() for each in children)


def test_a_server_that_was_started_to_ignore_sighup_still_does(program: Path) -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with serving(program) as server:
            server.process.send_signal(signal.SIGHUP)
            server.send("tools/list")
            assert server.answer()["result"]["tools"]
            server.hang_up()
            assert server.end()[0] == 0
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_client_that_disconnects_ends_the_server_with_all_its_children(
    program: Path, project: Path
) -> None:
    with hanging(program, project, "execute_command", command="hang") as server:
        children = server.children()
        server.hang_up()
        assert server.end() == (0, b"")
    assert children
    assert not any(Path(f"/proc/{each}").exists() for each in children)


@pytest.mark.parametrize("number", [signal.SIGTERM, None], ids=["signal", "end-of-file"])
@pytest.mark.parametrize(
    ("tool", "work"), [("execute_in_session", "prompt"), ("execute_command", "command")]
)
def test_work_runs_on_when_its_server_ends(
    program: Path, project: Path, number: signal.Signals | None, tool: str, work: str
) -> None:
    with hanging(program, project, tool, **{work: "hang"}) as server:
        if number is None:
            server.hang_up()
        else:
            server.process.send_signal(number)
        assert server.end() == (0, b"")
    left = {"prompt": "left", "command": "cancelled"}[work]
    assert fake_engine.work(program)[-2:] == ["hanging", left]


def test_a_cancelled_command_is_stopped_even_if_the_client_then_disconnects(
    program: Path, project: Path
) -> None:
    with hanging(program, project, "execute_command", command="hang") as server:
        server.notify("notifications/cancelled", {"requestId": 2})
        server.hang_up()
        assert server.end() == (0, b"")
    assert fake_engine.work(program)[-1] == "stopped"


def test_a_cancelled_prompt_is_interrupted_and_the_server_continues(
    program: Path, project: Path
) -> None:
    with hanging(program, project, "execute_in_session", prompt="hang") as server:
        server.notify("notifications/cancelled", {"requestId": "2", "reason": "enough"})
        wait_for(server, program, "interrupted")
        following = server.call("get_turn", sessionId="fix-tests", waitSeconds=0)
        answer = server.answer()
    # What was cancelled is not answered.
    assert (answer["id"], answer["result"]["structuredContent"]["status"]) == (
        following,
        "cancelled",
    )


def test_a_cancelled_prompt_is_interrupted_even_if_the_client_then_disconnects(
    program: Path, project: Path
) -> None:
    with hanging(program, project, "execute_in_session", prompt="hang") as server:
        server.notify("notifications/cancelled", {"requestId": 2})
        server.hang_up()
        assert server.end() == (0, b"")
    assert fake_engine.work(program)[-3:] == ["hanging", "left", "interrupted"]


def test_a_cancellation_of_anything_else_leaves_a_prompt_alone(
    program: Path, project: Path
) -> None:
    with hanging(program, project, "execute_in_session", prompt="hang") as server:
        for identifier in (1, 99, "0x2", None, True, [2], {"a": 2}):
            server.notify("notifications/cancelled", {"requestId": identifier})
        server.notify("notifications/cancelled", {})
        server.call("get_turn", sessionId="fix-tests", waitSeconds=0)
        assert server.answer()["result"]["structuredContent"]["status"] == "running"
        server.hang_up()
        assert server.end()[0] == 0
    assert fake_engine.work(program)[-2:] == ["hanging", "left"]


def test_a_client_that_no_longer_reads_ends_the_server(program: Path) -> None:
    with serving(program) as server:
        assert server.process.stdout is not None
        server.process.stdout.close()
        server.send("tools/list")
        assert server.end() == (0, b"")


def test_the_debug_log_goes_to_stderr_without_secrets(program: Path, project: Path) -> None:
    with serving(program, "--debug") as server:
        server.write(b'{"apiKey": "sk-ant-in-a-broken-line')
        assert server.answer()["error"]["code"] == -32700
        server.call("create_session", projectPath=str(project), apiKey="sk-ant-of-a-session-0123")
        assert not server.answer()["result"]["isError"]
        server.call("create_session", projectPath="/nowhere", apiKey="sk-ant-of-a-session-0123")
        assert server.answer()["result"]["isError"]
        server.hang_up()
        code, log = server.end()
    assert code == 0
    assert b"create_session: The project directory '/nowhere' does not exist." in log
    assert b"sk-ant-" not in log


REQUEST = '{"jsonrpc": "2.0", "id": %s, "method": "tools/list", "params": %s}'
CALL = '{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "%s"}}'
CANCEL = '{"jsonrpc": "2.0", %s"method": "notifications/cancelled", "params": {"requestId": %s}}'
INITIALIZE = """\
{"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": {"protocolVersion": %s, \
"capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}}"""
TOKEN = '{"_meta": {"progressToken": %s}}'
NESTED = '{"a":' * 220 + "1" + "}" * 220
DIGITS = "9" * 5000

REFUSED = {
    "half of a surrogate pair": (REQUEST % ("7", r'{"cursor": "half \ud83d"}'), 7, -32600),
    "half a character": (REQUEST % ("7", '{"cursor": "\udcc3"}'), 7, -32600),
    "params in a list": (REQUEST % ('"seven"', "[]"), "seven", -32600),
    "params as text": (REQUEST % ("7", '"text"'), 7, -32600),
    "deep nesting": (REQUEST % ("7", NESTED), 7, -32600),
    "a huge number": (REQUEST % ("7", f'{{"cursor": {DIGITS}}}'), 7, -32600),
    "a huge number as id": (REQUEST % (DIGITS, "{}"), None, -32600),
    "a fraction as id": (REQUEST % ("7.5", "{}"), None, -32600),
    "infinity as id": (REQUEST % ("1e400", "{}"), None, -32600),
    "not a number as id": (REQUEST % ("NaN", "{}"), None, -32600),
    "null as id": (REQUEST % ("null", "{}"), None, -32600),
    "true as id": (REQUEST % ("true", "{}"), None, -32600),
    "an object as id": (REQUEST % ("{}", "{}"), None, -32600),
    "no method": ('{"jsonrpc": "2.0", "id": 7}', 7, -32600),
    "another JSON-RPC": ('{"jsonrpc": "1.0", "id": 7, "method": "ping"}', 7, -32600),
    "an empty batch": ("[]", None, -32600),
    "a batch": (f"[{REQUEST % (7, '{}')}]", None, -32600),
    "a number": ("7070707070", None, -32600),
    "half a line": ('{"jsonrpc": "2.0", "id": 7, "meth', None, -32700),
    "two messages on a line": (REQUEST % ("7", "{}") * 2, None, -32700),
    "a null byte": ("\0", None, -32700),
    "endless nesting": ("[" * 100_000, None, -32700),
    "a line that is too long": ("x" * (16 * 1024 * 1024 + 1), None, -32700),
    # These are messages, and the SDK answers them.
    "a notification with an id": (CANCEL % ('"id": 7, ', "1"), 7, -32601),
    "a method without an end": (REQUEST.replace("tools", "x" * 9999) % ("7", "{}"), 7, -32601),
    "a tool's name without an end": (CALL % ("x" * 9999), 7, -32602),
    "a tool's name that is no text": (CALL.replace('"%s"', "null"), 7, -32602),
    "a fraction as progress token": (REQUEST % ("7", TOKEN % "1.5"), 7, -32602),
    "an object as progress token": (REQUEST % ("7", TOKEN % "{}"), 7, -32602),
    "a version that is no text": (INITIALIZE % "5", 7, -32602),
}
"""By what is odd about it: a line, the id of its answer and the code of the error."""


def encoded(line: str) -> bytes:
    return line.encode("utf-8", "surrogateescape")


def test_what_is_no_message_is_answered_and_logged(program: Path) -> None:
    answered = {}
    with serving(program) as server:
        for name, (line, _, _) in REFUSED.items():
            server.write(encoded(line))
            answer = server.answer()
            answered[name] = answer["id"], answer["error"]["code"]
        server.send("tools/list")
        assert server.answer()["result"]["tools"]
        server.hang_up()
        ended, log = server.end()
    assert answered == {name: (known, code) for name, (_, known, code) in REFUSED.items()}
    assert ended == 0
    assert log.count(b"answered a line with error") == sum(
        code in (-32600, -32700) for _, _, code in REFUSED.values()
    )
    long = [encoded(line)[:40] for line, _, _ in REFUSED.values() if len(line) >= 10]
    assert [begin for begin in long if begin in log] == []


ODD = {
    "a byte order mark": ("\ufeff" + REQUEST % ("7", "{}"), 7),
    "a carriage return": (REQUEST % ("7", "{}") + "\r", 7),
    "no params": (REQUEST % ("7", "null"), 7),
    "a large id": (REQUEST % ("9" * 25, "{}"), int("9" * 25)),
    "an empty id": (REQUEST % ('""', "{}"), ""),
    "an id of control characters": (REQUEST % (r'"\u0000\u001b\n"', "{}"), "\0\x1b\n"),
    "a key twice": (REQUEST.replace('"id"', '"id": 6, "id"') % ("7", "{}"), 7),
    "infinity": (REQUEST % ("7", '{"other": 1e400}'), 7),
    "a flag as progress token": (REQUEST % ("7", TOKEN % "true"), 7),
    "an old version": (INITIALIZE % '"1999-01-01"', 7),
    "a version to come": (INITIALIZE % '"2999-01-01"', 7),
}
"""By what is odd about it: a line that has a result all the same, and its id."""


def test_odd_requests_are_answered(program: Path) -> None:
    answered = {}
    with serving(program) as server:
        for name, (line, _) in ODD.items():
            server.write(line.encode())
            answer = server.answer()
            assert "result" in answer, name
            answered[name] = answer["id"]
    assert answered == {name: identifier for name, (_, identifier) in ODD.items()}


def test_requests_with_one_id_are_both_answered(program: Path) -> None:
    with serving(program) as server:
        server.write((REQUEST % ("7", "{}")).encode())
        server.write(b'{"jsonrpc": "2.0", "id": 7, "method": "ping"}')
        answers = [server.answer() for _ in range(2)]
    assert [answer["id"] for answer in answers] == [7, 7]
    assert [answer["result"] for answer in answers if "tools" not in answer["result"]] == [{}]


def test_a_request_before_initialize_is_told_so(program: Path) -> None:
    server = Serving(program)
    try:
        with server.process:
            server.send("tools/list")
            error = {"code": -32600, "message": TOO_EARLY}
            assert server.answer() == {"jsonrpc": "2.0", "id": 1, "error": error}
            server.send("ping")
            assert server.answer()["result"] == {}
            server.initialize()
    finally:
        server.process.kill()


def test_what_expects_no_answer_gets_none(program: Path) -> None:
    with serving(program) as server:
        server.write(b"")
        for identifier in ("null", "1.5", "{}", '"x"', "true", "99", "1e400"):
            server.write((CANCEL % ("", identifier)).encode())
        server.notify("notifications/cancelled", [])
        server.notify("notifications/unknown", {})
        server.notify("tools/call", {"name": "list_sessions"})
        server.write(b'{"jsonrpc": "2.0", "id": 5, "result": {}}')
        server.write(b'{"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": "x"}}')
        server.send("tools/list")
        assert server.answer()["result"]["tools"]
        server.hang_up()
        assert b"ignored a notification" in server.end()[1]
    assert "ps" not in fake_engine.calls(program)


def stuck(server: Serving) -> None:
    """Ask, and wait until the answers have filled stdout, which nobody reads."""
    for _ in range(60):
        server.send("tools/list")
    server.write(b"no JSON\n" * 200)
    assert server.process.stdout is not None
    end = os.open(f"/proc/self/fd/{server.process.stdout.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while select.select([], [end], [], 0)[1]:
            with pytest.raises(subprocess.TimeoutExpired):
                server.process.wait(0.005)
    finally:
        os.close(end)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, None])
def test_a_server_whose_client_does_not_read_ends(
    program: Path, number: signal.Signals | None
) -> None:
    with serving(program) as server:
        stuck(server)
        if number is None:
            server.hang_up()
        else:
            server.process.send_signal(number)
        assert server.end()[0] == 0


def test_a_second_signal_ends_a_server_at_once(program: Path) -> None:
    with serving(program, "--debug") as server:
        stuck(server)
        assert server.process.stderr is not None
        server.process.send_signal(signal.SIGTERM)
        for line in server.process.stderr:
            if b"stopping on SIGTERM" in line:
                break
        server.process.send_signal(signal.SIGINT)
        assert server.end()[0] == 128 + signal.SIGINT


def test_the_server_may_open_as_many_files_as_the_hard_limit_allows(program: Path) -> None:
    with serving(program) as server:
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        assert soft == hard
