"""The ways past a restricted network, each tried from inside as the session's user.

In each test something listens where the attempt would arrive, and in each somebody who may come
does, last: a listener takes its visitors in their order, so whoever came before is known by then.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shlex
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from engine_fixtures import Bare, Standin, environment_with
from restricted import decisions, give_names, own_address
from witnesses import (
    PATIENCE_SECONDS,
    Inside,
    Visits,
    Witness,
    watching,
    watching_beside,
    watching_inside,
)

from claude_mcp.agent import contract
from claude_mcp.config import load
from claude_mcp.engine.engine import Engine
from claude_mcp.proxy.policy import from_json
from claude_mcp.sessions import commands, creation, turns
from claude_mcp.sessions.labels import Session
from claude_mcp.sessions.lifecycle import Sessions, open_sessions

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
ENGINE_PORTS = (2375, 2376)
FLOOD = 2000


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
            connection.settimeout(5)
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
        connection.settimeout(20)
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
        done = await commands.execute(self.sessions, session.id, command)
        assert done.exit_code == 0, done.stdout + done.stderr
        return done.stdout

    async def python(self, session: Session, script: str, *arguments: Any) -> Any:
        words = ("python3", "-c", script, json.dumps(arguments))
        return json.loads(await self.run(session, shlex.join(words)))

    async def reach(self, session: Session, data: str, *targets: tuple[str, str, int]) -> list[str]:
        outcomes: list[str] = await self.python(session, REACH, data, targets)
        return outcomes

    async def send(self, *pieces: bytes, where: int | str = contract.PROXY_PORT) -> list[str]:
        """What the proxy answers the restricted session, to each on a connection of its own."""
        texts = [piece.decode("latin-1") for piece in pieces]
        answers: list[str] = await self.python(self.restricted, SEND, where, texts)
        return answers

    async def refuses(self, *requests: bytes) -> None:
        """The proxy does, each of them."""
        for request, answer in zip(requests, await self.send(*requests), strict=True):
            assert answer.startswith("HTTP/1.1 403 claude-mcp refused"), (request, answer)

    async def curl(self, *words: str, session: Session | None = None) -> tuple[int, str]:
        """Exit code, and what curl wrote."""
        command = shlex.join(("curl", "--silent", "--show-error", "--max-time", "20", *words))
        done = await commands.execute(self.sessions, (session or self.restricted).id, command)
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


@pytest.fixture(scope="module")
def site() -> Iterator[Witness]:
    with watching(answer=welcome) as site:
        yield site


@pytest.fixture(scope="module")
async def world(
    engine: Engine, standin: Standin, site: Witness, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    config = replace(
        load(environment_with(standin), engine=engine.program),
        private_hosts=(f"{ALLOWED}:{site.port}",),
        proxies={},
    )
    hosts = (f"{PUBLIC}:{site.port}", PUBLIC, f"{UNKNOWN}:{site.port}")
    bare = Bare(engine)
    async with contextlib.AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(open_sessions(config))

        async def create(network: str, *allowed: str) -> Session:
            created = await creation.create(
                sessions,
                creation.CreateRequest(
                    str(tmp_path_factory.mktemp("project")), network=network, allowed_hosts=allowed
                ),
            )
            stack.push_async_callback(sessions.destroy, created.session.id)
            return created.session

        restricted = await create("restricted", *hosts)
        neighbour = await create("restricted", *hosts)
        assert restricted.proxy is not None
        assert restricted.proxy == neighbour.proxy
        names = {
            ALLOWED: own_address(),
            OTHER: PUBLIC_ADDRESS,
            PUBLIC: PUBLIC_ADDRESS,
        }
        give_names(bare, restricted, names)
        resolver = bare("inspect", "--format={{.ResolvConfPath}}", restricted.proxy.name).strip()
        Path(resolver).write_text("nameserver 127.0.0.1\n")
        behind = stack.enter_context(
            watching_inside(
                bare,
                config.image,
                restricted.proxy.name,
                addresses=[PUBLIC_ADDRESS, METADATA],
                ports=[53, 80, site.port, FURTHER_PORT],
            )
        )
        yield World(
            sessions=sessions,
            bare=bare,
            image=config.image,
            rootless=engine.dialect.rootless,
            restricted=restricted,
            neighbour=neighbour,
            open=await create("open"),
            site=site,
            behind=behind,
            names=names,
        )


@pytest.fixture
def elsewhere() -> Iterator[Witness]:
    """At every address of this machine, where nobody is allowed to go."""
    with watching(answer=welcome) as witness:
        yield witness


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


# 1, 2, 10: addresses, the gateway, and what is no TCP


@pytest.mark.parametrize("kind", ["tcp", "udp"])
async def test_no_address_is_reached_directly(world: World, elsewhere: Witness, kind: str) -> None:
    before = addresses_of_host()
    targets = [(kind, address, elsewhere.port) for address in sorted(before)]
    targets += [(kind, METADATA, 80), (kind, "198.51.100.7", 80), (kind, "2001:db8::7", 80)]
    outcomes = await world.reach(world.restricted, "restricted", *targets)
    own = {"127.0.0.1", "::1"}
    assert {
        outcome
        for (_, address, _), outcome in zip(targets, outcomes, strict=True)
        if address not in own
    } <= {"ENETUNREACH", "EADDRNOTAVAIL", "EINVAL"}
    stay = before & addresses_of_host()
    from_here = from_host("host", *[(kind, each, elsewhere.port) for each in sorted(stay)])
    there = (kind, own_address(), elsewhere.port)
    assert await world.reach(world.open, "open", there) == ["reached"]
    found = elsewhere.until("open")
    still = len(stay & addresses_of_host())
    assert still <= from_here.count("reached")
    assert found.count(b"host") == from_here.count("reached")
    assert set(found) == {b"host", b"open"}


async def test_there_is_no_gateway(world: World, elsewhere: Witness) -> None:
    """Rootless engines have nothing of the host at the gateway; there the control goes to its own
    address."""
    routes = "tail -n +2 /proc/net/route"
    first = (await world.run(world.open, routes)).split()
    assert first[1] == "00000000"
    gateway = socket.inet_ntoa(struct.pack("=I", int(first[2], 16)))
    assert await world.run(world.restricted, routes) == ""
    assert (await world.run(world.restricted, "ls /sys/class/net")).split() == ["lo"]
    for kind in ("tcp", "udp"):
        target = (kind, gateway, elsewhere.port)
        assert await world.reach(world.restricted, "restricted", target) == ["ENETUNREACH"]
        if world.rootless:
            target = (kind, own_address(), elsewhere.port)
        assert await world.reach(world.open, f"open {kind}", target) == ["reached"]
        assert elsewhere.until(f"open {kind}") == [f"open {kind}".encode()]


async def test_a_ping_has_nowhere_to_go(world: World) -> None:
    """Where the kernel lets a user ping at all; the control is the session's own loopback."""
    ping = """
import errno, json, os, socket, struct, sys
def ping(kind, address):
    try:
        with socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP) as s:
            s.settimeout(10)
            head = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, 1)
            check = 0xFFFF - (8 << 8) - (os.getpid() & 0xFFFF) - 1
            check = check if check >= 0 else check + 0xFFFF
            s.sendto(struct.pack("!BBHHH", 8, 0, check, os.getpid() & 0xFFFF, 1), (address, 0))
            s.recv(1024)
            return "answered"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
print(json.dumps([ping(kind, address) for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW)
                  for address in json.loads(sys.argv[1])]))
"""
    addresses = ["127.0.0.1", own_address(), METADATA]
    loopback, own, metadata, *raw = await world.python(world.restricted, ping, *addresses)
    may_ping = loopback == "answered"
    assert may_ping or loopback in ("EACCES", "EPERM")
    assert {own, metadata} == {"ENETUNREACH" if may_ping else loopback}
    assert set(raw) == {"EPERM"}


