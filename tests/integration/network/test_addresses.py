"""Direct ways past a restricted network: addresses, gateways, the engine, others, the kernel."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from pathlib import Path

import pytest

from claude_mcp.contract import places as contract
from tests.network_world import (
    METADATA,
    OTHER,
    REACH,
    World,
    addresses_of_host,
    connect,
    from_host,
    get,
)
from tests.restricted import own_address
from tests.witnesses import Witness, watching_beside, watching_inside

ENGINE_PORTS = (2375, 2376)


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
    await world.arrive(world.open, "open", there, elsewhere)
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
        await world.arrive(world.open, f"open {kind}", target, elsewhere)
        assert set(elsewhere.until(f"open {kind}")) == {f"open {kind}".encode()}


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
