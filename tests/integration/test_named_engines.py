"""Engines that are named: real clients, no other engine in their place, and Podman's service."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from claude_mcp.config import load
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.errors import EngineError, EngineUnavailable
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.registry import open_sessions
from claude_mcp.sessions.turns import commands
from tests.engine_fixtures import Bare
from tests.far_engines import connects, over_ssh

pytestmark = pytest.mark.per_engine

NAMING = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CONFIG",
    "CONTAINER_HOST",
    "CONTAINER_CONNECTION",
)
SOCKET_SECONDS = 30.0


@pytest.fixture
def environment() -> dict[str, str]:
    """Our own environment, in which nothing names an engine."""
    return {name: value for name, value in os.environ.items() if name not in NAMING}


async def failure(environment: dict[str, str]) -> EngineError:
    """Why no engine is used; the program is not configured."""
    async with open_sessions(load({**environment, "CLAUDE_MCP_ENGINE": ""})) as sessions:
        with pytest.raises(EngineError) as caught:
            await sessions.engine()
    return caught.value


@pytest.mark.docker
@pytest.mark.parametrize(
    "named",
    [
        {"DOCKER_CONTEXT": "nosuch"},
        {"DOCKER_HOST": "bad://x"},
        {"DOCKER_HOST": "unix:///nosuch/docker.sock"},
        {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nosuch"},
    ],
)
async def test_no_engine_replaces_a_docker_that_a_variable_names(
    engine: DockerCliEngine, environment: dict[str, str], named: dict[str, str]
) -> None:
    error = await failure({**environment, **named})
    assert type(error) is EngineUnavailable
    assert f"{' and '.join(named)} name" in (error.hint or "")


@pytest.mark.docker
async def test_no_engine_replaces_the_current_context_of_dockers_configuration(
    engine: DockerCliEngine, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"currentContext": "dead"}')
    error = await failure({**environment, "DOCKER_CONFIG": str(tmp_path)})
    assert type(error) is EngineUnavailable
    assert f"'currentContext' in {tmp_path}/config.json names this engine" in (error.hint or "")


@pytest.mark.podman
@pytest.mark.parametrize(
    "named", [{"CONTAINER_HOST": "unix:///nosuch/podman.sock"}, {"CONTAINER_CONNECTION": "nosuch"}]
)
async def test_no_engine_replaces_a_podman_that_a_variable_names(
    engine: DockerCliEngine, environment: dict[str, str], named: dict[str, str]
) -> None:
    error = await failure({**environment, **named})
    assert type(error) is EngineUnavailable
    assert f"{next(iter(named))} names this engine" in (error.hint or "")
    assert "systemctl start docker" not in (error.hint or "")


@asynccontextmanager
async def podman_service(socket: Path) -> AsyncIterator[None]:
    """Podman's API on a socket."""
    process = await asyncio.create_subprocess_exec(
        "podman", "system", "service", "--time=0", f"unix://{socket}"
    )
    try:
        with anyio.fail_after(SOCKET_SECONDS):
            while not connects(str(socket)):
                await anyio.sleep(0.02)
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.docker
async def test_a_docker_client_on_podmans_socket_is_refused_with_the_remedy(
    engine: DockerCliEngine, environment: dict[str, str], tmp_path: Path, as_root: bool
) -> None:
    if not as_root:
        pytest.skip("starts root's Podman")
    socket = tmp_path / "podman.sock"
    async with podman_service(socket):
        error = await failure({**environment, "DOCKER_HOST": f"unix://{socket}"})
    assert "is a Docker client that is connected to Podman" in error.message
    assert "CLAUDE_MCP_ENGINE=podman" in (error.hint or "")


@pytest.mark.podman
async def test_a_session_of_podmans_service_works_and_warns_of_a_disk_limit_that_it_ignores(
    engine: DockerCliEngine,
    environment: dict[str, str],
    tmp_path: Path,
    project: Path,
    name: str,
    bare: Bare,
) -> None:
    socket = tmp_path / "podman.sock"
    async with podman_service(socket):
        config = load({**environment, "CONTAINER_HOST": f"unix://{socket}"}, engine="podman")
        async with open_sessions(config) as sessions:
            try:
                request = CreateRequest(str(project), session_name=name, limits={"disk": "64m"})
                created = await create(sessions, request)
                done = await commands.run(await sessions.open(name), "touch made && echo done")
                connected = await sessions.engine()
            finally:
                bare.remove_all(name)
    assert (done.stdout, (project / "made").stat().st_uid) == ("done\n", os.geteuid())
    assert connected.dialect.rootless is engine.dialect.rootless
    assert [each for each in created.warnings if "disk" in each] == [
        "Podman cannot limit this session's disk here: a remote Podman ignores this limit."
    ]


@pytest.mark.podman
@pytest.mark.stress
async def test_a_full_disk_behind_podmans_service_is_named(
    engine: DockerCliEngine, tmp_path: Path, project: Path, name: str, bare: Bare
) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(80_000_000)
    socket = tmp_path / "podman.sock"
    async with podman_service(socket):
        config = load({**os.environ, "CONTAINER_HOST": f"unix://{socket}"}, engine="podman")
        async with open_sessions(config) as sessions:
            await create(sessions, CreateRequest(str(project), session_name=name))
            handle = await sessions.open(name)
            sent = (Direction.TO_CONTAINER, str(tmp_path / "big"), "/dev/shm/")
            with pytest.raises(EngineError, match=r"disk there is full\. Free some space"):
                await transfer(handle, *sent)
            left = (await commands.run(handle, "ls /dev/shm")).stdout
    assert "big" not in left


@pytest.mark.podman
@pytest.mark.stress
async def test_a_session_of_podmans_service_works_over_ssh(
    engine: DockerCliEngine, tmp_path: Path, project: Path, name: str, bare: Bare, as_root: bool
) -> None:
    if not as_root:
        pytest.skip("starts an ssh server that lets root in")
    (project / "a").write_text("one\n")
    socket = tmp_path / "podman.sock"
    async with podman_service(socket):
        with over_ssh(tmp_path, {}, program="podman", path=str(socket)) as far:
            async with open_sessions(load({**os.environ, **far.variables})) as sessions:
                request = CreateRequest(str(project), session_name=name, workspace="copy")
                await create(sessions, request)
                dialect = (await sessions.engine()).dialect
                done = await commands.run(await sessions.open(name), "cat a")
                assert (await sessions.destroy(name, discard=True)).existed
    assert (dialect.over_network, done.stdout) == (True, "one\n")


@pytest.mark.podman
async def test_a_docker_command_that_is_podman_is_used_as_podman(
    engine: DockerCliEngine, environment: dict[str, str], tmp_path: Path
) -> None:
    program = tmp_path / "docker"
    program.write_text(
        "#!/bin/sh\necho 'Emulate Docker CLI using podman.' >&2\n"
        f"exec '{shutil.which(engine.program)}' \"$@\"\n"
    )
    program.chmod(0o755)
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    async with open_sessions(load({**environment, "CLAUDE_MCP_ENGINE": ""})) as sessions:
        found = await sessions.engine()
        assert (found.program, found.dialect) == ("docker", engine.dialect)
        await sessions.list()
