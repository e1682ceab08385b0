"""Creating sessions with a network of each kind: what is asked of the engine, and what is left when
it does not work."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from socket import create_server
from typing import Any

import anyio
import pytest

from claude_mcp.config import Config
from claude_mcp.credentials import Secret
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.engine.spec import ContainerSpec, VolumeMount
from claude_mcp.errors import ClaudeMcpError, ImageNotFound, ImageUnfit, UsageError
from claude_mcp.sessions.create.request import Created, CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.network.access import EGRESS_LABEL, ENVIRONMENT, NETWORK_LABEL, PROXY_LABEL
from claude_mcp.sessions.paths import identity
from claude_mcp.sessions.providers.options import ProviderRequest
from claude_mcp.sessions.registry import Sessions, open_sessions
from tests.unit import fake_engine

ONE = ["create", "start"]
WITH_PROXY = ["create", "container", "create", "start", "start"]


class Creating:
    """A fake engine, and what was created there."""

    def __init__(self, directory: Path, project: Path) -> None:
        self.program = fake_engine.install(directory)
        self.project = project
        self.specs: list[ContainerSpec] = []
        self.told: list[str] = []
        self.config = Config(
            environment={"PATH": os.environ["PATH"], "HOME": str(directory)},
            engine=str(self.program),
            api_key=Secret("sk-of-the-server"),
        )

    @asynccontextmanager
    async def sessions(self, **config: Any) -> AsyncIterator[Sessions]:
        async with open_sessions(replace(self.config, **config)) as opened:
            yield opened

    async def create(self, sessions: Sessions, name: str = "one", **wanted: Any) -> Created:
        async def progress(line: str, amount: object = None, /) -> None:
            self.told.append(line)

        request = CreateRequest(str(self.project), session_name=name, **wanted)
        return await create(sessions, request, progress)

    async def created(self, config: Any = None, **wanted: Any) -> Created:
        async with self.sessions(**(config or {})) as sessions:
            return await self.create(sessions, **wanted)

    @property
    def settings(self) -> dict[str, Any]:
        """What the agent of the session that was made first is started with."""
        given: dict[str, Any] = json.loads(self.specs[0].command[-1])
        return given

    @property
    def calls(self) -> list[str]:
        return [call for call in fake_engine.calls(self.program) if call != "version"]

    @property
    def there(self) -> list[str]:
        """All containers and volumes."""
        files = (*self.program.parent.glob("*.json"), *self.program.parent.glob("*.volume"))
        return [file.name for file in files]


@pytest.fixture
def creating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Creating:
    fake_engine.answer_here(monkeypatch)
    project = tmp_path / "project"
    project.mkdir()
    made = Creating(tmp_path / "engine", project)
    original = DockerCliEngine.create

    async def remember(self: DockerCliEngine, spec: ContainerSpec, *args: Any, **named: Any) -> Any:
        made.specs.append(spec)
        return await original(self, spec, *args, **named)

    monkeypatch.setattr(DockerCliEngine, "create", remember)
    return made


async def test_an_open_session_has_no_network_options(creating: Creating) -> None:
    created = await creating.created()
    (spec,) = creating.specs
    assert (spec.network, spec.volumes, spec.environment, spec.restart) == (None, (), {}, None)
    assert not {NETWORK_LABEL, EGRESS_LABEL, PROXY_LABEL} & spec.labels.keys()
    assert not {"network", "sessionName"} & creating.settings.keys()
    assert (created.session.network, created.session.proxy) == ("open", None)
    assert creating.calls == ONE


async def test_a_session_without_a_network_has_no_proxy(creating: Creating) -> None:
    created = await creating.created(network="none")
    (spec,) = creating.specs
    assert (spec.network, spec.volumes, spec.environment) == ("none", (), {})
    settings = creating.settings
    assert (settings["network"], settings["sessionName"]) == ("none", "one")
    assert (created.session.network, created.session.proxy) == ("none", None)
    assert (creating.calls, created.warnings) == (ONE, ())


async def test_a_restricted_session_starts_after_its_proxy(creating: Creating) -> None:
    async with creating.sessions(proxy_image="small:1") as sessions:
        created = await creating.create(sessions, network="restricted", allowed_hosts=("pypi.org",))
        found = await sessions.find("one")
    # Its limits are known from the engine only.
    found = replace(found, memory_bytes=None, cpus=None, pids=None)
    assert replace(found, created_at=created.session.created_at) == created.session
    spec, proxys = creating.specs
    proxy = created.session.proxy
    assert proxy is not None
    assert created.session.network == "restricted"
    assert json.loads(proxy.policy)["allowed"] == ["pypi.org"]
    assert (spec.network, spec.environment, spec.extra_hosts) == ("none", ENVIRONMENT, ())
    assert spec.volumes == (VolumeMount(proxy.name, "/run/claude-mcp-proxy"),)
    assert spec.labels[EGRESS_LABEL] == proxy.id
    assert (proxys.name, proxys.image, proxys.network) == (proxy.name, "small:1", None)
    settings = creating.settings
    assert (settings["network"], settings["sessionName"]) == ("restricted", "one")
    assert creating.calls == [*WITH_PROXY, "container"]
    assert creating.told[1:] == ["starting its proxy", "starting the session"]


async def test_sessions_with_the_same_rules_share_a_proxy(
    creating: Creating,
) -> None:
    async with creating.sessions() as sessions:
        one = await creating.create(sessions, network="restricted")
        before = len(creating.calls)
        two = await creating.create(sessions, "two", network="restricted")
        assert one.session.proxy == two.session.proxy
        assert creating.calls[before:] == ["create", "container", "start"]
        # Each goes alone, and the last one takes it along.
        before = len(creating.calls)
        await sessions.destroy("one")
        assert creating.calls[before:] == ["rm", "ps"]
        await sessions.destroy("two")
    assert creating.calls[before + 2 :] == ["rm", "ps", "rm", "volume", "ps"]
    assert creating.there == []


async def test_only_the_proxy_can_reach_a_server_on_this_host(
    creating: Creating,
) -> None:
    with create_server(("0.0.0.0", 0)) as server:
        url = f"http://localhost:{server.getsockname()[1]}"
        await creating.created({"base_url": url}, network="restricted")
        await creating.created({"base_url": url}, network="open", name="two")
    hosts = ("host.docker.internal:host-gateway",)
    assert [spec.extra_hosts for spec in creating.specs] == [(), hosts, hosts]


async def test_the_configured_network_is_the_default(
    creating: Creating,
) -> None:
    created = await creating.created({"network": "restricted", "allowed_hosts": ("a.example",)})
    assert created.session.proxy is not None
    assert json.loads(created.session.proxy.policy)["allowed"] == ["a.example"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"network": "bridge"},
        {"network": "restricted", "allowed_hosts": ("https://pypi.org",)},
        {"network": "none", "allowed_hosts": ("pypi.org",)},
        {"allowed_hosts": ("pypi.org",)},
        {
            "network": "restricted",
            "provider": ProviderRequest("bedrock", {"region": "eu-1"}),
        },
    ],
)
async def test_an_impossible_network_is_refused_before_anything_is_created(
    creating: Creating, wanted: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        await creating.created(**wanted)
    assert creating.calls == []


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (("missing:latest", "small:1"), ImageNotFound, "no image missing:latest."),
        (("image:1", "missing:latest"), ImageNotFound, "missing:latest to run the session's proxy"),
        (("image:1", "broken:latest"), ClaudeMcpError, "the policy is broken"),
        (("unfit:latest", "small:1"), ImageUnfit, "it lacks claude"),
    ],
)
async def test_a_failed_creation_leaves_nothing_behind(
    creating: Creating, images: tuple[str, str], error: type[ClaudeMcpError], message: str
) -> None:
    with pytest.raises(error, match=message):
        await creating.created({"proxy_image": images[1]}, image=images[0], network="restricted")
    assert creating.there == []


async def test_a_creation_cancelled_while_its_proxy_starts_leaves_nothing(
    creating: Creating,
) -> None:
    async with creating.sessions(proxy_image="hang:latest") as sessions:

        async def make() -> None:
            await creating.create(sessions, network="restricted")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(make)
            with anyio.fail_after(60):
                while "hanging" not in creating.calls:
                    await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()
    assert creating.there == []


@pytest.fixture
def mounts_change(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the second look on, a path to be mounted is another."""

    def arrange() -> None:
        looks = iter([[(1, 1)], [(1, 2)]])
        monkeypatch.setattr(identity, "identities", lambda paths: next(looks))

    return arrange


