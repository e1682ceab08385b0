"""A server in a container of its engine creates sessions on directories of the host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mcp import Client

from claude_mcp.config import Config
from claude_mcp.engine import host
from claude_mcp.server.app import build
from tests.unit import fake_engine
from tests.unit.server.answers import content, text

pytestmark = pytest.mark.anyio

ID = "d9" * 32


@pytest.fixture(autouse=True)
def in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "own_container", lambda: ID)


def mounted(program: Path, target: Path, **more: object) -> None:
    mount = {"Type": "bind", "Source": "/host", "Destination": str(target), "RW": True, **more}
    (program.parent / "mounts").write_text(json.dumps([mount]))


def bound(program: Path) -> str:
    return (program.parent / "binds").read_text()


@pytest.mark.parametrize("by_host", [True, False])
async def test_the_engine_mounts_the_host_s_directory(
    config: Config, program: Path, project: Path, by_host: bool
) -> None:
    (project / "data").mkdir()
    mounted(program, project.parent)
    named = f"/host/{project.name}" if by_host else str(project)
    async with Client(build(config)) as client:
        mounts = [{"hostPath": f"{named}/data", "containerPath": "/data"}]
        arguments = {"projectPath": named, "mcpMounts": mounts}
        created = content(await client.call_tool("create_session", arguments))
        assert created["projectPath"] == str(project)
        assert f"source=/host/{project.name},target=/workspace" in bound(program)
        assert f"source=/host/{project.name}/data,target=/data,readonly" in bound(program)
        again = {"projectPath": named, "sessionName": "again"}
        assert not (await client.call_tool("create_session", again)).is_error
    calls = fake_engine.calls(program)
    assert calls.count("create") == 2


async def test_what_is_not_mounted_is_refused_before_anything_is_made(
    config: Config, program: Path, project: Path
) -> None:
    mounted(program, project.parent / "elsewhere")
    async with Client(build(config)) as client:
        answer = await client.call_tool("create_session", {"projectPath": str(project)})
        assert answer.is_error
        assert f"--volume={project}:{project}" in text(answer)
    assert "create" not in fake_engine.calls(program)


async def test_what_the_server_may_only_read_is_not_mounted_to_write(
    config: Config, program: Path, project: Path
) -> None:
    mounted(program, project, RW=False)
    async with Client(build(config)) as client:
        answer = await client.call_tool("create_session", {"projectPath": str(project)})
        assert "the server may only read it itself" in text(answer)
    assert "create" not in fake_engine.calls(program)


async def test_in_a_container_of_another_engine_paths_stay_as_they_are(
    config: Config, program: Path, project: Path
) -> None:
    async with Client(build(config)) as client:
        created = content(await client.call_tool("create_session", {"projectPath": str(project)}))
        assert created["projectPath"] == str(project)
    assert f"source={project},target=/workspace" in bound(program)