RIGHTS = """
import errno, fcntl, json, os, socket, struct, sys
def attempt(do):
    try:
        return do() or "done"
    except OSError as error:
        return errno.errorcode[error.errno]
def netlink(kind, body, flags=0x5):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        head = struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0)
        s.send(head + body)
        code = struct.unpack_from("=i", s.recv(65536), 16)[0]
        if code:
            raise OSError(-code, "refused")
def attribute(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\\0" * (-len(data) % 4)
def tun():
    with open("/dev/net/tun", "r+b", buffering=0) as device:
        fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"tun7", 0x1001))
lo = socket.if_nametoindex("lo")
message = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
kind_of_link = attribute(18, attribute(1, b"dummy"))
found = {
    "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255).close()),
    "packet": attempt(lambda: socket.socket(17, socket.SOCK_RAW, 0x0300).close()),
    "address": attempt(lambda: netlink(
        20, struct.pack("=BBBBI", 2, 32, 0, 0, lo) + attribute(2, bytes((10, 9, 8, 7))), 0x605)),
    "route": attempt(lambda: netlink(
        24, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 4, 253, 1, 0)
        + attribute(4, struct.pack("=I", lo)), 0x605)),
    "link": attempt(lambda: netlink(16, message + kind_of_link, 0x605)),
    "tun": attempt(tun),
}
print(json.dumps(found))
"""


async def test_interfaces_routes_and_raw_sockets_are_out_of_reach(world: World) -> None:
    """The control is a container that may."""
    found = await world.python(world.restricted, RIGHTS)
    assert found.pop("tun") in ("ENOENT", "EPERM", "EACCES")
    assert found.pop("packet") == "EAFNOSUPPORT"
    assert found == dict.fromkeys(("raw", "address", "route", "link"), "EPERM")
    words = ("--network=none", "--user=0", "--cap-add=NET_ADMIN", "--cap-add=NET_RAW")
    allowed = json.loads(
        world.bare("run", "--rm", *words, world.image, "python3", "-c", RIGHTS, "[]")
    )
    assert {allowed[each] for each in ("raw", "packet", "address", "route")} == {"done"}
    assert allowed["link"] in ("done", "ENOTSUP", "EOPNOTSUPP")  # as the kernel has it


async def test_a_namespace_of_its_own_gains_nothing(world: World, elsewhere: Witness) -> None:
    """Neither a new network, nor that of the agent or of anybody in /proc."""
    escape = """
import ctypes, glob, json, os, subprocess, sys
reach, data, target = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
outcomes = []
def attempt(enter):
    child = os.fork()
    if not child:
        entered = enter()
        argument = json.dumps([data, [target]])
        done = subprocess.run([sys.executable, "-c", reach, argument], capture_output=True)
        os._exit(10 if b"reached" in done.stdout else 11 if entered == 0 else 12)
    outcomes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
def setns(path):
    try:
        return libc.setns(os.open(path, os.O_RDONLY), 0)
    except OSError:
        return -1
attempt(lambda: libc.unshare(0x10000000 | 0x40000000))
attempt(lambda: libc.unshare(0x40000000))
for path in glob.glob("/proc/[0-9]*/ns/net"):
    attempt(lambda: setns(path))
print(json.dumps(outcomes))
"""
    target = ("tcp", own_address(), elsewhere.port)
    outcomes = await world.python(world.restricted, escape, REACH, "restricted", target)
    assert len(outcomes) > 2
    assert 10 not in outcomes
    assert 10 in await world.python(world.open, escape, REACH, "open", target)
    assert set(elsewhere.until("open")) == {b"open"}


