"""Published ports: what may be asked for, and the forwarder that leads to them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.config import Config
from claude_mcp.contract import places
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.engine.dialects.kubernetes import KUBERNETES
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.engine.engine import PortInUse
from claude_mcp.engine.spec import PublishedPort
from claude_mcp.errors import EngineError, UsageError
from claude_mcp.sessions.network import companions, forwarders
from claude_mcp.sessions.network.access import Network
from claude_mcp.sessions.network.forwarding import Forwarding, Published, forwarding_from_json
from claude_mcp.sessions.network.ports import settle
from tests.unit import fake_engine

CONFIG = Config(environment={}, image="image:1")
FORWARDING = Forwarding("0123456789abcdef", "image:1", (Published(3000, 41000),))


# What may be asked for.


def test_a_port_is_published_at_a_free_port_or_a_given_one() -> None:
    settled = settle(CONFIG, Network.NONE, ["3000", " 8080:80 "])
    assert settled is not None
    assert settled.ports == (Published(3000), Published(80, 8080))
    assert settled.image == "image:1"
    assert settled.name == f"claude-mcp-ports-{settled.id}"
    assert settle(CONFIG, Network.OPEN, []) is None


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        (["http"], "ports: 'http' is not a port."),
        (["127.0.0.1:80:80"], "ports: '127.0.0.1:80:80' is not a port."),
        (["-1"], "ports: '-1' is not a port."),
        (["\u0663"], "ports: '\u0663' is not a port."),
        (["0"], "ports: 0 is not between 1 and 65535."),
        (["65536"], "ports: 65536 is not between 1 and 65535."),
        (["80:80"], "ports: a port of the host is between 1024 and 65535, not 80."),
        (["3000", "3000"], "ports: 3000 is given twice."),
        (["8080:1", "8080:2"], "ports: 8080 is given twice."),
        ([str(port) for port in range(1, 22)], "A session publishes at most 20 ports."),
    ],
)
def test_what_is_no_port_is_refused(ports: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settle(CONFIG, Network.OPEN, ports)
    assert caught.value.message == message


def test_the_way_to_a_proxy_is_not_published() -> None:
    ports = [str(places.PROXY_PORT)]
    with pytest.raises(UsageError, match="leads to its proxy"):
        settle(CONFIG, Network.RESTRICTED, ports)
    assert settle(CONFIG, Network.OPEN, ports) is not None


@pytest.mark.parametrize("network", ["open", "restricted", "none"])
def test_an_operator_who_fixed_a_narrower_network_fixed_the_ports_too(network: str) -> None:
    fixed = Config(environment={}, image="image:1", network=network, network_fixed=True)
    if network == "open":
        assert settle(fixed, Network.OPEN, ["3000"]) is not None
        return
    with pytest.raises(UsageError) as caught:
        settle(fixed, Network(network), ["3000"])
    assert caught.value.message == (
        "ports are not accepted, because CLAUDE_MCP_NETWORK_FIXED is set."
    )


def test_a_label_tells_where_the_ports_are() -> None:
    assert forwarding_from_json(FORWARDING.to_json()) == FORWARDING
    assert FORWARDING.ports[0].url == "http://127.0.0.1:41000"


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"id": "a", "image": "b", "ports": [1]}', "[" * 100_000,
        '{"id": "a", "image": "b", "ports": [[1, null]]}',
        '{"id": "a", "image": "b", "ports": [[1e999, 2]]}',
    ],
)  # fmt: skip
def test_another_text_in_the_label_is_none(text: str) -> None:
    assert forwarding_from_json(text) is None


# The forwarder.


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return fake_engine.install(tmp_path / "engine")


@pytest.fixture
def engine(program: Path, monkeypatch: pytest.MonkeyPatch) -> DockerCliEngine:
    fake_engine.answer_here(monkeypatch)
    return DockerCliEngine(str(program), "28.2.2", DOCKER, {"PATH": os.environ["PATH"]})


Starts = list[tuple[PublishedPort, ...]]


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> tuple[Starts, list[Exception]]:
    """The ports of each forwarder that is started, and what the next starts raise."""
    seen: Starts = []
    failures: list[Exception] = []

    async def create(engine: Any, spec: Any, *args: Any) -> None:
        seen.append(spec.ports)
        if failures:
            raise failures.pop(0)

    monkeypatch.setattr(companions, "create", create)
    return seen, failures


async def test_a_free_port_is_chosen_and_another_one_if_it_is_taken_meanwhile(
    engine: DockerCliEngine, starts: tuple[Starts, list[Exception]]
) -> None:
    seen, failures = starts
    failures.append(PortInUse("in use", None))
    wanted = Forwarding("0123456789abcdef", "image:1", (Published(3000), Published(80, 8080)))
    async with forwarders.opened(engine, wanted) as forwarding:
        assert forwarding is not None
        [first, second] = forwarding.ports
    assert second == Published(80, 8080)
    assert first.host_port
    assert seen[-1] == (PublishedPort(first.host_port, 20000), PublishedPort(8080, 20001))
    assert len(seen) == 2
    with socket.create_server(("127.0.0.1", first.host_port)):
        pass  # it was free


async def test_a_given_port_in_use_is_named(
    engine: DockerCliEngine, starts: tuple[Starts, list[Exception]]
) -> None:
    seen, failures = starts
    failures.append(PortInUse("in use", 8080))
    with pytest.raises(EngineError) as caught:
        async with forwarders.opened(engine, Forwarding("a", "image:1", (Published(80, 8080),))):
            raise AssertionError
    assert caught.value.message == (
        "Port 8080 of this host is in use, so port 80 of the session cannot be published there."
    )
    assert caught.value.hint == ("Choose another one, or give only 80: then a free port is chosen.")
    assert len(seen) == 1


async def test_the_choice_of_ports_ends(
    engine: DockerCliEngine, starts: tuple[Starts, list[Exception]]
) -> None:
    seen, failures = starts
    failures += [PortInUse("in use", None)] * 10
    with pytest.raises(EngineError, match="in use"):
        async with forwarders.opened(engine, Forwarding("a", "image:1", (Published(80),))):
            raise AssertionError
    assert len(seen) == forwarders.TRIES


async def test_a_forwarder_is_removed_if_its_session_is_not_created(
    engine: DockerCliEngine, program: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with forwarders.opened(engine, Forwarding("a", "image:1", (Published(80),))):
            raise ZeroDivisionError
    assert fake_engine.Engine(program.parent).find("claude-mcp-ports-a") is None


def held(program: Path, status: str = "running") -> Callable[[], Any]:
    """A forwarder's container in this state; returns what looks for it."""
    fake = fake_engine.Engine(program.parent)
    labels = {"claude-mcp.ports-of": FORWARDING.id, "claude-mcp.ports": FORWARDING.to_json()}
    made = fake_engine.new_container(FORWARDING.name, "image:1", labels)
    fake.save({**made, "status": status}, FORWARDING.name)
    return lambda: fake.find(FORWARDING.name)


