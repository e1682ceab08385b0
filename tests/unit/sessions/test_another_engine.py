"""An engine of another kind, which has no labels at its list, no bind mounts and no archives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from claude_mcp.config import Config
from claude_mcp.credentials import Secret
from claude_mcp.engine import detection
from claude_mcp.engine.dialects.dialect import ContainerUser, Dialect
from claude_mcp.engine.engine import (
    CREATE_SECONDS,
    Container,
    ContainerNotFound,
    Engine,
    Image,
    Log,
    NewContainer,
    OwnMount,
)
from claude_mcp.engine.info import EngineInfo
from claude_mcp.engine.process import EXIT_GRACE_SECONDS, Stream
from claude_mcp.engine.spec import ContainerSpec, Traffic
from claude_mcp.engine.stats import Stats
from claude_mcp.errors import EngineError, SessionNotFound, TransferError, UsageError
from claude_mcp.sessions import labels
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import container_name

PODS_DIALECT = Dialect(
    name="pods",
    title="Pods",
    minimum_version=(1, 20),
    rootless=False,
    in_virtual_machine=False,
    over_network=False,
    container_user=ContainerUser.SAME,
    host_alias="host.pods.internal",
    extra_hosts=(),
    alias_reaches_host=True,
    own_addresses_reach_host=True,
    bind_mounts=False,
    mount_alone=None,
    archive_copies=False,
    environment_carries_code=True,
    keeps_files=True,
    exit_file=None,
    companions=True,
    network_policies=False,
    reads_containers_conf=False,
    limits_need_delegation=False,
    create_options=(),
    unset_variable_option="--env",
    tmpfs_owner_options="",
    default_network=None,
    network_options=(),
    read_only_options=(),
    log_driver="",
    copy_out_options=(),
    daemon=True,
    locks_storage=False,
    daemon_unpacks=False,
    tells_of_disappeared=True,
    spools_archives=False,
)


class Pods:
    """Keeps its containers in memory and notes what it was asked for.

    Its list of names has no labels: it reads every container to find those with a label.
    """

    program = "podctl"
    version = "1.33"
    dialect = PODS_DIALECT
    title = PODS_DIALECT.title

    def __init__(self, *containers: Container) -> None:
        self._containers = {each.name: each for each in containers}
        self.calls: list[str] = []

    async def check(self) -> None:
        self.calls.append("check")

    @asynccontextmanager
    async def watching(self, quiet_seconds: float | None = None) -> AsyncIterator[None]:
        yield

    async def create(
        self,
        spec: ContainerSpec,
        inherited: Mapping[str, str] | None = None,
        *,
        seconds: float = CREATE_SECONDS,
    ) -> NewContainer:
        self.calls.append("create")
        raise self.failed(f"create pod {spec.name}", "not in this test")

    @asynccontextmanager
    async def start_attached(self, ref: str) -> AsyncIterator[Stream]:
        self.calls.append("start_attached")
        raise self.failed(f"start pod {ref}", "pods start by themselves")
        yield

    async def start(self, ref: str) -> None:
        self.calls.append("start")

    async def kill(self, ref: str) -> None:
        self.calls.append("kill")

    async def remove(self, ref: str) -> bool:
        self.calls.append("remove")
        found = await self.inspect([ref])
        for each in found:
            del self._containers[each.name]
        return bool(found)

    async def remove_volume(self, name: str) -> None:
        self.calls.append("remove_volume")

    async def inspect(self, refs: Sequence[str]) -> list[Container]:
        return [
            each
            for each in self._containers.values()
            if any(each.name == ref or each.id.startswith(ref) for ref in refs)
        ]

    async def own_mounts(self, id: str) -> list[OwnMount] | None:
        return None

    async def ids(self, label: str, value: str | None = None) -> list[str]:
        return [
            each.id
            for each in self._containers.values()
            if label in each.labels and value in (None, each.labels[label])
        ]

    async def containers(self, label: str) -> list[Container]:
        return await self.inspect(await self.ids(label))

    @asynccontextmanager
    async def exec(
        self, ref: str, command: Sequence[str], *, exit_grace: float = EXIT_GRACE_SECONDS
    ) -> AsyncIterator[Stream]:
        self.calls.append("exec")
        raise ContainerNotFound(f"Pods has no pod {ref}.")
        yield

    async def exec_on_terminal(
        self, ref: str, command: Sequence[str], variables: Mapping[str, str]
    ) -> int:
        return 0

    async def stats(self, refs: Sequence[str]) -> list[Stats]:
        return [Stats(ref, *8 * [None]) for ref in refs]

    async def logs(self, ref: str, tail: int, capture_bytes: int) -> Log:
        return Log("2026-01-02T03:04:05Z both streams are one here\n", "")

    def follow_logs(self, ref: str, tail: int) -> AbstractAsyncContextManager[Stream]:
        raise NotImplementedError

    async def copy_in(self, ref: str, directory: str, write: Callable[[BinaryIO], None]) -> None:
        self.calls.append("copy_in")

    async def copy_out(self, ref: str, path: str, read: Callable[[BinaryIO], None]) -> None:
        self.calls.append("copy_out")

    async def ensure_traffic(self, ref: str, traffic: Traffic) -> bool:
        return True

    async def remove_leftovers(self) -> None:
        self.calls.append("remove_leftovers")

    async def sweep(self) -> None:
        self.calls.append("sweep")

    async def images(self, label: str) -> list[Image]:
        return []

    async def pull(self, image: str) -> int:
        return 0

    async def run_in_image(self, image: str, script: str) -> str:
        return ""

    async def image_exists(self, image: str) -> bool:
        return True

    async def info(self) -> EngineInfo:
        self.calls.append("info")
        return EngineInfo(rootless=False, kernel="6.1.0", ignored_limits={})

    def failed(self, tried: str, stderr: str) -> EngineError:
        return EngineError(f"Pods could not {tried}: {stderr}.")


def pod(id: str, name: str) -> Container:
    made = labels.session_labels(
        name=name,
        project_path="/p",
        provider="anthropic",
        credentials=CredentialSource.SERVER,
    )
    created = "2026-11-23T06:26:12Z"
    return Container(f"{id:0<64}", container_name(name), created, "running", 0, "", "i", made)


@pytest.fixture
def pods() -> Pods:
    stranger = Container(f"{'ef':0<64}", "stranger", "", "running", 0, "", "i", {})
    return Pods(pod("abcd1", "fix"), stranger, pod("abcd2", "other"))


@pytest.fixture
async def sessions(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sessions]:
    async def connect(
        program: str | None, environment: Mapping[str, str], login: Mapping[str, str]
    ) -> Engine:
        return pods

    monkeypatch.setattr(detection, "connect", connect)
    async with open_sessions(Config(environment={}, api_key=Secret("sk-of-the-server"))) as opened:
        yield opened


async def test_sessions_are_listed_through_any_engine(sessions: Sessions) -> None:
    assert [(each.engine, each.session.name) for each in await sessions.list()] == [
        ("pods", "fix"),
        ("pods", "other"),
    ]


async def test_a_session_is_found_and_destroyed_through_any_engine(
    sessions: Sessions, pods: Pods
) -> None:
    assert (await sessions.find("abcd1")).name == "fix"
    destroyed = await sessions.destroy("fix")
    assert (destroyed.existed, pods.calls) == (True, ["remove"])
    with pytest.raises(SessionNotFound):
        await sessions.find("fix")


async def test_an_engine_without_bind_mounts_is_asked_for_none(
    sessions: Sessions, pods: Pods, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    with pytest.raises(UsageError) as caught:
        await create(sessions, CreateRequest(str(project)))
    assert str(caught.value) == "Pods cannot mount a project directory of this host."
    with pytest.raises(UsageError) as caught:
        await create(sessions, CreateRequest(str(project), workspace="copy"))
    assert str(caught.value) == "Pods cannot copy a project of this host into a session."
    assert pods.calls == []


@pytest.mark.parametrize("direction", list(Direction))
async def test_an_engine_without_archives_is_asked_for_no_copy(
    sessions: Sessions, pods: Pods, tmp_path: Path, direction: Direction
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "file").touch()
    here, there = str(project / "file"), "/workspace/copy"
    paths = (here, there) if direction is Direction.TO_CONTAINER else (there, f"{here}2")
    with pytest.raises(TransferError) as caught:
        await transfer(await sessions.open("fix"), direction, *paths)
    assert str(caught.value) == (
        "Pods cannot copy files into or out of a session. "
        "Move them with commands inside the session."
    )
    assert pods.calls == []