async def test_sockets_are_of_families_that_a_network_namespace_bounds(world: World) -> None:
    """Others, as those between virtual machines and their hosts (AF_VSOCK), know no namespaces:
    ``--network=none`` does not take them away. The control is what an open session can make, if
    its kernel and its engine let it have more."""
    families = """
import json, socket
found = set()
for family in range(1, 64):
    for kind in (1, 2, 3, 5):
        for protocol in (0, 1):
            try:
                socket.socket(family, kind, protocol).close()
                found.add(family)
            except OSError:
                pass
print(json.dumps(sorted(found)))
"""
    usual = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    found = set(await world.python(world.restricted, families))
    there = set(await world.python(world.open, families))
    assert found == there & usual
    assert {socket.AF_UNIX, socket.AF_INET, socket.AF_NETLINK} <= found


# 3, 4: the engine, other containers, other sessions


async def test_no_socket_of_an_engine_is_inside(world: World) -> None:
    """The search finds the session's own sockets, so it would find others."""
    search = """
import json, os, stat
found = []
for directory, names, files in os.walk("/"):
    if directory == "/":
        names.remove("proc")
    for name in files:
        path = os.path.join(directory, name)
        try:
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                found.append(path)
        except OSError:
            pass
print(json.dumps(sorted(found)))
"""
    found = await world.python(world.restricted, search)
    own = [path for path in found if not path.startswith("/tmp/cc-socks/")]  # of Claude Code
    assert own == [contract.SOCKET_PATH, contract.PROXY_SOCKET]


@pytest.mark.parametrize("port", ENGINE_PORTS)
async def test_the_port_of_an_engine_is_not_reached(world: World, port: int) -> None:
    try:
        witness = Witness(port)
    except OSError:  # somebody has it: what holds for it holds for another
        witness = Witness()
    with contextlib.closing(witness):
        targets = [("tcp", address, witness.port) for address in sorted(addresses_of_host())]
        await world.reach(world.restricted, "restricted", *targets)
        names = (OTHER, "localhost", "host.docker.internal", "host.containers.internal")
        places = [f"{host}:{witness.port}" for host in (own_address(), *names)]
        await world.refuses(*map(connect, places))
        there = ("tcp", own_address(), witness.port)
        assert await world.reach(world.open, "open", there) == ["reached"]
        assert witness.until("open") == [b"open"]


async def test_another_container_is_not_reached(world: World) -> None:
    """By its address, where it has one that others reach, and at the port that it publishes."""
    name = f"{world.open.container_name}-beside"
    with watching_beside(world.bare, world.image, name, 8099, "--publish=8099") as beside:
        published = world.bare("port", name, "8099").split()[0].rpartition(":")[2]
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        addresses = set(world.bare("inspect", f"--format={form}", name).split())
        assert addresses or world.rootless
        targets = [("tcp", own_address(), int(published))]
        if not world.rootless:
            targets += [("tcp", address, 8099) for address in addresses]
        outcomes = await world.reach(world.restricted, "restricted", *targets)
        assert set(outcomes) == {"ENETUNREACH"}
        for _, host, port in [*targets, ("tcp", name, 8099)]:
            place = f"{host}:{port}"
            await world.refuses(connect(place), get(f"http://{place}/", place))
        controls = [f"open-{number}" for number in range(len(targets))]
        for target, control in zip(targets, controls, strict=True):
            assert await world.reach(world.open, control, target) == ["reached"]
            assert beside.until(control) == [control.encode()]


async def test_another_session_is_not_reached(world: World) -> None:
    """Neither directly nor through the proxy that they share."""
    container = world.neighbour.container_name
    with watching_inside(
        world.bare, world.image, container, addresses=["10.77.0.1"], ports=[8099]
    ) as inside:
        hosts = ("127.0.0.1", "::1", "10.77.0.1", container, "localhost")
        targets = [("tcp", host, 8099) for host in hosts]
        outcomes = await world.reach(world.restricted, "restricted", *targets)
        assert "reached" not in outcomes
        for host in ("127.0.0.1", "[::1]", "10.77.0.1", container, "localhost"):
            place = f"{host}:8099"
            await world.refuses(connect(place), get(f"http://{place}/", place))
        control = ("tcp", "127.0.0.1", 8099)
        assert await world.reach(world.neighbour, "neighbour", control) == ["reached"]
        assert inside.until("neighbour") == [b"neighbour"]


async def test_abstract_sockets_of_the_host_and_of_others_are_out_of_reach(world: World) -> None:
    """They belong to a network; the control is a process of the host."""
    name = f"@{world.restricted.container_name}-test"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name[1:])
        server.listen()
        server.settimeout(20)
        outcomes = await world.reach(world.restricted, "restricted", ("tcp", name, 0))
        assert outcomes == ["ECONNREFUSED"]
        listed = await world.run(world.restricted, "cat /proc/net/unix")
        assert name not in listed
        assert name in Path("/proc/net/unix").read_text()
        assert from_host("host", ("tcp", name, 0)) == ["reached"]
        connection, _ = server.accept()
        with connection:
            assert connection.recv(100) == b"host"


# 5: names


@pytest.mark.parametrize("kind", ["udp", "tcp"])
async def test_no_name_server_is_reached_directly(
    world: World, elsewhere: Witness, kind: str
) -> None:
    """At the usual port too, if the test may listen there."""
    ask = """
import json, socket, struct, sys
name, kind, targets = json.loads(sys.argv[1])
labels = b"".join(bytes((len(each),)) + each.encode() for each in name.split("."))
query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\\0" + struct.pack(">2H", 1, 1)
sent = 0
for target in targets:
    try:
        with socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as s:
            s.settimeout(5)
            s.connect(tuple(target))
            s.sendall(query if kind == "udp" else struct.pack(">H", len(query)) + query)
            sent += 1
    except OSError:
        pass
print(json.dumps(sent))
"""
    with contextlib.ExitStack() as stack:
        witnesses = [elsewhere]
        with contextlib.suppress(PermissionError):
            witnesses.append(stack.enter_context(watching(53, own_address())))
        targets = [(own_address(), witness.port) for witness in witnesses]
        for session, sent in ((world.restricted, 0), (world.open, len(targets))):
            name = f"from-{session.network}.example.org"
            assert await world.python(session, ask, name, kind, targets) == sent
        for witness in witnesses:
            assert [b"from-open" in each for each in witness.until("from-open")] == [True]


