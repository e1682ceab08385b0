"""The containers of proxies: made when they are needed, and gone with the last that needs them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from claude_mcp.engine import host
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.engine.dialects.podman import PODMAN
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.engine.engine import LimitRefused, NewContainer
from claude_mcp.engine.spec import ContainerSpec, Limits, VolumeMount
from claude_mcp.errors import EngineError, ImageNotFound, UsageError
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.network import companions
from claude_mcp.sessions.network import proxies as egress
from claude_mcp.sessions.network.access import Access, Network, Proxy, proxy_traffic
from tests.unit import fake_engine

PROXY = Proxy("0123456789abcdef", "image:1", '{"allowed": ["pypi.org"]}')
MADE = ["container", "create", "start"]
LAST = ["ps", "rm", "volume", "ps"]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return fake_engine.install(tmp_path / "engine")


@pytest.fixture
def engine(program: Path) -> DockerCliEngine:
    return DockerCliEngine(str(program), "28.2.2", DOCKER, {"PATH": os.environ["PATH"]})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_engine.answer_here(monkeypatch)
    monkeypatch.setattr(companions, "POLL_SECONDS", 0.001)


class Held:
    """What the fake engine has."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._engine = fake_engine.Engine(program.parent)

    def proxy(self, status: str, proxy: Proxy = PROXY) -> None:
        """A proxy's container, from now on in this state."""
        labels = {"claude-mcp.proxy-of": proxy.id, "claude-mcp.proxy": proxy.to_json()}
        made = fake_engine.new_container(proxy.name, proxy.image, labels)
        self._engine.save({**made, "status": status}, proxy.name)

    def stranger(self) -> None:
        """A container that is not ours and has the proxy's name."""
        made = fake_engine.new_container(PROXY.name, "image:1", {})
        self._engine.save({**made, "status": "running"})

    def no_proxy(self) -> None:
        found = self._engine.find(PROXY.name)
        assert found is not None
        (self._program.parent / f"{found['id']}.json").unlink()

    def session(self, name: str = "one", proxy: Proxy = PROXY) -> None:
        access = Access(Network.RESTRICTED, proxy)
        fake_engine.add_session(self._program, name, Path("/p"), access)

    @property
    def states(self) -> dict[str, str]:
        return {each["name"]: each["status"] for each in self._engine.containers()}

    @property
    def volumes(self) -> list[str]:
        return [file.stem for file in self._program.parent.glob("*.volume")]

    @property
    def calls(self) -> list[str]:
        return fake_engine.calls(self._program)


@pytest.fixture
def held(program: Path) -> Held:
    return Held(program)


