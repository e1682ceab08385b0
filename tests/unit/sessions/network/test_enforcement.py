"""The proof that a session's traffic is limited, between real sockets of this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from claude_mcp.engine import process
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.engine.dialects.kubernetes import KUBERNETES
from claude_mcp.engine.engine import Container
from claude_mcp.engine.process import EXIT_GRACE_SECONDS, Stream
from claude_mcp.engine.spec import Traffic
from claude_mcp.errors import EngineError
from claude_mcp.sessions.network import enforcement
from claude_mcp.sessions.network.access import (
    OPEN,
    PROXY_OF_LABEL,
    Access,
    Network,
    Proxy,
    proxy_traffic,
    session_traffic,
)
from tests.unit.sessions.test_another_engine import Pods

pytestmark = pytest.mark.anyio

PROXY = Proxy("0123456789abcdef", "image:1", "{}")
RESTRICTED = Access(Network.RESTRICTED, PROXY)
NONE = Access(Network.NONE, witness=PROXY)


class Near(Pods):
    """Its containers are this machine."""

    dialect = KUBERNETES
    title = KUBERNETES.title

    def __init__(self, environment: dict[str, str]) -> None:
        labels = {PROXY_OF_LABEL: PROXY.id}
        super().__init__(
            Container(
                "p1", PROXY.name, "", "running", 0, "", "i", labels, address="127.0.0.1"
            )
        )  # fmt: skip
        self._environment = environment
        self.traffic: list[tuple[str, Traffic]] = []
        self.is_limited = True

    async def ensure_traffic(self, ref: str, traffic: Traffic) -> bool:
        self.traffic.append((ref, traffic))
        return self.is_limited

    @asynccontextmanager
    async def exec(
        self, ref: str, command: Sequence[str], *, exit_grace: float = EXIT_GRACE_SECONDS
    ) -> AsyncIterator[Stream]:
        environment = {"PATH": os.environ["PATH"], **self._environment}
        async with process.open_stream(
            tuple(command), env=environment, exit_grace=exit_grace
        ) as stream:
            yield stream


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> Near:
    monkeypatch.setattr(enforcement, "PROOF_SECONDS", 0.0)
    return Near({})


Ports = tuple[socket.socket, socket.socket]


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    """The proxy's port, and the one that a session must not reach.

    Both are bound, so nobody else gets them, and can be reached only once a test listens there.
    """
    with socket.socket() as allowed, socket.socket() as denied:
        for each in (allowed, denied):
            each.bind(("127.0.0.1", 0))
        monkeypatch.setattr(enforcement, "PORT", allowed.getsockname()[1])
        monkeypatch.setattr(enforcement, "DENIED_PORT", denied.getsockname()[1])
        yield allowed, denied


async def test_a_session_that_reaches_its_proxy_only_is_told_the_address(
    near: Near, ports: Ports
) -> None:
    ports[0].listen()
    assert await enforcement.prove(near, "s1", RESTRICTED) == "127.0.0.1"
    assert set(near.traffic) == {
        ("s1", session_traffic(PROXY.id)),
        ("p1", proxy_traffic(PROXY.id)),
    }


async def test_a_port_that_should_be_denied_is_named(near: Near, ports: Ports) -> None:
    for each in ports:
        each.listen()
    port = ports[1].getsockname()[1]
    with pytest.raises(EngineError, match=f"does not enforce .* 127.0.0.1:{port} after") as caught:
        await enforcement.prove(near, "s1", RESTRICTED)
    assert "Calico" in (caught.value.hint or "")


LATE = """\
import itertools, time
clock = itertools.count(step=10)
time.monotonic = lambda: next(clock)
"""


async def test_a_port_that_answers_is_noticed_by_a_process_that_is_held_up(
    near: Near, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds pass whenever it looks at the clock."""
    for each in ports:
        each.listen()
    monkeypatch.setattr(enforcement, "_PROOF", LATE + enforcement._PROOF)
    with pytest.raises(EngineError, match="does not enforce"):
        await enforcement.prove(near, "s1", RESTRICTED)


async def test_an_api_server_that_answers_is_named(near: Near, ports: Ports) -> None:
    ports[0].listen()
    with socket.create_server(("127.0.0.2", 0)) as api:
        port = api.getsockname()[1]
        near._environment = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.2",
            "KUBERNETES_SERVICE_PORT": str(port),
        }
        with pytest.raises(EngineError, match=f"still reached 127.0.0.2:{port}"):
            await enforcement.prove(near, "s1", RESTRICTED)


async def test_a_proxy_that_is_not_reached_is_no_proof(near: Near, ports: Ports) -> None:
    with pytest.raises(EngineError, match="does not reach its proxy"):
        await enforcement.prove(near, "s1", RESTRICTED)


async def test_a_proof_that_says_nothing_is_none(near: Near, ports: Ports) -> None:
    near._environment = {"PATH": "/nowhere"}
    with pytest.raises((EngineError, process.ProgramNotFound)):
        await enforcement.prove(near, "s1", RESTRICTED)


async def test_the_witness_of_a_session_without_a_network_goes_after_the_proof(
    near: Near, ports: Ports
) -> None:
    ports[0].listen()
    async with enforcement.prepared(near, NONE):
        assert await enforcement.prove(near, "s1", NONE) is None
        assert await near.inspect([PROXY.name]) == []


async def test_what_a_failed_proof_needed_is_removed(near: Near, ports: Ports) -> None:
    for each in ports:
        each.listen()
    with pytest.raises(EngineError, match="does not enforce"):
        async with enforcement.prepared(near, NONE):
            await enforcement.prove(near, "s1", NONE)
    assert await near.inspect([PROXY.name]) == []


@pytest.mark.parametrize("access", [OPEN, RESTRICTED])
async def test_an_engine_whose_containers_have_no_device_needs_no_proof(
    near: Near, access: Access
) -> None:
    near.dialect = KUBERNETES if access is OPEN else DOCKER
    async with enforcement.prepared(near, access):
        assert await enforcement.prove(near, "s1", access) is None
    assert (near.calls, near.traffic) == ([], [])


async def test_a_limit_that_was_lifted_is_told(near: Near) -> None:
    assert await enforcement.restored(near, "s1", PROXY.id) == ()
    near.is_limited = False
    assert await enforcement.restored(near, "s1", PROXY.id) == (enforcement.RESTORED,)
    assert await enforcement.restored(near, "s1", "") == ()
    assert near.traffic == [("s1", session_traffic(PROXY.id))] * 2


async def test_only_limited_sessions_are_silenced_before_they_are_removed(near: Near) -> None:
    await enforcement.silence(near, "s1", "")
    assert "kill" not in near.calls
    await enforcement.silence(near, "s1", PROXY.id)
    assert near.calls.count("kill") == 1
    near.dialect = DOCKER
    await enforcement.silence(near, "s1", PROXY.id)
    assert near.calls.count("kill") == 1