async def test_the_resolver_of_the_session_asks_nobody(world: World) -> None:
    """Its name server is one that notices. Where the test may not listen at the port of one, the
    open session has it on its own loopback."""

    def settle(session: Session, settings: str) -> str:
        """What it was."""
        container = session.container_name
        before = world.bare("exec", container, "sh", "-c", "cat /etc/resolv.conf || true")
        words = ("sh", "-c", 'printf %s "$0" >/etc/resolv.conf', settings)
        world.bare("exec", "--user=0", container, *words)
        return before

    with contextlib.ExitStack() as stack:
        witness: Witness | Inside
        try:
            witness = stack.enter_context(watching(53, own_address()))
            server = own_address()
        except PermissionError:
            container = world.open.container_name
            witness = stack.enter_context(
                watching_inside(world.bare, world.image, container, addresses=[], ports=[53])
            )
            server = "127.0.0.1"
        settings = f"nameserver {server}\noptions timeout:1 attempts:1\n"
        for session in (world.restricted, world.open):
            stack.callback(settle, session, settle(session, settings))
            assert await world.run(session, "cat /etc/resolv.conf") == settings
        for session, name in ((world.restricted, "restricted"), (world.open, "open")):
            target = ("tcp", f"secret-{name}.example.org", 80)
            outcomes = await world.reach(session, name, target)
            assert outcomes == ["no such name"]
        assert not any(b"restricted" in each for each in witness.until("open"))


async def test_names_that_are_not_allowed_are_never_asked_for(world: World) -> None:
    """They could carry data. The control is a name that is allowed, and that nobody knows."""
    names = ["c2VjcmV0.not-allowed.example.org", f"c2VjcmV0.{ALLOWED}", f"c2VjcmV0.{OTHER}"]
    for name in names:
        for scheme in ("http", "https"):
            _, said = await world.curl(f"{scheme}://{name}/")
            assert "not allowed" in said or "403" in said
        place = f"{name}:{world.site.port}"
        await world.refuses(connect(f"{name}:443"), connect(place), get(f"http://{place}/", place))
    (answer,) = await world.send(connect(f"{UNKNOWN}:{world.site.port}"))
    assert status(answer) == "502"
    assert set(world.visits_behind(METADATA)) == {UNKNOWN.encode()}
    written = decisions(world.bare, world.restricted)
    assert all(f'"refused", "host": "{name.lower()}"' in written for name in names)


# 6: metadata services, and private addresses behind names

NOTATIONS = {
    "dotted": METADATA,
    "decimal": "2852039166",
    "hexadecimal": "0xa9fea9fe",
    "hexadecimal-parts": "0xa9.0xfe.0xa9.0xfe",
    "octal": "0251.0376.0251.0376",
    "two-parts": "169.16689662",
    "dot-behind": f"{METADATA}.",
    "mapped": f"[::ffff:{METADATA}]",
    "mapped-hexadecimal": "[::ffff:a9fe:a9fe]",
    "compatible": "[::a9fe:a9fe]",
    "translated": "[64:ff9b::a9fe:a9fe]",
    "escaped": "169%2e254.169.254",
    "user-before": f"{ALLOWED}@{METADATA}",
}


@pytest.mark.parametrize("host", NOTATIONS.values(), ids=NOTATIONS)
async def test_a_metadata_service_is_not_reached_by_number(world: World, host: str) -> None:
    await world.refuses(
        get(f"http://{host}/", host),
        get(f"http://{host}/", ALLOWED),
        get(f"http://{host}:80/", f"{host}:80"),
        connect(f"{host}:80"),
        get("/", host),
    )
    assert world.visits_behind(METADATA) == []


async def test_the_notations_would_lead_to_the_metadata_service(world: World) -> None:
    """The control of the test above: the proxy's own resolver takes them for its address."""
    for notation in ("decimal", "hexadecimal", "hexadecimal-parts", "octal", "two-parts"):
        assert world.visits_behind(NOTATIONS[notation]) == []


PRIVATE = {
    "metadata": METADATA,
    "loopback": "127.0.0.1",
    "anywhere": "0.0.0.0",
    "own-address": "",
    "loopback-6": "::1",
    "mapped": f"::ffff:{METADATA}",
}


@pytest.mark.parametrize("address", PRIVATE.values(), ids=PRIVATE)
async def test_an_allowed_name_does_not_lead_to_a_private_address(
    world: World, address: str
) -> None:
    """Also when it was at a public one before (rebinding)."""
    address = address or own_address()
    port = world.site.port
    target = f"{PUBLIC}:{port}"
    requests = (
        get(f"http://{target}/rebound", target),
        connect(target) + get("/rebound", target),
    )
    try:
        (answer,) = await world.send(requests[0])
        assert status(answer) == "200"
        assert [each[:12] for each in world.behind.until("rebound")] == [b"GET /rebound"]
        give_names(world.bare, world.restricted, {PUBLIC: address})
        await world.refuses(*requests)
        assert "not public" in (await world.send(requests[0]))[0]
        assert world.visits_behind(METADATA, port) == []
        assert await world.visits() == []
    finally:
        give_names(world.bare, world.restricted, world.names)


