"""MCP servers for the Claude inside: they work, those that fail say why, secrets stay so."""

from __future__ import annotations

import secrets as random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from messages_standin import Standin

from claude_mcp.config import Config
from claude_mcp.contract.wording import named
from claude_mcp.errors import UsageError
from claude_mcp.sessions.create.request import CreateRequest, Mount
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.handover import give
from claude_mcp.sessions.mcp.servers import McpServer
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from claude_mcp.sessions.turns.options import TurnOptions
from claude_mcp.sessions.turns.results import TurnStatus

pytestmark = pytest.mark.per_engine

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

SERVER = """\
import json, os, sys

def answer(method, params):
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "tiny", "version": "1"},
        }
    if method == "tools/list":
        text = {"type": "object", "properties": {"text": {"type": "string"}}}
        return {"tools": [{"name": "reverse", "description": "Reverses.", "inputSchema": text}]}
    if method == "tools/call":
        said = params["arguments"]["text"][::-1] + "/" + str(len(os.environ.get("TOKEN", "")))
        return {"content": [{"type": "text", "text": said}]}
    return {}

for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        result = answer(message["method"], message.get("params"))
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
PATIENCE_SECONDS = 60
CALL = 'standin: [{"tool": "mcp__tiny__reverse", "input": {"text": "stressed"}}, {"report": true}]'


@pytest.fixture
def server(tmp_path: Path) -> Mount:
    """A tiny MCP server over stdio, for the session at /opt/mcp/server.py."""
    directory = tmp_path / "server"
    directory.mkdir()
    (directory / "server.py").write_text(SERVER)
    return Mount(str(directory), "/opt/mcp")


@pytest.fixture
def other_image(bare: Bare, config: Config, tmp_path: Path) -> Iterator[str]:
    """An image that is only fit: another user, home and layout, an entry point of its own."""
    tag = f"claude-mcp-test-{random.token_hex(4)}:latest"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {config.image}\n"
        "RUN mkdir -p /opt/programs && mv /usr/local/bin/claude /opt/programs/claude"
        " && rm -rf /home/session && useradd --create-home somebody\n"
        "ENV PATH=/opt/programs:/usr/bin:/bin HOME=/home/somebody\n"
        "USER somebody\nWORKDIR /srv\n"
        'ENTRYPOINT ["/bin/false"]\nCMD []\n'
    )
    bare("build", "--tag", tag, str(tmp_path))
    yield tag
    bare("rmi", "-f", tag)


def tiny(**env: str) -> dict[str, Any]:
    return {"command": "python3", "args": ["/opt/mcp/server.py"], "env": env}


@pytest.mark.near("mounts a directory")
@pytest.mark.parametrize(
    "ours",
    [pytest.param(True, marks=pytest.mark.once, id="our image"), False],
    ids=[None, "another image"],
)
async def test_servers_are_there_from_the_first_prompt_and_a_failed_one_says_why(
    sessions: Sessions,
    project: Path,
    name: str,
    server: Mount,
    ours: bool,
    request: pytest.FixtureRequest,
) -> None:
    image = None if ours else request.getfixturevalue("other_image")
    (project / "unexecutable").touch()
    reason = ["-c", "echo first >&2; echo the reason >&2; exit 3"]
    servers = {
        "tiny": tiny(TOKEN="twelve-chars"),
        "no program": {"command": "no-such-program"},
        "no_file": {"command": "/opt/mcp/no-such-file"},
        "un.executable": {"command": "./unexecutable"},
        "dies": {"type": "stdio", "command": "sh", "args": reason},
        "nobody": {"type": "http", "url": "http://127.0.0.1:9/mcp"},
    }
    created = await create(
        sessions,
        CreateRequest(
            str(project),
            session_name=name,
            image=image,
            mounts=(server,),
            mcp_config={"mcpServers": servers},
        ),
    )
    try:
        turn = await turns.prompt(await sessions.open(name), CALL)
    finally:
        await sessions.destroy(name)
    *local, nobody = created.mcp_servers
    assert local == [
        McpServer("tiny", "connected"),
        McpServer(
            "no program", "failed", "there is no program 'no-such-program' on the session's PATH"
        ),
        McpServer("no_file", "failed", "there is no '/opt/mcp/no-such-file' in the session"),
        McpServer(
            "un.executable", "failed", "'./unexecutable' cannot be executed by the session's user"
        ),
        McpServer("dies", "failed", "Connection closed: first the reason"),
    ]
    assert (nobody.status, "ECONNREFUSED" in str(nobody.error)) == ("failed", True)
    assert "MCP server dies failed: Connection closed: first the reason." in created.warnings
    assert (turn.status, turn.result) == (TurnStatus.COMPLETED, "desserts/12")


@pytest.mark.once
async def test_servers_are_kept_when_claude_is_started_again(
    sessions: Sessions, project: Path, name: str, server: Mount, bare: Bare
) -> None:
    request = CreateRequest(
        str(project),
        session_name=name,
        mounts=(server,),
        mcp_config={"mcpServers": {"tiny": tiny()}},
    )
    created = await create(sessions, request)
    try:
        with_options = await turns.prompt(
            await sessions.open(name), CALL, options=TurnOptions(max_turns=5)
        )
        await commands.run(await sessions.open(name), "pkill -KILL -x claude")
        after_crash = await turns.prompt(await sessions.open(name), CALL)
        bare("restart", "--time=0", created.session.container_id)
        after_restart = await turns.prompt(await sessions.open(name), CALL)
    finally:
        await sessions.destroy(name)
    for turn in (with_options, after_crash, after_restart):
        assert (turn.status, turn.result) == (TurnStatus.COMPLETED, "desserts/0")


@pytest.mark.once
async def test_servers_that_a_restart_lost_are_named_and_can_be_handed_in_again(
    sessions: Sessions, config: Config, project: Path, name: str, server: Mount, bare: Bare
) -> None:
    request = CreateRequest(
        str(project),
        session_name=name,
        mounts=(server,),
        mcp_config={"mcpServers": {"tiny": tiny()}},
    )
    created = await create(sessions, request)
    bare("restart", "--time=0", created.session.container_id)
    async with open_sessions(config) as others:
        turn = await turns.prompt(await others.open(name), "hello")
        later = await turns.prompt(await others.open(name), "hello")
        await give(await others.open(name), {}, {"mcpServers": {"tiny": tiny()}})
        handed_in = await turns.prompt(await others.open(name), CALL)
    await sessions.destroy(name)
    assert (handed_in.status, handed_in.result) == (TurnStatus.COMPLETED, "desserts/0")
    assert turn.status is TurnStatus.COMPLETED
    assert [note for note in turn.notes if "MCP servers" in note] == [
        "The session lost its MCP servers when its container was restarted: tiny. Their "
        "configuration is kept in memory only. Provide it again with "
        f"{named('set_credentials')}."
    ]
    assert later.notes == ()


@pytest.mark.once
async def test_creation_cancelled_while_servers_start_leaves_nothing_behind(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    servers = {"slow": {"command": "sleep", "args": ["60"]}}
    request = CreateRequest(str(project), session_name=name, mcp_config={"mcpServers": servers})
    for milliseconds in (400, 800, 1500):
        with anyio.move_on_after(milliseconds / 1000) as scope:
            await create(sessions, request)
        assert scope.cancelled_caught
        assert bare.containers(name) == []


async def test_a_server_on_this_machine_is_reached_by_the_hosts_name(
    sessions: Sessions, project: Path, name: str, standin: Standin
) -> None:
    config = {
        "mcpServers": {"web": {"type": "http", "url": f"http://localhost:{standin.port}/mcp"}}
    }
    request = CreateRequest(str(project), session_name=name, mcp_config=config)
    if not (await sessions.engine()).dialect.alias_reaches_host:
        with pytest.raises(UsageError, match="does not lead to this machine"):
            await create(sessions, request)
        return
    await create(sessions, request)
    try:
        # What it answers is no MCP server's; that it was asked is what counts.
        standin.wait_for(lambda asked: asked.path == "/mcp", timeout=PATIENCE_SECONDS)
    finally:
        await sessions.destroy(name)
