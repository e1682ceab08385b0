"""Published ports on a real engine: from the host's loopback to servers on the session's."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from claude_mcp.errors import EngineError
from claude_mcp.sessions.create.request import CreateRequest, NetworkName
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands
from tests.restricted import own_address

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

PATIENCE_SECONDS = 60
BIG_BYTES = 64 * 1024 * 1024
SERVERS = f"""\
import http.server, os, socket, socketserver, sys, threading

class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path == "/big":
            for _ in range({BIG_BYTES} // 65536):
                self.wfile.write(b"x" * 65536)
        else:
            self.wfile.write(self.path.encode())

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)

socketserver.ThreadingTCPServer.allow_reuse_address = True
for server in (
    http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Pages),
    http.server.ThreadingHTTPServer(("0.0.0.0", 3001), Pages),
    socketserver.ThreadingTCPServer(("127.0.0.1", 3002), Echo),
):
    threading.Thread(target=server.serve_forever).start()
open("/tmp/listening", "w").close()
"""
START = (
    "rm -f /tmp/listening; setsid python3 servers.py </dev/null >/dev/null 2>&1 & "
    "until [ -e /tmp/listening ]; do sleep 0.05; done"
)
PORTS = ("3000", "3001", "3002", "3003")


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        body: bytes = answer.read()
        return body


def digest_of(url: str) -> tuple[int, str]:
    body = fetch(url)
    return len(body), hashlib.sha256(body).hexdigest()


def can_connect(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 5):
        return True
    return False


def urls(session: Session) -> list[str]:
    assert session.forwarding is not None
    return [each.url for each in session.forwarding.ports]


def host_ports(session: Session) -> list[int]:
    assert session.forwarding is not None
    return [each.host_port or 0 for each in session.forwarding.ports]


async def fetch_again(url: str) -> bytes:
    """What is there once the forwarder listens, which was just started again."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            try:
                return await anyio.to_thread.run_sync(fetch, url)
            except OSError:
                await anyio.sleep(0.1)


async def serve(sessions: Sessions, session: Session) -> None:
    done = await commands.run(await sessions.open(session.id), START, timeout_seconds=60)
    assert done.exit_code == 0, done


@contextlib.asynccontextmanager
async def served(
    sessions: Sessions, project: Path, name: str, network: NetworkName
) -> AsyncIterator[Session]:
    """A session whose servers listen."""
    (project / "servers.py").write_text(SERVERS)
    request = CreateRequest(str(project), session_name=name, network=network, ports=PORTS)
    session = (await create(sessions, request)).session
    try:
        await serve(sessions, session)
        yield session
    finally:
        await sessions.destroy(session.id)


def left_of(bare: Bare, session: Session) -> list[str]:
    assert session.forwarding is not None
    found = f"--filter=name={session.forwarding.name}"
    return bare("ps", "-aq", found).split() + bare("volume", "ls", "-q", found).split()


@pytest.mark.parametrize(
    "network",
    [
        "none",
        pytest.param("open", marks=pytest.mark.stress),
        pytest.param("restricted", marks=pytest.mark.stress),
    ],
)
async def test_servers_are_reached_through_published_ports(
    sessions: Sessions, project: Path, name: str, bare: Bare, network: NetworkName
) -> None:
    async with served(sessions, project, name, network) as session:
        for url in urls(session)[:2]:
            assert await anyio.to_thread.run_sync(fetch, f"{url}/page") == b"/page"
        size, digest = await anyio.to_thread.run_sync(digest_of, f"{urls(session)[0]}/big")
        assert (size, digest) == (BIG_BYTES, hashlib.sha256(b"x" * BIG_BYTES).hexdigest())
        with pytest.raises(OSError, match=r"."):
            fetch(urls(session)[3])  # nothing listens there
        assert not any(can_connect(own_address(), port) for port in host_ports(session))
        with socket.create_connection(("127.0.0.1", host_ports(session)[2]), 60) as connection:
            lines = connection.makefile("rwb")
            lines.write(b"before\n")
            lines.flush()
            assert lines.readline() == b"before\n"
            await commands.run(await sessions.open(session.id), "sleep 1")
            lines.write(b"after\n")
            lines.flush()
            assert lines.readline() == b"after\n"
        # Whoever restarts the container, and the forwarder too, the URLs stay.
        bare("restart", "--time=0", session.container_id)
        await serve(sessions, session)
        assert await fetch_again(f"{urls(session)[0]}/again") == b"/again"
        assert session.forwarding is not None
        bare("stop", "--time=0", session.container_id, session.forwarding.name)
        await serve(sessions, session)
        assert await fetch_again(f"{urls(session)[1]}/twice") == b"/twice"
    assert left_of(bare, session) == []


async def test_other_containers_do_not_reach_them(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    async with served(sessions, project, name, "none") as session:
        assert session.forwarding is not None
        address = (
            bare(
                "inspect",
                "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
                session.forwarding.name,
            ).strip()
            or bare(
                "inspect", "--format={{.NetworkSettings.IPAddress}}", session.forwarding.name
            ).strip()
        )
        if not address:
            return  # a rootless engine gives each container a network of its own
        program = (
            "import socket, sys; s = socket.create_connection((sys.argv[1], 20000), 10); "
            "s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); sys.stdout.write(repr(s.recv(1000)))"
        )
        said = bare(
            "run",
            "--rm",
            "--entrypoint=python3",
            session.image,
            "-c",
            program,
            address,
            check=False,
        )
        assert said in ("", "b''")
        with anyio.fail_after(PATIENCE_SECONDS):  # an engine has a line a moment after that
            while '"refused"' not in bare("logs", session.forwarding.name):
                await anyio.sleep(0.1)


async def test_a_port_in_use_is_named_and_nothing_is_left(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    before = set(bare("volume", "ls", "-q").split())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        request = CreateRequest(str(project), session_name=name, ports=(f"{port}:3000",))
        with pytest.raises(EngineError) as caught:
            await create(sessions, request)
    assert caught.value.message == (
        f"Port {port} of this host is in use, so port 3000 of the session cannot be published "
        "there."
    )
    assert bare.containers(name) == []
    ours = bare("ps", "-a", "--filter=label=claude-mcp.ports-of", "--format={{.Ports}}")
    assert f":{port}-" not in ours

    def left() -> list[str]:
        new = [each for each in bare("volume", "ls", "-q").split() if each not in before]
        return [each for each in new if not bare("ps", "-aq", f"--filter=volume={each}")]

    with anyio.fail_after(PATIENCE_SECONDS):  # other tests' volumes soon have a container or end
        while left():
            await anyio.sleep(0.1)