@pytest.mark.parametrize("address", [METADATA, "127.0.0.1", "0.0.0.0", f"::ffff:{METADATA}"])
async def test_a_name_that_may_be_private_does_not_lead_to_the_proxy_or_metadata(
    world: World, address: str
) -> None:
    assert await world.visits() == []
    try:
        give_names(world.bare, world.restricted, {ALLOWED: address})
        at = world.allowed
        await world.refuses(get(f"http://{at}/", at), connect(at))
        assert world.visits_behind(METADATA, world.site.port) == []
    finally:
        give_names(world.bare, world.restricted, world.names)


async def test_a_redirection_leads_nowhere_else(world: World, elsewhere: Witness) -> None:
    """The control is a redirection of the allowed host to itself."""
    for place in (
        f"http://{METADATA}/latest/meta-data/",
        f"http://{OTHER}/",
        f"http://{OTHER}:{world.site.port}/",
        f"http://{own_address()}:{elsewhere.port}/",
    ):
        _, said = await world.curl("--location", f"http://{world.allowed}/?to={place}")
        assert "claude-mcp refused" in said
        assert [each[:9] for each in await world.visits()] == [b"GET /?to="]
    assert world.visits_behind(METADATA) == []
    assert world.visits_behind(OTHER, world.site.port) == []
    assert world.visits_of_proxy(elsewhere) == []
    _, said = await world.curl("--location", f"http://{world.allowed}/?to=http://{world.allowed}/")
    assert said == "welcome"
    assert len(await world.visits()) == 2


# 7, 8: other ports, addresses and hosts by way of the proxy


async def test_other_ports_and_addresses_of_an_allowed_host_are_refused(
    world: World, elsewhere: Witness
) -> None:
    places = [f"{ALLOWED}:{elsewhere.port}", ALLOWED, f"{own_address()}:{world.site.port}"]
    for address in sorted(addresses_of_host()):
        written = f"[{address.partition('%')[0]}]" if ":" in address else address
        places += [f"{written}:{port}" for port in (elsewhere.port, world.site.port)]
    places += [f"[::ffff:{own_address()}]:{world.site.port}", f"{PUBLIC}:{FURTHER_PORT}"]
    for host in (OTHER, PUBLIC_ADDRESS, f"[::ffff:{PUBLIC_ADDRESS}]"):
        places += [f"{host}:{port}" for port in (80, 443, world.site.port, FURTHER_PORT)]
    await world.refuses(*[get(f"http://{place}/", place) for place in places])
    await world.refuses(*[connect(each if ":" in each else f"{each}:443") for each in places])
    assert await world.visits() == []
    assert world.visits_of_proxy(elsewhere) == []
    for port in (80, world.site.port, FURTHER_PORT):
        assert world.visits_behind(PUBLIC, port) == []


