"""The sessions that the tests of a restricted network attack from, and what they send."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shlex
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio

from claude_mcp.contract import places
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands
from tests.engine_fixtures import Bare
from tests.restricted import own_address
from tests.witnesses import PATIENCE_SECONDS, Inside, Visits, Witness

ALLOWED = "allowed.example.org"
"""The operator allows it at private addresses too."""
PUBLIC = "public.example.org"
"""A caller allows it: it may be at public addresses."""
UNKNOWN = "unknown.example.org"
"""Allowed, but in no file of hosts: a name server is asked."""
OTHER = "other.example.org"
"""Not allowed, at a public address: nothing but its name stands in the way."""
PUBLIC_ADDRESS = "93.184.215.14"
"""Only the loopback of the proxy's network has it here."""
FURTHER_PORT = 8099
"""There, and allowed for no host."""
METADATA = "169.254.169.254"


# What runs inside; the last argument of each is JSON.

# Connects or sends to each [kind, host, port] with what is told, and says what came of it.
REACH = """
import errno, json, socket, sys
data, targets = json.loads(sys.argv[1])
outcomes = []
for kind, host, port in targets:
    host, _, zone = host.partition("%")
    try:
        if host.startswith("@"):
            family, address = socket.AF_UNIX, "\\0" + host[1:]
        else:
            found = socket.getaddrinfo(host, port)
            family, address = found[0][0], found[0][4]
        if zone:
            scopes = dict((name, number) for number, name in socket.if_nameindex())
            address = (*address[:3], scopes.get(zone, 1))
        kinds = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
        with socket.socket(family, kinds[kind]) as connection:
            connection.settimeout(30)
            connection.connect(address)
            connection.sendall(data.encode())
            outcomes.append("reached")
    except socket.gaierror:
        outcomes.append("no such name")
    except OSError as error:
        outcomes.append(errno.errorcode.get(error.errno, str(error)))
print(json.dumps(outcomes))
"""

# Sends each of several pieces to a port of the loopback, or a socket at a path, and nothing after
# it; says what comes back until the end.
SEND = """
import json, socket, sys
where, pieces = json.loads(sys.argv[1])
answers = []
for data in pieces:
    with socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET) as connection:
        connection.settimeout(60)
        connection.connect(where if isinstance(where, str) else ("127.0.0.1", where))
        answer = b""
        try:
            connection.sendall(data.encode("latin-1"))
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionError:
            pass
        answers.append(answer.decode("latin-1"))
print(json.dumps(answers))
"""


def welcome(request: bytes) -> bytes:
    """What the allowed host answers: it sends everybody on who asks for that."""
    target = request.split(b" ", 2)[1].decode("latin-1")
    to = parse_qs(urlsplit(target).query).get("to")
    if to is None:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nwelcome"
    return f"HTTP/1.1 302 Found\r\nLocation: {to[0]}\r\nContent-Length: 0\r\n\r\n".encode()


