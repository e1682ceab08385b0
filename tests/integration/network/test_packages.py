"""Package managers in restricted sessions, and a company's proxy in front of the session's own."""

from __future__ import annotations

import base64
import contextlib
import secrets as random
import shutil
import socket
import socketserver
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from messages_standin import Standin

from claude_mcp.config import Config
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from claude_mcp.sessions.turns.results import TurnStatus
from tests.registries import NAMES, TOOLS, Registries
from tests.restricted import bash, give_names, own_address

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare


pytestmark = pytest.mark.once


@pytest.fixture(scope="session")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registries]:
    with Registries(tmp_path_factory.mktemp("packages") / "registries") as running:
        yield running


@pytest.fixture
async def installing(
    sessions: Sessions, config: Config, project: Path, name: str, registries: Registries, bare: Bare
) -> AsyncIterator[tuple[Sessions, Session]]:
    """A session that may reach the registries."""
    ports = (registries.http_port, registries.https_port)
    hosts = tuple(f"*.example.org:{port}" for port in ports)
    async with open_sessions(replace(config, private_hosts=hosts)) as allowing:
        created = await create(
            allowing, CreateRequest(str(project), session_name=name, network="restricted")
        )
        give_names(bare, created.session, dict.fromkeys(NAMES, own_address()))
        shutil.copy(registries.ca, project / "ca.pem")
        yield allowing, created.session
        await allowing.destroy(name)


async def test_package_managers_work(
    installing: tuple[Sessions, Session], registries: Registries
) -> None:
    sessions, session = installing
    for tool, command in registries.commands("/workspace/ca.pem").items():
        result = await commands.run(await sessions.open(session.id), command)
        assert (tool, result.exit_code, result.notes) == (tool, 0, ()), result.stderr
    hosts = {request.host.partition(":")[0] for request in registries.requests}
    assert hosts == set(NAMES)


async def test_package_managers_fail_with_a_reason_where_their_hosts_are_not_allowed(
    sessions: Sessions, restricted: Session, project: Path, registries: Registries
) -> None:
    shutil.copy(registries.ca, project / "ca.pem")
    seen = len(registries.requests)
    for tool, command in registries.commands("/workspace/ca.pem").items():
        result = await commands.run(await sessions.open(restricted.id), command)
        assert (tool, result.exit_code != 0) == (tool, True)
        assert any(
            note.endswith("; a new session can allow it with allowedHosts.")
            for note in result.notes
        )
    assert len(registries.commands("")) == len(TOOLS)
    assert len(registries.requests) == seen


class CorporateProxy:
    """A proxy that wants a password, and reaches everything on this machine."""

    def __init__(self, password: str) -> None:

        expected = b"Basic " + base64.b64encode(f"me:{password}".encode())
        self.asked: list[str] = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            rbufsize = 0  # what follows the head is left in the socket

            def handle(self) -> None:

                line = self.rfile.readline()
                fields = [line]
                while (field := self.rfile.readline()) not in (b"\r\n", b""):
                    fields.append(field)
                if b"Proxy-Authorization: " + expected + b"\r\n" not in fields:
                    self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                    return
                method, target, version = line.decode().split()
                outer.asked.append(f"{method} {target}")
                address = target if method == "CONNECT" else target.split("/")[2]
                port = int(address.rpartition(":")[2])
                with socket.create_connection(("127.0.0.1", port)) as goal:
                    if method == "CONNECT":
                        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                    else:
                        path = target.split("/", 3)[3]
                        fields[0] = f"{method} /{path} {version}\r\n".encode()
                        goal.sendall(b"".join(fields) + b"\r\n")
                    back = threading.Thread(target=self._copy, args=(goal, self.request))
                    back.start()
                    self._copy(self.request, goal)
                    back.join()

            @staticmethod
            def _copy(source: object, target: object) -> None:

                assert isinstance(source, socket.socket)
                assert isinstance(target, socket.socket)
                with contextlib.suppress(OSError):
                    while data := source.recv(65536):
                        target.sendall(data)
                    target.shutdown(socket.SHUT_WR)

        self._server = socketserver.ThreadingTCPServer(("0.0.0.0", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


async def test_a_corporate_proxy_stands_behind_ours(
    config: Config, project: Path, name: str, standin: Standin, registries: Registries, bare: Bare
) -> None:
    """It resolves the names; its password reaches it, and nothing that runs in the session."""
    password = f"sentinel-{random.token_hex(16)}"
    corporate = CorporateProxy(password)
    address = f"http://me:{password}@{own_address()}:{corporate.port}"
    servers = replace(
        config,
        proxies={"HTTPS_PROXY": address, "HTTP_PROXY": address},
        base_url=f"http://gateway.example.com:{standin.port}",
        private_hosts=(f"files.example.org:{registries.https_port}",),
    )
    shutil.copy(registries.ca, project / "ca.pem")
    try:
        async with open_sessions(servers) as sessions:
            created = await create(
                sessions, CreateRequest(str(project), session_name=name, network="restricted")
            )
            turn = await turns.prompt(
                await sessions.open(name), bash("env; curl -sS https://b.example.net")
            )
            command = registries.commands("/workspace/ca.pem")["curl"]
            fetched = await commands.run(
                await sessions.open(name), f"{command}; code=$?; env; exit $code"
            )
            inspected = bare("inspect", created.session.container_id)
            assert created.session.proxy is not None
            inspected += bare("inspect", created.session.proxy.name)
            inspected += bare("logs", created.session.proxy.name)
            await sessions.destroy(name)
    finally:
        corporate.close()
    assert turn.status is TurnStatus.COMPLETED
    assert turn.notes == ("Blocked: b.example.net; a new session can allow it with allowedHosts.",)
    assert fetched.exit_code == 0
    asked = {line.partition("?")[0] for line in corporate.asked}
    assert asked == {
        f"POST http://gateway.example.com:{standin.port}/v1/messages",
        f"CONNECT files.example.org:{registries.https_port}",
    }
    for text in (str(turn.result), fetched.stdout, inspected):
        assert password not in text
    assert "HTTPS_PROXY=http://127.0.0.1:3128" in fetched.stdout