def client_hello(name: str | None) -> bytes:
    """What a TLS client begins with."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def in_two_records(hello: bytes) -> bytes:
    def record(body: bytes) -> bytes:
        return hello[:3] + struct.pack(">H", len(body)) + body

    body = hello[5:]
    half = body.index(b"example") + 3
    return record(body[:half]) + record(body[half:])


MARK = "smuggled"
"""In what must not arrive; nothing that may arrive has it."""

OTHER_HOSTS = {
    "host": lambda at: get(f"http://{at}/{MARK}", OTHER),
    "host-with-another-port": lambda at: get(f"http://{at}/{MARK}", f"{ALLOWED}:1"),
    "two-hosts": lambda at: get(f"http://{at}/{MARK}", at, f"Host: {OTHER}"),
    "host-of-two": lambda at: get(f"http://{at}/{MARK}", f"{at}, {OTHER}"),
    "user-before": lambda at: get(f"http://{OTHER}@{at}/{MARK}", at),
    "user-behind": lambda at: get(f"http://{at}@{OTHER}/{MARK}", at),
    "backslash": lambda at: get(f"http://{at}\\@{OTHER}/{MARK}", at),
    "suffix": lambda at: get(f"http://{ALLOWED}.{OTHER}/{MARK}", f"{ALLOWED}.{OTHER}"),
    "connect-host": lambda at: get(at, OTHER, method="CONNECT") + get(f"/{MARK}", at),
    "in-tunnel-host": lambda at: connect(at) + get(f"/{MARK}", OTHER),
    "in-tunnel-two-hosts": lambda at: connect(at) + get(f"/{MARK}", at, f"Host: {OTHER}"),
    "in-tunnel-url": lambda at: connect(at) + get(f"http://{OTHER}/{MARK}", OTHER),
    "in-tunnel-connect": lambda at: connect(at) + connect(f"{MARK}.{OTHER}:443"),
    "in-tunnel-http2": lambda at: connect(at) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + MARK.encode(),
    "in-tunnel-no-protocol": lambda at: connect(at) + MARK.encode() + b"\r\n\r\n",
    "in-tunnel-ftp": lambda at: connect(at) + b"USER " + MARK.encode() + b"\r\n",
    "in-tunnel-ssh": lambda at: connect(at) + b"SSH-2.0-" + MARK.encode() + b"\r\n",
    "tls": lambda at: connect(at) + client_hello(f"{MARK}.{OTHER}"),
    "tls-in-two-records": lambda at: connect(at) + in_two_records(client_hello(f"{MARK}.{OTHER}")),
    "tls-without-a-name": lambda at: connect(at) + client_hello(None) + MARK.encode(),
}  # fmt: skip


@pytest.mark.parametrize("bypass", OTHER_HOSTS)
async def test_a_request_for_another_host_does_not_arrive(world: World, bypass: str) -> None:
    data = OTHER_HOSTS[bypass](world.allowed)
    (answer,) = await world.send(data)
    assert "welcome" not in answer
    # A tunnel's way is open before it is seen what for.
    assert not any(await world.visits())
    with socket.create_connection(("127.0.0.1", world.site.port)) as direct:
        direct.sendall(data)
    assert MARK.encode() in world.site.until(MARK)[0]


async def test_what_names_the_allowed_host_arrives(world: World) -> None:
    """The control of the test above, for each of the ways."""
    at = world.allowed
    hello = client_hello(ALLOWED)
    tunnelled = [get("/tunnelled", at), hello, in_two_records(hello)]
    await world.send(get(f"http://{at}/plain", at), *[connect(at) + each for each in tunnelled])
    plain, http, *tls = await world.visits()
    assert (plain[:10], http[:14]) == (b"GET /plain", b"GET /tunnelled")
    assert tls == tunnelled[1:]


# 9: more than one request, as somebody else may read it


def post(at: str, *fields: str, body: str = "", newline: str = "\r\n") -> bytes:
    lines = [f"POST http://{at}/first HTTP/1.1", f"Host: {at}", *fields, "", body]
    return newline.join(lines).encode("latin-1")


SECOND = f"GET /{MARK} HTTP/1.1\r\nHost: {OTHER}\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"
SMUGGLED = {
    "length-and-chunked": lambda at: post(
        at, f"Content-Length: {len(SECOND) + 5}", CHUNKED, body="0\r\n\r\n" + SECOND
    ),
    "chunked-and-length": lambda at: post(
        at, CHUNKED, "Content-Length: 4", body=f"{len(SECOND):x}\r\n{SECOND}\r\n0\r\n\r\n"
    ),
    "two-lengths": lambda at: post(
        at, "Content-Length: 0", f"Content-Length: {len(SECOND)}", body=SECOND
    ),
    "list-of-lengths": lambda at: post(at, f"Content-Length: 0, {len(SECOND)}", body=SECOND),
    "signed-length": lambda at: post(at, f"Content-Length: +{len(SECOND)}", body=SECOND),
    "hexadecimal-length": lambda at: post(at, f"Content-Length: {len(SECOND):#x}", body=SECOND),
    "two-encodings": lambda at: post(at, CHUNKED, "Transfer-Encoding: identity", body=SECOND),
    "list-of-encodings": lambda at: post(at, f"{CHUNKED}, identity", body=SECOND),
    "unknown-encoding": lambda at: post(at, "Transfer-Encoding: xchunked", body=SECOND),
    "space-before-colon": lambda at: post(
        at, "Transfer-Encoding : chunked", "Content-Length: 0", body="0\r\n\r\n" + SECOND
    ),
    "vertical-tab": lambda at: post(at, "Transfer-Encoding:\x0bchunked", body=SECOND),
    "chunked-in-1.0": lambda at: post(at, CHUNKED, body="0\r\n\r\n" + SECOND).replace(
        b"first HTTP/1.1", b"first HTTP/1.0"
    ),
    "folded-encoding": lambda at: post(at, "Transfer-Encoding:\r\n chunked", body=SECOND),
    "folded-field": lambda at: post(at, f"X-One: 1\r\n\tHost: {OTHER}", body=SECOND),
    "folded-host": lambda at: get(f"http://{at}/", f"{at}\r\n {MARK}"),
    "field-with-a-space": lambda at: get(f"http://{at}/", at, f"GET /{MARK} HTTP/1.1: 1"),
    "bare-lf": lambda at: post(at, body=SECOND, newline="\n"),
    "bare-lf-in-a-field": lambda at: post(at, f"X-One: 1\n\n{SECOND}"),
    "bare-cr-in-a-field": lambda at: post(at, f"X-One: 1\r\r{MARK}"),
    "nul-in-a-field": lambda at: post(at, f"X-One: \0{MARK}"),
    "pipelined": lambda at: get(f"http://{at}/", at) + SECOND.encode(),
    "pipelined-url": lambda at: get(f"http://{at}/", at)
    + get(f"http://{OTHER}/{MARK}", OTHER) + get(f"http://{at}/{MARK}", at),
    "pipelined-behind-a-body": lambda at: post(at, "Content-Length: 2", body="ab" + SECOND),
    "pipelined-in-a-tunnel": lambda at: connect(at) + get("/", at) + SECOND.encode(),
    "connect-with-a-body": lambda at: get(
        at, at, f"Content-Length: {len(SECOND)}", method="CONNECT") + SECOND.encode(),
    "behind-chunks": lambda at: post(at, CHUNKED, body="2\r\nab\r\n0\r\n\r\n" + SECOND),
    "longer-chunk": lambda at: post(at, CHUNKED, body="2\r\nab" + SECOND + "0\r\n\r\n"),
    "hexadecimal-chunk": lambda at: post(at, CHUNKED, body="0x2\r\nab\r\n" + SECOND),
    "negative-chunk": lambda at: post(at, CHUNKED, body="-1\r\n" + SECOND),
    "huge-chunk": lambda at: post(at, CHUNKED, body="1" + "0" * 16 + "2\r\n" + SECOND),
    "chunks-of-bare-lf": lambda at: post(at, CHUNKED, body="0\n\n" + SECOND),
    "lf-in-a-chunk-extension": lambda at: post(at, CHUNKED, body="1;\n" + SECOND),
    "trailer": lambda at: post(
        at, CHUNKED, body=f"0\r\nHost: {OTHER}\r\nX-One: {MARK}\r\n\r\n"),
    "http-0.9": lambda at: f"GET http://{at}/{MARK}\r\n\r\n".encode(),
    "http-2": lambda at: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + MARK.encode(),
    "upgrade-to-http-2": lambda at: get(
        f"http://{at}/", at, "Connection: Upgrade, HTTP2-Settings", f"Upgrade: h2c-{MARK}",
        f"HTTP2-Settings: {MARK}"),
}  # fmt: skip


@pytest.mark.parametrize("bypass", SMUGGLED)
async def test_no_second_request_arrives(world: World, bypass: str) -> None:
    """The listener records what comes to the allowed host byte by byte."""
    data = SMUGGLED[bypass](world.allowed)
    await world.send(data)
    for visit in await world.visits():
        assert visit.count(b" HTTP/1.") == 1
        assert visit.count(b"\r\nHost: ") == 1
        assert f"\r\nHost: {world.allowed}\r\n".encode() in visit
        assert MARK.encode() not in visit
    with socket.create_connection(("127.0.0.1", world.site.port)) as direct:
        direct.sendall(data)
    assert MARK.encode() in world.site.until(MARK)[0]


async def test_a_body_stays_one_whatever_a_connection_field_says(world: World) -> None:
    fields = ("Connection: content-length, host", f"Content-Length: {len(SECOND)}")
    await world.send(post(world.allowed, *fields, body=SECOND))
    (visit,) = await world.visits()
    head, _, body = visit.partition(b"\r\n\r\n")
    assert body == SECOND.encode()
    assert f"Content-Length: {len(SECOND)}".encode() in head.split(b"\r\n")
    assert f"Host: {world.allowed}".encode() in head.split(b"\r\n")


# 11: the proxy's own socket


@pytest.mark.parametrize(
    "opening",
    [
        b'{"session": "SESSION"}',
        b'{"session": "SESSION", "decision": "allowed", "policy": {"allowed": ["OTHER"]}}',
        b'{"session": ["SESSION"], "watch": false, "host": "OTHER", "allowed": true}',
        b'{"watch": true}',
        b'{"watch": "true"}',
        b"[]",
        b"null",
        b"",
        b"\xff{",
        b"[" * 7_000,
        b'{"session": "' + b"x" * 20_000 + b'"}',
        b"1" * 5_000,
    ],
    ids=[
        "another-session", "a-policy", "odd", "watch", "almost-watch", "list", "null", "empty",
        "binary", "nested", "long", "number",
    ],
)  # fmt: skip
async def test_a_forged_first_line_opens_nothing(world: World, opening: bytes) -> None:
    """Spoken to the socket itself, and not by way of the session's forwarder."""
    opening = opening.replace(b"SESSION", world.neighbour.name.encode())
    opening = opening.replace(b"OTHER", f"{OTHER}:{world.site.port}".encode())
    place = f"{OTHER}:{world.site.port}"
    requests = [get(f"http://{place}/", place), connect(place)]
    pieces = [opening + b"\n" + request for request in requests]
    for answer in await world.send(*pieces, where=contract.PROXY_SOCKET):
        assert "200" not in answer
        assert '"allowed"' not in answer
        assert "tunnel" not in answer
    assert await world.visits() == []
    assert world.visits_behind(OTHER, world.site.port) == []


