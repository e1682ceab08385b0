"""Ways past a restricted network by a name: what it leads to, and who is asked for it."""

from __future__ import annotations

import contextlib

import anyio
import pytest

from claude_mcp.sessions.session import Session
from tests.network_world import (
    ALLOWED,
    METADATA,
    OTHER,
    PUBLIC,
    UNKNOWN,
    World,
    connect,
    get,
    status,
)
from tests.restricted import decisions, give_names, own_address
from tests.witnesses import PATIENCE_SECONDS, Inside, Witness, watching, watching_inside

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
        name = "from-restricted.example.org"
        assert await world.python(world.restricted, ask, name, kind, targets) == 0
        with anyio.fail_after(PATIENCE_SECONDS):  # a datagram may be lost
            while not all(witness.has("from-open") for witness in witnesses):
                name = "from-open.example.org"
                assert await world.python(world.open, ask, name, kind, targets) == len(targets)
                await anyio.sleep(0.1)
        for witness in witnesses:
            assert all(b"from-open" in each for each in witness.until("from-open"))


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

        async def ask(session: Session, name: str) -> None:
            outcomes = await world.reach(session, name, ("tcp", f"secret-{name}.example.org", 80))
            assert outcomes == ["no such name"]

        await ask(world.restricted, "restricted")
        with anyio.fail_after(PATIENCE_SECONDS):  # a question is a datagram, which may be lost
            while not witness.has("open"):
                await ask(world.open, "open")
        assert not any(b"restricted" in each for each in witness.until("open"))


async def test_names_that_are_not_allowed_are_never_asked_for(world: World) -> None:
    """They could carry data. The control is a name that is allowed, and that nobody knows."""
    names = ["c2VjcmV0.not-allowed.example.org", f"c2VjcmV0.{ALLOWED}", f"c2VjcmV0.{OTHER}"]
    for name in names:
        for scheme in ("http", "https"):
            _, said = await world.curl(f"{scheme}://{name}/")
            assert "claude-mcp refused" in said or "403" in said
        place = f"{name}:{world.site.port}"
        await world.refuses(connect(f"{name}:443"), connect(place), get(f"http://{place}/", place))
    (answer,) = await world.send(connect(f"{UNKNOWN}:{world.site.port}"))
    assert status(answer) == "502"
    assert set(world.visits_behind(METADATA)) == {UNKNOWN.encode()}
    refusals = [f'"refused", "host": "{name.lower()}"' for name in names]
    with anyio.fail_after(PATIENCE_SECONDS):  # an engine has a line a moment after it was written
        while not all(each in decisions(world.bare, world.restricted) for each in refusals):
            await anyio.sleep(0.1)


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


@pytest.mark.once
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


@pytest.mark.once
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


@pytest.mark.once
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
        assert "no public address" in (await world.send(requests[0]))[0]
        assert world.visits_behind(METADATA, port) == []
        assert await world.visits() == []
    finally:
        give_names(world.bare, world.restricted, world.names)


@pytest.mark.once
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


@pytest.mark.once
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
