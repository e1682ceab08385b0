"""Sessions of a cluster with a restricted network, and with none: what their pods reach."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from claude_mcp.config import load
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.kubernetes import marks
from claude_mcp.proxy import DENIED_PORT, PORT
from claude_mcp.sessions.command_state import CommandResult
from claude_mcp.sessions.create.request import CreateRequest, NetworkName
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.network import enforcement
from claude_mcp.sessions.network.access import PROXY_OF_LABEL
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands, prompts
from claude_mcp.sessions.turns.results import TurnStatus
from tests.cluster import GATEWAY, Cluster
from tests.engine_fixtures import BarePods, environment_with
from tests.network_world import welcome
from tests.restricted import bash
from tests.witnesses import PATIENCE_SECONDS, Witness, watching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from messages_standin import Standin

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.timeout(200),
    pytest.mark.xdist_group("cluster-networks"),
]

SERVED: Final = 8099
"""The port of a server in a pod."""
OTHER: Final = 9
"""A port of this machine that nobody may reach."""
SERVE: Final = (
    f"python3 -m http.server {SERVED} >/dev/null 2>&1 & "
    f"until curl -s -o /dev/null http://127.0.0.1:{SERVED}/; do sleep 0.1; done"
)
# Connects or sends to each [kind, host, port] at once with what is told, and says who was reached.
REACH: Final = """
import json, socket, sys, threading
data, targets = json.loads(sys.argv[1])
reached = []
def attempt(kind, host, port):
    kinds = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
    with socket.socket(socket.AF_INET, kinds[kind]) as connection:
        connection.settimeout(2)
        try:
            connection.connect((host, port))
            connection.sendall(data.replace("KIND", kind).encode())
            reached.append([kind, host, port])
        except OSError:
            pass