async def test_an_authorization_in_a_first_line_goes_nowhere(world: World) -> None:
    """It is for a further proxy; where there is none, nobody hears of it. What the client says to
    this proxy itself is not passed on either."""
    opening = b'{"session": "x", "http": "Basic c2VjcmV0", "https": "Basic c2VjcmV0"}\n'
    at = world.allowed
    fields = ("Proxy-Authorization: Basic c2VjcmV0", "Proxy-Connection: keep-alive")
    answers = await world.send(
        opening + get(f"http://{at}/", at, *fields),
        opening + connect(at) + get("/", at, *fields),
        where=contract.PROXY_SOCKET,
    )
    assert [answer[-7:] for answer in answers] == ["welcome"] * 2
    visits = await world.visits()
    assert len(visits) == 2
    assert not any(b"c2VjcmV0" in each or b"Proxy" in each for each in visits)


async def test_the_socket_can_be_neither_replaced_nor_removed(world: World) -> None:
    """The control is the proxy's own container, and that both see the same directory."""
    write = """
import ctypes, errno, json, os, socket, sys
path = sys.argv[1].strip('[]"')
directory = os.path.dirname(path)
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    if function(*arguments):
        raise OSError(ctypes.get_errno(), "refused")
def bind():
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(directory + "/another")
attempts = {
    "unlink": lambda: os.unlink(path),
    "rename": lambda: os.rename(path, directory + "/moved"),
    "over": lambda: os.rename("/tmp/mine", path),
    "link": lambda: os.link(path, directory + "/linked"),
    "symlink": lambda: os.symlink("/tmp", directory + "/link"),
    "chmod": lambda: os.chmod(path, 0),
    "bind": bind,
    "file": lambda: open(directory + "/file", "w").close(),
    "mkdir": lambda: os.mkdir(directory + "/directory"),
    "remount": lambda: call(libc.mount, b"none", directory.encode(), None, 32, None),
    "writable": lambda: call(libc.mount, b"none", directory.encode(), None, 32 | 4096, None),
    "umount": lambda: call(libc.umount2, directory.encode(), 2),
    "cover": lambda: call(libc.mount, b"tmpfs", directory.encode(), b"tmpfs", 0, None),
}
open("/tmp/mine", "w").close()
found = {}
for name, attempt in attempts.items():
    try:
        attempt()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
print(json.dumps(found))
"""
    found = await world.python(world.restricted, write, contract.PROXY_SOCKET)
    assert set(found.values()) <= {"EROFS", "EPERM", "EACCES", "EXDEV"}, found
    assert {found[each] for each in ("unlink", "chmod", "file", "bind")} == {"EROFS"}
    mark = f"{contract.PROXY_DIRECTORY}/mark"
    world.bare("exec", world.proxy, "touch", mark)
    assert "mark" in (await world.run(world.restricted, f"ls {contract.PROXY_DIRECTORY}")).split()
    world.bare("exec", world.proxy, "rm", mark)
    assert await world.visits() == []


