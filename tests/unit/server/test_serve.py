"""The stdio server as a process of its own: how it ends, and what it writes to which stream."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.measuring import MEASURED
from tests.unit import fake_engine

PATIENCE_SECONDS = 20


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
    assert len(children) == 1
    assert not Path(f"/proc/{children[0]}").exists()


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
    assert not Path(f"/proc/{children[0]}").exists()


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
    assert fake_engine.calls(program)[-2:] == ["hanging", left]


def test_a_cancelled_command_is_stopped_even_if_the_client_then_disconnects(
    program: Path, project: Path
) -> None:
    with hanging(program, project, "execute_command", command="hang") as server:
        server.notify("notifications/cancelled", {"requestId": 2})
        server.hang_up()
        assert server.end() == (0, b"")
    assert fake_engine.calls(program)[-1] == "stopped"


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
    assert fake_engine.calls(program)[-3:] == ["hanging", "left", "interrupted"]


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
    assert fake_engine.calls(program)[-2:] == ["hanging", "left"]


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
NESTED = '{"a":' * 220 + "1" + "}" * 220


@pytest.mark.parametrize(
    ("line", "identifier", "code"),
    [
        (REQUEST % ("7", r'{"cursor": "half \ud83d"}'), 7, -32600),
        (REQUEST % ('"seven"', "[]"), "seven", -32600),
        (REQUEST % ("7", NESTED), 7, -32600),
        (REQUEST % ("7.5", "{}"), None, -32600),
        ('{"jsonrpc": "2.0", "id": 7}', 7, -32600),
        ("[]", None, -32600),
        ("7070707070", None, -32600),
        ('{"jsonrpc": "2.0", "id": 7, "meth', None, -32700),
        ("[" * 100_000, None, -32700),
        ("x" * (16 * 1024 * 1024 + 1), None, -32700),
    ],
    ids=[
        "half of a surrogate pair",
        "params in a list",
        "deep nesting",
        "fraction as id",
        "no method",
        "batch",
        "number",
        "half a line",
        "endless nesting",
        "too long",
    ],
)
def test_what_is_no_message_is_answered_and_logged(
    program: Path, line: str, identifier: object, code: int
) -> None:
    with serving(program) as server:
        server.write(line.encode())
        answer = server.answer()
        assert (answer["id"], answer["error"]["code"]) == (identifier, code)
        server.send("tools/list")
        assert server.answer()["result"]["tools"]
        server.hang_up()
        ended, log = server.end()
    assert ended == 0
    assert str(code).encode() in log
    assert line[:40].encode() not in log


def test_a_broken_notification_and_a_blank_line_are_not_answered(program: Path) -> None:
    with serving(program) as server:
        server.write(b"")
        server.write(b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": []}')
        server.send("tools/list")
        assert server.answer()["result"]["tools"]
        server.hang_up()
        assert b"ignored a notification" in server.end()[1]


def stuck(server: Serving) -> None:
    """Ask until the answers fill stdout, which nobody reads."""
    for _ in range(60):
        server.send("tools/list")
    server.write(b"no JSON\n" * 200)


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