async def test_rolling_back_a_running_session_removes_its_proxy(
    creating: Creating, mounts_change: Callable[[], None]
) -> None:
    mounts_change()
    with pytest.raises(UsageError, match="was replaced while"):
        await creating.created(network="restricted")
    assert creating.there == []


async def test_rolling_back_a_session_keeps_a_shared_proxy(
    creating: Creating, mounts_change: Callable[[], None]
) -> None:
    async with creating.sessions() as sessions:
        one = await creating.create(sessions, network="restricted")
        mounts_change()
        with pytest.raises(UsageError, match="was replaced while"):
            await creating.create(sessions, "two", network="restricted")
    assert one.session.proxy is not None
    engine = fake_engine.Engine(creating.program.parent)
    assert sorted(each["name"] for each in engine.containers()) == [
        "claude-mcp-one",
        one.session.proxy.name,
    ]


async def test_a_retry_without_a_limit_creates_the_proxy_again(
    creating: Creating,
) -> None:
    created = await creating.created(
        {"proxy_image": "small:1"},
        network="restricted",
        image="no-cpu:latest",
        limits={"cpus": "1"},
    )
    assert created.warnings[0].startswith("Docker cannot limit this session's CPU here: ")
    assert creating.calls == [*WITH_PROXY, "rm", "ps", "rm", "volume", "ps", *WITH_PROXY]
