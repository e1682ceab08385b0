"""The stdio server as a process of its own: how it ends, and what it says where."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fake_engine

PATIENCE_SECONDS = 20


class Serving:
    """A server in a process, spoken to in plain JSON-RPC."""

    def __init__(self, program: Path, *flags: str) -> None:
        environment = {
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

    def call(self, tool: str, **arguments: Any) -> None:
        self.send("tools/call", name=tool, arguments=arguments)

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
def with_channel(program: Path, project: Path) -> Iterator[Serving]:
    """A server with a session, and a command that hangs in it."""
    fake_engine.add_session(program, "fix-tests", project)
    with serving(program) as server:
        server.call("execute_command", sessionId="fix-tests", command="hang")
        while "hanging" not in fake_engine.calls(program):
            assert server.process.poll() is None
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_all_its_children(
    program: Path, project: Path, number: signal.Signals
) -> None:
    with with_channel(program, project) as server:
        children = server.children()
        server.process.send_signal(number)
        assert server.end() == (0, b"")
    assert len(children) == 1
    assert not Path(f"/proc/{children[0]}").exists()
    assert "cancelled" in fake_engine.calls(program)


def test_a_client_that_hangs_up_ends_the_server_with_all_its_children(
    program: Path, project: Path
) -> None:
    with with_channel(program, project) as server:
        children = server.children()
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.end() == (0, b"")
    assert not Path(f"/proc/{children[0]}").exists()


def test_a_client_that_no_longer_reads_ends_the_server(program: Path) -> None:
    with serving(program) as server:
        assert server.process.stdout is not None
        server.process.stdout.close()
        server.send("tools/list")
        assert server.end() == (0, b"")


def test_the_debug_log_goes_to_stderr_without_secrets(program: Path, project: Path) -> None:
    with serving(program, "--debug") as server:
        server.write(b'{"apiKey": "sk-ant-in-a-broken-line')
        server.call("create_session", projectPath=str(project), apiKey="sk-ant-of-a-session-0123")
        assert not server.answer()["result"]["isError"]
        server.call("create_session", projectPath="/nowhere", apiKey="sk-ant-of-a-session-0123")
        assert server.answer()["result"]["isError"]
        assert server.process.stdin is not None
        server.process.stdin.close()
        code, log = server.end()
    assert code == 0
    assert b"create_session: There is no project directory '/nowhere'." in log
    assert b"sk-ant-" not in log