@dataclass
class World:
    """Two sessions with one proxy, and one with an open network."""

    sessions: Sessions
    bare: Bare
    image: str
    rootless: bool
    restricted: Session
    neighbour: Session
    open: Session
    site: Witness
    """What the allowed host is."""
    behind: Inside
    """In the proxy's network: a public address, the metadata service's, and its name server."""
    names: Mapping[str, str]
    asked: int = 0

    @property
    def allowed(self) -> str:
        return f"{ALLOWED}:{self.site.port}"

    @property
    def proxy(self) -> str:
        assert self.restricted.proxy is not None
        return self.restricted.proxy.name

    async def run(self, session: Session, command: str) -> str:
        """Its output; it must succeed."""
        done = await commands.run(await self.sessions.open(session.id), command)
        assert done.exit_code == 0, done.stdout + done.stderr
        return done.stdout

    async def python(self, session: Session, script: str, *arguments: Any) -> Any:
        words = ("python3", "-c", script, json.dumps(arguments))
        return json.loads(await self.run(session, shlex.join(words)))

    async def reach(self, session: Session, data: str, *targets: tuple[str, str, int]) -> list[str]:
        outcomes: list[str] = await self.python(session, REACH, data, targets)
        return outcomes

    async def arrive(
        self, session: Session, data: str, target: tuple[str, str, int], witness: Visits
    ) -> None:
        """Reach a witness for certain: a datagram may be lost, and is then sent again."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while not witness.has(data):
                assert await self.reach(session, data, target) == ["reached"]
                await anyio.sleep(0.1)

    async def send(self, *pieces: bytes, where: int | str = places.PROXY_PORT) -> list[str]:
        """What the proxy answers the restricted session, to each on a connection of its own."""
        texts = [piece.decode("latin-1") for piece in pieces]
        answers: list[str] = await self.python(self.restricted, SEND, where, texts)
        return answers

    async def refuses(self, *requests: bytes) -> None:
        """The proxy does, each of them."""
        for request, answer in zip(requests, await self.send(*requests), strict=True):
            assert answer.startswith("HTTP/1.1 403 claude-mcp refused"), (request, answer)

    async def curl(self, *words: str, session: Session | None = None) -> tuple[int | None, str]:
        """Exit code, and what curl wrote."""
        command = shlex.join(("curl", "--silent", "--show-error", "--max-time", "60", *words))
        done = await commands.run(
            await self.sessions.open((session or self.restricted).id), command
        )
        return done.exit_code, done.stdout + done.stderr

    async def visits(self) -> list[bytes]:
        """What came to the allowed host since the last time, but for the control: a request that
        the restricted session may send."""
        self.asked += 1
        token = f"/control-{self.asked}-"
        (answer,) = await self.send(get(f"http://{self.allowed}{token}", self.allowed))
        assert answer.endswith("welcome")
        *before, control = self.site.until(token)
        assert control.startswith(f"GET {token} HTTP/1.1\r\nHost: {self.allowed}\r\n".encode())
        return before

    def visits_behind(self, host: str, port: int = 80) -> list[bytes]:
        """The same of the listener in the proxy's network."""
        return self._visits_but_for_the_proxys(self.behind, host, port)

    def visits_of_proxy(self, witness: Witness) -> list[bytes]:
        """The same of one on this machine."""
        return self._visits_but_for_the_proxys(witness, own_address(), witness.port)

    def _visits_but_for_the_proxys(self, witness: Visits, host: str, port: int) -> list[bytes]:
        """The control is the proxy's own container: it does reach that place."""
        self.asked += 1
        token = f"control-{self.asked}-"
        words = ("python3", "-c", REACH, json.dumps([token, [["tcp", host, port]]]))
        assert json.loads(self.bare("exec", self.proxy, *words)) == ["reached"]
        *before, control = witness.until(token)
        assert control == token.encode()
        return before


def get(target: str, host: str, *fields: str, method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def connect(target: str) -> bytes:
    return get(target, target, method="CONNECT")


def status(answer: str) -> str:
    return answer.split(" ", 2)[1]


def from_host(data: str, *targets: tuple[str, str, int]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", REACH, json.dumps([data, targets])],
        capture_output=True,
        check=True,
        timeout=60,
    )
    outcomes: list[str] = json.loads(done.stdout)
    return outcomes


def addresses_of_host() -> set[str]:
    """All of both versions, those of a link with the name of that; not those of other containers'
    ends, which come and go."""
    found = {"127.0.0.1"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(control, 0x8915, struct.pack("256s", name.encode()))
                found.add(socket.inet_ntoa(answer[20:24]))
    with contextlib.suppress(FileNotFoundError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            digits, _, _, _, flags, name = line.split()
            unusable = int(flags, 16) & 0x48  # not yet, or never, this machine's alone
            if not unusable and not name.startswith("veth"):
                address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
                found.add(f"{address}%{name}" if address.startswith("fe80") else address)
    return found
