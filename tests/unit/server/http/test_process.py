"""The server over HTTP as a process of its own: how it starts, where it listens, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client

from claude_mcp import config
from claude_mcp.errors import ConfigError
from claude_mcp.server.http import sockets
from tests.measuring import MEASURED
from tests.unit import fake_engine
from tests.unit.server.http.conftest import INITIALIZE, JSON, OPERATOR

PATIENCE_SECONDS = 60
TURN = "6b0b0f3e-0000-4000-8000-000000000000"
PASSES = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "claude_mcp", "serve", "--http"])
"""


def environment(program: Path, **more: str) -> dict[str, str]:
    return {
        **MEASURED,
        "PATH": os.environ["PATH"],
        "CLAUDE_MCP_CONFIG": os.devnull,
        "CLAUDE_MCP_ENGINE": str(program),
        "ANTHROPIC_API_KEY": "sk-ant-of-the-server-0123",
        **more,
    }


@contextmanager
def started(argv: list[str], **options: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and where it says that it serves."""
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]
    try:
        with process:
            line = process.stderr.readline()
            assert line.startswith("claude-mcp: serving MCP at "), line + process.stderr.read()
            yield process, line.removeprefix("claude-mcp: serving MCP at ").strip()
            process.kill()
    finally:
        process.kill()


def serve(*flags: str) -> list[str]:
    return [sys.executable, "-m", "claude_mcp", "serve", *flags]


async def test_sigterm_under_load_ends_the_server_and_no_turn(program: Path, session: str) -> None:
    variables = environment(program, CLAUDE_MCP_TOKEN=OPERATOR)
    with started(serve("--port", "0"), env=variables) as (process, url):
        headers = {**JSON, "authorization": f"Bearer {OPERATOR}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            begun = await http.post(url, json=INITIALIZE)
            connection = {"mcp-session-id": begun.headers["mcp-session-id"]}
            ended: list[str] = []

            async def call(number: int, name: str, arguments: dict[str, str]) -> None:
                message = {"jsonrpc": "2.0", "id": number, "method": "tools/call"}
                params = {"name": name, "arguments": arguments}
                try:
                    await http.post(url, json={**message, "params": params}, headers=connection)
                    ended.append(name)
                except httpx2.TransportError:
                    ended.append("cut")

            async with anyio.create_task_group() as tasks:
                wanted = {"sessionId": session, "prompt": "hang", "turnId": TURN}
                tasks.start_soon(call, 2, "execute_in_session", wanted)
                for number in range(3, 13):
                    tasks.start_soon(call, number, "list_sessions", {})
                with anyio.fail_after(PATIENCE_SECONDS):
                    while "hanging" not in fake_engine.calls(program):
                        await anyio.sleep(0.01)
                process.send_signal(signal.SIGTERM)
            assert len(ended) == 11
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert "interrupted" not in fake_engine.calls(program)
    turn = {"sessionId": session, "turnId": TURN, "waitSeconds": 0}
    with started(serve("--port", "0"), env=environment(program)) as (process, url):
        async with Client(url.partition(",")[0]) as client:
            found = await client.call_tool("get_turn", turn)
        assert found.structured_content["status"] == "running"


def test_a_server_for_other_machines_needs_a_token(program: Path) -> None:
    ran = subprocess.run(
        serve("--http", "--host", "0.0.0.0", "--port", "0"),
        env=environment(program),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert "needs a token" in ran.stderr
    assert "openssl rand" in ran.stderr


def test_sockets_that_systemd_passes_are_used(program: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def as_third() -> None:
            os.dup2(listening.fileno(), 3)

        argv = [sys.executable, "-c", PASSES]
        variables = environment(program, LISTEN_FDS="1")
        with started(argv, env=variables, pass_fds=[3], preexec_fn=as_third, cwd=Path.cwd()) as (
            process,
            where,
        ):
            assert where == f"the socket {path}, for everybody on this machine"
            transport = httpx2.HTTPTransport(uds=path)
            with httpx2.Client(transport=transport, base_url="http://localhost") as http:
                assert http.get("/healthz").text == "ok\n"
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0


def test_passed_descriptors_are_ours_only_with_our_pid() -> None:
    ours = str(os.getpid())
    found = [
        config.passed_descriptors({"LISTEN_PID": pid, "LISTEN_FDS": count})
        for pid, count in ((ours, "2"), ("1", "2"), (ours, "0"), (ours, "x"), ("", ""))
    ]
    assert found == [range(3, 5), range(0), range(0), range(0), range(0)]


def test_what_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigError, match="is no socket"):
        sockets.passed(range(file.fileno(), file.fileno() + 1))
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with one, pytest.raises(ConfigError, match="is no listening stream socket"):
        sockets.passed(range(one.fileno(), one.fileno() + 1))


def test_a_taken_port_and_an_unknown_host_are_named() -> None:
    [taken] = sockets.bound("127.0.0.1", 0)
    with taken, pytest.raises(ConfigError, match="Address already in use") as caught:
        sockets.bound("127.0.0.1", taken.getsockname()[1])
    assert caught.value.hint == "Choose another port with --port."
    with pytest.raises(ConfigError, match="is unknown"):
        sockets.bound("no.such.host.invalid", 0)


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_only_the_loopback_is_local(host: str, local: bool) -> None:
    [one] = sockets.bound(host, 0)
    with one:
        assert sockets.is_local([one]) is local
        assert sockets.described(one) == f"http://{host}:{one.getsockname()[1]}/mcp"


def test_stdio_does_not_import_the_server_over_http() -> None:
    code = (
        "import sys; from claude_mcp.server import app; "
        "sys.exit('claude_mcp.server.http' in sys.modules or 'jwt' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