@pytest.mark.parametrize("opening", ['{"watch": true}\\n', '{"session": "x"}\\n', "", "{"])
async def test_a_flood_of_connections_leaves_room_for_others(world: World, opening: str) -> None:
    """While one session holds as many as it gets, its neighbour's requests are served, and those
    to the model."""
    flood = f"""
import os, resource, socket, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
here, there = "/workspace/flooded", "/workspace/enough"
children = []
for _ in range(4):  # of which each has descriptors of its own
    child = os.fork()
    if not child:
        sockets = []
        for _ in range({FLOOD} // 4):
            s = socket.socket(socket.AF_UNIX)
            sockets.append(s)
            try:
                s.connect({contract.PROXY_SOCKET!r})
                s.sendall(b'{opening}')
            except OSError:
                pass
        open(here + str(os.getpid()), "w").close()
        while not os.path.exists(there):
            time.sleep(0.02)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
    os.unlink(here + str(child))
os.unlink(there)
"""
    project = Path(world.restricted.project_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.run, world.restricted, shlex.join(("python3", "-c", flood)))
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(list(project.glob("flooded*"))) < 4:
                await anyio.sleep(0.02)
        try:
            for _ in range(20):
                answer = await world.curl(f"http://{world.allowed}/", session=world.neighbour)
                assert answer == (0, "welcome")
            assert len(await world.visits()) == 20
            assert world.restricted.proxy is not None
            (model,) = from_json(world.restricted.proxy.policy).provider
            words = ("--output", "/dev/null", "--write-out", "%{http_code}", f"http://{model}/")
            assert await world.curl(*words, session=world.neighbour) == (0, "200")
            turn = await turns.prompt(
                world.sessions, world.neighbour.id, "Say hello.", turn_id=None
            )
            assert turn.status == "completed"
        finally:
            (project / "enough").touch()
    assert await world.visits() == []


# 12: the environment, and other protocols


async def test_without_the_proxys_variables_nothing_is_reached(
    world: World, elsewhere: Witness
) -> None:
    variables = " ".join(
        f"-u {name}" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    )
    url = f"http://{own_address()}:{elsewhere.port}"
    for command in (
        f"env {variables} curl --max-time 20 {url}/restricted",
        f"curl --max-time 20 --noproxy '*' {url}/restricted",
        f"env -i /usr/bin/python3 -c 'import urllib.request as r; r.urlopen(\"{url}/restricted\")'",
        f"env -i git ls-remote {url}/restricted",
    ):
        done = await commands.execute(world.sessions, world.restricted.id, command)
        assert done.exit_code != 0
    assert await world.run(world.open, f"curl {url}/open") == "welcome"
    (visit,) = elsewhere.until("open")
    assert visit.startswith(b"GET /open")


async def test_the_proxy_speaks_no_other_protocol(world: World, elsewhere: Witness) -> None:
    """SOCKS, FTP and what else curl knows; SOCKS and FTP to the allowed host neither."""
    port = world.site.port
    for host in (ALLOWED, OTHER):
        name, number = host.encode(), struct.pack(">H", port)
        address = socket.inet_aton(world.names[host])
        request = get("/", f"{host}:{port}")
        socks = [
            b"\4\1" + number + address + b"me\0" + request,
            b"\4\1" + number + b"\0\0\0\1me\0" + name + b"\0" + request,
            b"\5\1\0" + b"\5\1\0\1" + address + number + request,
            b"\5\1\0" + b"\5\1\0\3" + bytes((len(name),)) + name + number + request,
        ]
        for answer in await world.send(*socks):
            assert "welcome" not in answer
            assert not answer.startswith(("\0", "\5"))
        words = ("--fail", "--proxy", f"http://127.0.0.1:{contract.PROXY_PORT}")
        code, said = await world.curl(*words, f"ftp://{host}:{port}/x")
        assert code != 0
        assert "403" in said
    for place in (f"{OTHER}:{world.site.port}", f"{own_address()}:{elsewhere.port}"):
        for scheme in ("gopher", "dict", "telnet", "tftp", "smtp", "ldap", "imap", "mqtt"):
            code, said = await world.curl(*words, f"{scheme}://{place}/x")
            assert code != 0, said
    assert await world.visits() == []
    assert world.visits_behind(OTHER, port) == []
    assert world.visits_of_proxy(elsewhere) == []


async def test_a_proxy_that_is_asked_for_itself_goes_on(world: World) -> None:
    itself = [f"{host}:{contract.PROXY_PORT}" for host in ("127.0.0.1", "localhost", "[::1]")]
    for place in itself:
        await world.refuses(
            connect(place) + connect(world.allowed),
            get(f"http://{place}/", place),
            get(f"http://{place}/http://{world.allowed}/", place),
        )
    url = f"http://127.0.0.1:{contract.PROXY_PORT}"
    command = f"https_proxy={url} http_proxy={url} no_proxy= curl --max-time 20 {url}/"
    assert "claude-mcp refused" in await world.run(world.restricted, command)
    assert await world.visits() == []


async def test_no_websocket_is_opened_in_plain_http(world: World) -> None:
    """Neither to a host that is not allowed, nor, without a word of it, to one that is."""
    fields = (
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip
    place, at = f"{OTHER}:{world.site.port}", world.allowed
    await world.refuses(get(f"http://{place}/", place, *fields))
    await world.send(get(f"http://{at}/", at, *fields) + b"\x81\x05hello")
    (visit,) = await world.visits()
    assert b"Upgrade" not in visit
    assert visit.endswith(b"\r\nConnection: close\r\n\r\n")
    assert world.visits_behind(OTHER, world.site.port) == []