attempts = [threading.Thread(target=attempt, args=each) for each in targets]
for each in attempts: each.start()
for each in attempts: each.join()
print(json.dumps(sorted(reached)))
"""


@dataclass
class World:
    servers: tuple[Sessions, Sessions]
    bare: BarePods
    site: Witness
    """On this machine, and allowed."""
    one: Session
    """Restricted, like ``two``, by the other server at the same time."""
    two: Session
    none: Session
    open: Session
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def proxy(self) -> str:
        assert self.one.proxy is not None
        return self.one.proxy.name

    def address(self, container: str) -> str:
        pod = marks.pod_name(container)
        return self.bare("get", "pod", pod, "--output=jsonpath={.status.podIP}")

    async def run(self, session: Session, command: str) -> CommandResult:
        return await commands.run(await self.servers[0].open(session.id), command)

    async def reached(self, session: Session, token: str, targets: list[list[Any]]) -> Any:
        """Those of the targets that a program in the session connected to."""
        wanted = json.dumps([f"GET /{token}-KIND HTTP/1.1\r\n\r\n", targets])
        done = await self.run(session, f"python3 - '{wanted}' <<'END'\n{REACH}\nEND")
        return json.loads(done.stdout)

    def left(self) -> list[str]:
        """Pods and policies of these sessions and of their proxies."""
        proxies = [f"claude-mcp-proxy-{each.egress}" for each in (self.one, self.none)]
        sessions = [each.container_name for each in (self.one, self.two, self.none)]
        ends = [marks.pod_name(name).removeprefix(marks.PREFIX) for name in (*proxies, *sessions)]
        found = self.bare("get", "pods,networkpolicies", "--output=name").split()
        return [each for each in found if each.endswith(tuple(ends))]


@pytest.fixture(scope="module")
def site() -> Iterator[Witness]:
    with watching(answer=welcome) as site:
        yield site


@pytest.fixture(scope="module")
async def world(
    engine: Engine,
    standin: Standin,
    site: Witness,
    shared: Session,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[World]:
    allowed = (f"{GATEWAY}:{site.port}",)
    config = replace(
        load(environment_with(standin), engine=engine.dialect.name), private_hosts=allowed
    )
    project = str(tmp_path_factory.mktemp("project"))
    made: dict[str, Session] = {}
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_sessions(config))
        second = await stack.enter_async_context(open_sessions(config))

        async def make(key: str, sessions: Sessions, network: NetworkName) -> None:
            request = CreateRequest(project, network=network)
            made[key] = (await create(sessions, request)).session
            stack.push_async_callback(sessions.destroy, made[key].id)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(make, "one", first, "restricted")
            tasks.start_soon(make, "two", second, "restricted")
            tasks.start_soon(make, "none", first, "none")
        yield World((first, second), BarePods(engine), site, open=shared, **made)  # type: ignore[arg-type]


async def test_a_restricted_session_reaches_what_is_allowed_through_its_proxy_and_nothing_else(
    world: World, engine: Engine
) -> None:
    allowed, other = f"{GATEWAY}:{world.site.port}", f"{GATEWAY}:{OTHER}"
    for session in (world.open, world.one):
        await world.run(session, SERVE)
    (proxy,) = await engine.inspect([world.proxy])
    tcp: list[Any]
    udp: list[Any]
    tcp, udp = ([kind, GATEWAY, world.site.port] for kind in ("tcp", "udp"))
    in_open: list[Any] = ["tcp", world.address(world.open.container_id), SERVED]
    in_one: list[Any] = ["tcp", world.address(world.one.container_id), SERVED]
    to_proxy: list[Any] = ["tcp", proxy.address, PORT]
    every = [tcp, udp, in_open, in_one, to_proxy, ["tcp", proxy.address, DENIED_PORT]]
    # A datagram is sent in any case; whether it came is seen where it is heard.
    found = {
        each.network: await world.reached(each, f"{world.token}-{each.network}", every)
        for each in (world.one, world.none, world.open)
    }
    assert found == {
        "restricted": sorted([udp, in_one, to_proxy]),
        "none": [udp],
        "open": sorted([tcp, udp, in_open]),
    }
    with anyio.fail_after(PATIENCE_SECONDS):
        while not world.site.has(f"{world.token}-open-udp"):  # a datagram may be lost
            await world.reached(world.open, f"{world.token}-open", [udp])
    visits = b""
    for kind in ("tcp", "udp"):
        if f"{world.token}-open-{kind}".encode() not in visits:
            visits += b"".join(world.site.until(f"{world.token}-open-{kind}"))
    assert b"-restricted-" not in visits
    assert b"-none-" not in visits
    names = await world.run(world.one, "getent hosts example.org")
    assert names.exit_code != 0
    through = await world.run(world.one, f"curl -sS http://{allowed}/; curl -sS http://{other}/")
    assert through.stdout.startswith("welcome"), through
    assert "claude-mcp refused" in through.stdout
    turn = await prompts.prompt(await world.servers[1].open(world.one.id), bash("echo $((6*7))"))
    assert (turn.status, turn.notes) == (TurnStatus.COMPLETED, ())
    assert "42" in str(turn.result)
    # Nothing is left of the proxy that its proof needed.
    assert not await engine.ids(PROXY_OF_LABEL, world.none.egress)


async def test_a_proxy_whose_pod_was_deleted_comes_back_at_another_address(
    world: World, engine: Engine
) -> None:
    (before,) = await engine.inspect([world.proxy])
    assert world.one.proxy == world.two.proxy
    command = f"curl -sS -m 60 --retry 3 http://{GATEWAY}:{world.site.port}/"
    # The channel is open, so that nothing but the session itself notices.
    assert (await world.run(world.one, command)).stdout == "welcome"
    world.bare.remove(before.id)
    again = await world.run(world.one, command)
    assert again.stdout == "welcome", again
    assert any("proxy" in note and "not running" in note for note in again.notes), again
    (after,) = await engine.inspect([world.proxy])
    assert after.id != before.id
    assert (await world.run(world.two, command)).stdout == "welcome"


@pytest.mark.stress
async def test_a_policy_that_was_deleted_is_created_again_at_the_next_call(
    world: World, cluster: Cluster
) -> None:
    name = marks.PREFIX + world.one.container_id
    cluster.admin("delete", "networkpolicy", name)
    async with open_sessions(world.servers[0].config) as others:
        done = await commands.run(await others.open(world.one.id), "true")
        assert done.notes == (enforcement.RESTORED,)
    async with open_sessions(world.servers[0].config) as others:
        assert (await commands.run(await others.open(world.one.id), "true")).notes == ()


async def test_the_proxy_goes_with_the_last_of_its_sessions_and_nothing_is_left(
    world: World,
) -> None:
    await world.servers[1].destroy(world.one.id)
    command = f"curl -sS http://{GATEWAY}:{world.site.port}/"
    assert (await world.run(world.two, command)).stdout == "welcome"
    for session in (world.two, world.none):
        await world.servers[0].destroy(session.id)
    assert world.left() == []