Meanwhile = Callable[..., None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Have somebody else do something between calls of the engine."""

    def arrange(verb: str, *others: Callable[[], None]) -> None:
        """The first of ``others`` right before the first ``verb``, and so on."""
        original: Callable[..., Awaitable[Any]] = getattr(DockerCliEngine, verb)
        left = [*others]

        async def call(self: DockerCliEngine, *args: Any) -> Any:
            if left:
                left.pop(0)()
            return await original(self, *args)

        monkeypatch.setattr(DockerCliEngine, verb, call)

    return arrange


def nothing() -> None:
    pass


# What a proxy's container is.


async def test_a_proxy_container_is_fully_confined(
    engine: DockerCliEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "has_selinux", lambda: False)
    usual = ContainerSpec(
        name="claude-mcp-proxy-0123456789abcdef",
        image="image:1",
        command=payload.proxy_command(PROXY.policy),
        labels={
            "claude-mcp.proxy-of": "0123456789abcdef",
            "claude-mcp.proxy": PROXY.to_json(),
        },
        inherited=("CLAUDE_MCP_AGENT", "CLAUDE_MCP_AGENT_2"),
        volumes=(VolumeMount(PROXY.name, "/run/claude-mcp-proxy", read_only=False),),
        user="0:0",
        traffic=proxy_traffic(PROXY.id),
        limits=Limits(memory=256 * 1024**2, pids=256),
        restart="on-failure",
        read_only_root=True,
        log_max_size="10m",
    )
    assert await egress._spec(engine, PROXY) == usual
    monkeypatch.setattr(host, "has_selinux", lambda: True)
    assert await egress._spec(replace(engine, dialect=PODMAN), PROXY) == replace(
        usual,
        security_options=("label=disable",),
    )


async def test_a_proxy_resolves_the_hosts_name_only_if_its_rules_contain_it(
    engine: DockerCliEngine,
) -> None:
    policy = '{"private": ["host.docker.internal:8080"]}'
    spec = await egress._spec(engine, replace(PROXY, policy=policy))
    assert spec.extra_hosts == ("host.docker.internal:host-gateway",)
    assert (await egress._spec(engine, PROXY)).extra_hosts == ()


# ensure


async def test_a_running_proxy_takes_one_call(engine: DockerCliEngine, held: Held) -> None:
    held.proxy("running")
    await egress.ensure(engine, PROXY)
    assert held.calls == ["container"]


async def test_another_container_with_the_proxys_name_is_not_taken_for_it(
    engine: DockerCliEngine, held: Held
) -> None:
    held.stranger()
    with pytest.raises(EngineError, match="has the name of the session's proxy and is not ours"):
        await egress.ensure(engine, PROXY)
    assert held.states == {PROXY.name: "running"}


async def test_a_missing_proxy_is_created_and_listens(
    engine: DockerCliEngine, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    create = DockerCliEngine.create

    async def spy(self: DockerCliEngine, *args: Any) -> Any:
        given.extend(args)
        return await create(self, *args)

    monkeypatch.setattr(DockerCliEngine, "create", spy)
    await egress.ensure(engine, PROXY)
    assert (held.calls, held.states, held.volumes) == (
        MADE,
        {PROXY.name: "running"},
        [PROXY.name],
    )
    assert given[1] == payload.variables(payload.proxy_archive())


@pytest.mark.parametrize("status", ["exited", "stopped"])
async def test_a_stopped_proxy_is_started(engine: DockerCliEngine, held: Held, status: str) -> None:
    held.proxy(status)
    await egress.ensure(engine, PROXY)
    assert (held.calls, held.states) == (["container", "start"], {PROXY.name: "running"})


async def test_a_proxy_that_another_process_starts_is_awaited(
    engine: DockerCliEngine, held: Held, meanwhile: Meanwhile
) -> None:
    meanwhile("create", lambda: held.proxy("created"))
    meanwhile("inspect", nothing, nothing, lambda: held.proxy("running"))
    await egress.ensure(engine, PROXY)
    assert held.calls == ["container", "create", "container", "container"]


async def test_a_proxy_that_another_process_abandoned_is_started(
    engine: DockerCliEngine, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companions, "STARTING_SECONDS", 0.0)
    held.proxy("created")
    await egress.ensure(engine, PROXY)
    assert (held.calls, held.states) == (["container", "start"], {PROXY.name: "running"})


async def test_a_proxy_that_another_process_removed_is_created(
    engine: DockerCliEngine, held: Held, meanwhile: Meanwhile
) -> None:
    meanwhile("create", lambda: held.proxy("created"))
    meanwhile("inspect", nothing, nothing, held.no_proxy)
    await egress.ensure(engine, PROXY)
    assert held.calls == ["container", "create", "container", *MADE]
    assert held.states == {PROXY.name: "running"}


async def test_an_invisible_name_conflict_does_not_wait_forever(
    engine: DockerCliEngine, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def inspect(self: DockerCliEngine, refs: object) -> list[Any]:
        return []

    monkeypatch.setattr(DockerCliEngine, "inspect", inspect)
    monkeypatch.setattr(companions, "STARTING_SECONDS", 0.01)
    held.proxy("created")
    with pytest.raises(EngineError, match=f"A container named {PROXY.name} already exists"):
        await egress.ensure(engine, PROXY)


async def test_an_unsupported_limit_is_omitted(engine: DockerCliEngine, held: Held) -> None:
    await egress.ensure(engine, replace(PROXY, image="no-memory:latest"))
    assert held.calls == [*MADE, "rm", "volume", "create", "start"]
    assert held.states == {PROXY.name: "running"}


async def test_a_refused_limit_that_was_not_set_is_an_error(
    engine: DockerCliEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def create(self: DockerCliEngine, spec: ContainerSpec, inherited: object) -> NewContainer:
        raise LimitRefused("no", "memory", "no controller")

    monkeypatch.setattr(DockerCliEngine, "create", create)
    monkeypatch.setattr(companions, "LIMITS", Limits())
    with pytest.raises(EngineError) as caught:
        await egress.ensure(engine, PROXY)
    # Else the session would be made without its own limit on memory.
    assert type(caught.value) is EngineError


async def test_a_missing_proxy_image_is_reported_with_advice(engine: DockerCliEngine) -> None:
    with pytest.raises(ImageNotFound) as caught:
        await egress.ensure(engine, replace(PROXY, image="missing:latest"))
    assert (caught.value.message, caught.value.hint) == (
        "Docker has no image missing:latest to run the session's proxy from.",
        "Build it with 'claude-mcp image build', or set CLAUDE_MCP_PROXY_IMAGE to an "
        "image that has python3.",
    )


async def test_a_proxy_that_exits_is_reported_and_removed(
    engine: DockerCliEngine, held: Held
) -> None:
    with pytest.raises(EngineError) as caught:
        await egress.ensure(engine, replace(PROXY, image="broken:latest"))
    assert str(caught.value) == (
        "Docker could not start the session's proxy: ValueError: the policy is broken."
    )
    assert (held.calls, held.states) == ([*MADE, "rm", "volume"], {})


async def test_a_proxy_that_never_gets_ready_times_out(
    engine: DockerCliEngine, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companions, "READY_SECONDS", 0.01)
    with pytest.raises(EngineError) as caught:
        await egress.ensure(engine, replace(PROXY, image="hang:latest"))
    assert str(caught.value) == (
        "The session's proxy was not ready within 0.01 s. The machine may be overloaded; try again."
    )
    assert held.states == {}


async def test_a_proxy_whose_creation_is_cancelled_is_removed(
    engine: DockerCliEngine, held: Held
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(egress.ensure, engine, replace(PROXY, image="hang:latest"))
        with anyio.fail_after(60):
            while "hanging" not in held.calls:
                await anyio.sleep(0.005)
        tasks.cancel_scope.cancel()
    assert (held.calls, held.states) == ([*MADE, "hanging", "rm", "volume"], {})


async def test_a_cancellation_does_not_interrupt_a_create_call(
    engine: DockerCliEngine, held: Held, meanwhile: Meanwhile
) -> None:
    with anyio.CancelScope() as scope:
        meanwhile("create", scope.cancel)
        await egress.ensure(engine, PROXY)
    assert scope.cancelled_caught
    assert held.calls[:2] == ["container", "create"]
    assert (held.calls[-1], held.states) == ("volume", {})


@pytest.mark.parametrize(
    "forged",
    [replace(PROXY, id="../x"), replace(PROXY, id=" --all"), replace(PROXY, image="--privileged")],
)
async def test_a_proxy_with_a_forged_id_is_refused(engine: DockerCliEngine, forged: Proxy) -> None:
    with pytest.raises(UsageError):
        await egress.ensure(engine, forged)


# release


async def test_a_proxy_that_another_session_needs_is_kept_after_one_call(
    engine: DockerCliEngine, held: Held
) -> None:
    held.proxy("running")
    held.session()
    await egress.release(engine, PROXY)
    assert held.calls == ["ps"]


async def test_the_last_session_removes_the_proxy_and_its_volume(
    engine: DockerCliEngine, held: Held
) -> None:
    other = replace(PROXY, id="other")
    for proxy in (PROXY, other):
        held.proxy("running", proxy)
    held.session("two", other)
    await egress.release(engine, PROXY)
    assert (held.calls, held.volumes) == (LAST, [other.name])
    assert sorted(held.states) == [other.name, "claude-mcp-two"]


async def test_releasing_a_missing_proxy_succeeds(engine: DockerCliEngine, held: Held) -> None:
    await egress.release(engine, PROXY)
    assert held.calls == LAST


async def test_a_new_session_keeps_the_volume_of_a_removed_proxy(
    engine: DockerCliEngine, held: Held, meanwhile: Meanwhile
) -> None:
    held.proxy("running")
    meanwhile("remove", held.session)
    await egress.release(engine, PROXY)
    assert (held.calls, held.volumes) == ([*LAST, *MADE], [PROXY.name])
    assert held.states == {PROXY.name: "running", "claude-mcp-one": "running"}


async def test_a_session_created_during_a_release_gets_a_new_proxy(
    engine: DockerCliEngine, held: Held, meanwhile: Meanwhile
) -> None:
    held.proxy("running")
    meanwhile("ids", nothing, held.session)
    await egress.release(engine, PROXY)
    assert (held.calls, held.volumes) == ([*LAST, *MADE], [PROXY.name])
    assert held.states[PROXY.name] == "running"


async def test_a_proxy_recreated_during_a_release_is_left_alone(
    engine: DockerCliEngine, held: Held, meanwhile: Meanwhile
) -> None:
    def come() -> None:
        held.session()
        held.proxy("running")

    held.proxy("running")
    meanwhile("ids", nothing, come)
    await egress.release(engine, PROXY)
    assert held.calls == [*LAST, "container"]


async def test_a_session_without_a_proxy_releases_none(engine: DockerCliEngine, held: Held) -> None:
    await egress.release_or_log(engine, None)
    assert held.calls == []


@pytest.mark.parametrize("proxy", [PROXY, replace(PROXY, id="../x")])
async def test_a_proxy_that_cannot_be_released_is_logged(
    engine: DockerCliEngine,
    held: Held,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    proxy: Proxy,
) -> None:
    held.proxy("running")
    monkeypatch.setattr(fake_engine.Engine, "remove", lambda *args: fake_engine.fail("what"))
    await egress.release_or_log(engine, proxy)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"proxy {proxy.name} could not be removed: ")


# prune


async def test_unused_proxies_are_pruned(engine: DockerCliEngine, held: Held) -> None:
    needed, orphan = replace(PROXY, id="needed"), replace(PROXY, id="orphan")
    for proxy in (needed, orphan):
        held.proxy("exited", proxy)
    held.session("one", needed)
    damaged = fake_engine.new_container(
        "damaged", "image:1", {"claude-mcp.proxy-of": "x", "claude-mcp.proxy": json.dumps([])}
    )
    fake_engine.Engine(Path(engine.program).parent).save(damaged)
    await egress.prune(engine)
    assert sorted(held.states) == ["claude-mcp-one", needed.name, "damaged"]
    assert held.volumes == [needed.name]
