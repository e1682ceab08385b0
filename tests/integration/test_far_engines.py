"""Sessions on an engine that is reached over TLS, over ssh, by a context and through a service."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import anyio.to_thread
import pytest

from claude_mcp.config import Config, load
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.turns import commands
from tests.far_engines import Far, over_ssh, over_tls

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a daemon of its own"),
]


@pytest.fixture(params=["tls", "ssh"])
async def far(
    request: pytest.FixtureRequest, config: Config, tmp_path: Path, project: Path
) -> AsyncIterator[Far]:
    """A Docker on another machine, as far as we can tell, which has other files than we."""
    with ExitStack() as stack:

        def enter() -> Far:
            tls = stack.enter_context(over_tls(config.image, tmp_path, project))
            if request.param == "tls":
                return tls
            assert tls.daemon is not None
            ssh = stack.enter_context(over_ssh(tmp_path, {"DOCKER_HOST": tls.daemon.host}))
            return Far(ssh.host, ssh.settings, ssh.link, tls.daemon)

        made = await anyio.to_thread.run_sync(enter)
        try:
            yield made
        finally:
            await anyio.to_thread.run_sync(stack.close)


@pytest.fixture
async def remote(far: Far, environ: dict[str, str]) -> AsyncIterator[Sessions]:
    async with open_sessions(load({**environ, **far.variables})) as sessions:
        yield sessions


async def test_a_session_works_on_an_engine_that_is_far(
    remote: Sessions, far: Far, project: Path
) -> None:
    (project / "a").write_text("one\n")
    assert (await remote.engine()).dialect.over_network
    created = await create(remote, CreateRequest(str(project), session_name="far"))
    assert "The session has a copy: Docker cannot mount the project." in created.warnings
    done = await commands.run(await remote.open("far"), "cat a")
    assert done.stdout == "one\n"
    assert (await remote.destroy("far")).existed
