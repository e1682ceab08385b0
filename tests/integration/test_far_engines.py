"""Sessions on an engine that is reached over TLS or ssh, and a link that is cut or stalls."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from claude_mcp.config import Config, load
from claude_mcp.errors import EngineError, EngineUnavailable
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.network import tunnels
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from tests.far_engines import Far, connects, in_context, over_ssh, over_tls
from tests.peers import script

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a daemon of its own"),
]

STRESS = bool(os.environ.get("CLAUDE_MCP_STRESS"))
OUTAGE_SECONDS = 30.0 if STRESS else 2.0
OUTAGES = (False, True) if STRESS else (False,)
"""Whether the link stalls, which is noticed only after several seconds, or is cut."""


@pytest.fixture(
    params=[
        "tls",
        pytest.param("ssh", marks=pytest.mark.stress),
        pytest.param("context", marks=pytest.mark.stress),
    ]
)
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
            if request.param == "context":
                return in_context(tls, tmp_path)
            ssh = stack.enter_context(over_ssh(tmp_path, {"DOCKER_HOST": tls.daemon.host}))
            return Far(ssh.host, ssh.settings, ssh.link, tls.daemon)

        made = await anyio.to_thread.run_sync(enter)
        try:
            yield made
        finally:
            await anyio.to_thread.run_sync(stack.close)


@pytest.fixture
async def remote(far: Far, environ: dict[str, str]) -> AsyncIterator[Sessions]:
    assert far.daemon is not None
    standin = {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{far.daemon.standin()}"}
    async with open_sessions(load({**environ, **standin, **far.variables})) as sessions:
        yield sessions


async def test_a_session_of_a_far_engine_survives_a_link_that_is_cut_and_stalls(
    remote: Sessions, far: Far, project: Path, tmp_path: Path
) -> None:
    (project / "a").write_text("one\n")
    (project / "b").write_bytes(os.urandom(3_000_000))
    assert (await remote.engine()).dialect.over_network
    created = await create(remote, CreateRequest(str(project), session_name="far"))
    assert "The session has a copy: Docker cannot mount the project." in created.warnings
    handle = await remote.open("far")
    for stalled in OUTAGES:

        async def away(stalls: bool = stalled) -> None:
            await commands.run(handle, "until [ -e begun ]; do sleep 0.1; done; rm begun")
            far.link.stall() if stalls else far.link.cut()
            await anyio.sleep(OUTAGE_SECONDS)
            far.link.mend()
            # Only now may the turn end, so the outage was in the middle of it.
            await commands.run(await remote.open("far"), "touch go")

        waits = "touch begun; until [ -e go ]; do sleep 0.1; done; rm go; echo kept"
        prompt = script({"tool": "Bash", "input": {"command": waits}}, {"report": True})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(away)
            turn = await turns.prompt(handle, prompt, wait_seconds=100)
        assert (turn.status, (turn.result or "").strip()) == ("completed", "kept")

    # A transfer that is cut arrives whole or not at all.
    far.link.cut_after(1_000_000)
    with pytest.raises(EngineError):
        await transfer(handle, Direction.TO_CONTAINER, str(project / "b"), "/workspace/c")
    assert far.link.tripped.is_set()
    far.link.mend()
    handle = await remote.open("far")
    assert (await commands.run(handle, "ls")).stdout == "a\nb\n"
    clean = 'until [ "$(ls -A | wc -l)" = 2 ]; do sleep 0.1; done'
    assert (await commands.run(handle, clean, timeout_seconds=60)).exit_code == 0
    assert (await remote.destroy("far", discard=True)).existed


async def test_a_restricted_session_of_a_far_engine_has_its_port_on_our_loopback(
    remote: Sessions, far: Far, project: Path
) -> None:
    (project / "page").write_text("from afar\n" * 100_000)
    request = CreateRequest(
        str(project), session_name="ports", ports=("3000",), network="restricted"
    )
    created = await create(remote, request)
    assert tunnels.FAR in created.warnings
    handle = await remote.open("ports")
    # The provider is a program on the far machine, and the only thing that can be reached.
    turn = await turns.prompt(handle, script({"say": "through the proxy"}))
    assert (turn.status, turn.result) == ("completed", "through the proxy")
    refused = await commands.run(handle, "curl -s http://elsewhere.example.org/")
    assert "claude-mcp refused" in refused.stdout
    inside = "import socket; print([name for _, name in socket.if_nameindex()])"
    assert (await commands.run(handle, f'python3 -c "{inside}"')).stdout == "['lo']\n"
    serving = "python3 -m http.server 3000 --bind 127.0.0.1"
    await commands.run(handle, serving, background=True)
    connect = "import socket; socket.create_connection(('127.0.0.1', 3000))"
    ready = f'until python3 -c "{connect}" 2>/dev/null; do sleep 0.1; done'
    await commands.run(handle, ready, timeout_seconds=60)
    assert created.session.forwarding is not None
    published = created.session.forwarding.ports[0]
    url, host_port = f"{published.url}/page", published.host_port or 0
    assert await anyio.to_thread.run_sync(read, url) == (project / "page").read_bytes()
    assert (await remote.destroy("ports", discard=True)).existed
    with anyio.fail_after(60):
        while await anyio.to_thread.run_sync(connects, ("127.0.0.1", host_port)):
            await anyio.sleep(0.05)


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


async def test_what_a_cut_creation_leaves_is_removed_later(
    remote: Sessions, far: Far, project: Path
) -> None:
    (project / "b").write_bytes(os.urandom(3_000_000))
    await remote.engine()
    far.link.cut_after(1_000_000)
    with pytest.raises(EngineUnavailable):
        await create(remote, CreateRequest(str(project), session_name="cut", workspace="copy"))
    assert far.link.tripped.is_set()
    far.link.mend()
    assert far.daemon is not None
    with anyio.fail_after(60):
        while far.daemon.bare("ps", "--all", "--quiet").stdout.split():
            await remote.prune()
            await anyio.sleep(0.2)
