"""An engine that does not see the files of this host, as on another machine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio.to_thread
import pytest

from claude_mcp.config import Config
from claude_mcp.engine.engine import SourceMissing
from claude_mcp.errors import ClaudeMcpError
from claude_mcp.sessions.create.readiness import Elsewhere
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.workspaces.applying import apply_changes
from tests.integration.test_workspaces import COMMIT, git, run
from tests.own_daemon import OwnDaemon

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.docker,
    pytest.mark.usefixtures("committer"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a daemon of its own"),
]


@pytest.fixture
async def remote(config: Config, tmp_path: Path) -> AsyncIterator[Sessions]:
    """Sessions of an engine that has other files in ``tmp_path``."""
    daemon = await anyio.to_thread.run_sync(OwnDaemon, config.image)
    try:
        await anyio.to_thread.run_sync(daemon.hide, tmp_path)
        await anyio.to_thread.run_sync(daemon.start)
        environment = {**config.environment, "DOCKER_HOST": daemon.host}
        async with open_sessions(replace(config, environment=environment)) as sessions:
            yield sessions
    finally:
        await anyio.to_thread.run_sync(daemon.end)


async def test_a_project_that_the_engine_does_not_see_is_copied_or_cloned(
    remote: Sessions, tmp_path: Path
) -> None:
    expected: dict[str, type[ClaudeMcpError]] = {"missing": SourceMissing, "other": Elsewhere}
    for place, error in expected.items():
        project = tmp_path / place
        project.mkdir()
        (project / "a").write_text("one\n")
        with pytest.raises(error):
            await create(remote, CreateRequest(str(project), session_name=place, workspace="bind"))
        made = await create(remote, CreateRequest(str(project), session_name=place))
        assert made.session.workspace == "copy"
        assert "The session has a copy: Docker cannot mount the project." in made.warnings
        assert await run(remote, place, "ls") == "a"
        await run(remote, place, "echo two >a")
        await apply_changes(await remote.open(place), "files", paths=["."])
        assert (project / "a").read_text() == "two\n"
        assert (await remote.destroy(place)).existed
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    made = await create(remote, CreateRequest(str(project), session_name="clone"))
    assert made.session.workspace == "clone"
    await run(remote, "clone", f"echo three >a && {COMMIT}")
    assert (await apply_changes(await remote.open("clone"))).outcome == "created"