async def test_a_stopped_forwarder_is_started_at_the_same_ports(
    engine: DockerCliEngine, program: Path
) -> None:
    found = held(program, "exited")
    await forwarders.ensure(engine, FORWARDING)
    assert found()["status"] == "running"


async def test_a_prune_removes_old_forwarders_without_a_session(
    engine: DockerCliEngine, program: Path
) -> None:
    found = held(program)
    await forwarders.prune(engine, lambda container: False)
    assert found() is not None
    await forwarders.prune(engine, lambda container: True)
    assert found() is None


# An engine without companions.
class Cluster:
    """Of an engine, forwarders need no more; a call of any verb fails."""

    dialect = KUBERNETES


@pytest.mark.anyio
async def test_a_cluster_has_ports_of_this_host_and_no_forwarder() -> None:
    engine: Any = Cluster()
    wanted = Forwarding("0123456789abcdef", "image:1", (Published(3000), Published(80)))
    async with forwarders.opened(engine, wanted) as opened:
        assert opened is not None
        first, second = opened.ports
        assert (first.port, second.port) == (3000, 80)
        assert first.host_port != second.host_port
        assert first.host_port
        await forwarders.ensure(engine, opened)
        await forwarders.release_or_log(engine, opened)
        await forwarders.prune(engine, lambda _: True)


@pytest.mark.anyio
async def test_a_given_port_of_this_host_must_be_free_for_a_cluster() -> None:
    engine: Any = Cluster()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wanted = Forwarding("0123456789abcdef", "image:1", (Published(3000, port),))
        with pytest.raises(EngineError, match=f"Port {port} of this host is in use"):
            async with forwarders.opened(engine, wanted):
                pass
    async with forwarders.opened(engine, wanted) as opened:
        assert opened == wanted
