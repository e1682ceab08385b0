"""The server over HTTP with real sessions: two teams share it, and it may stop at any time."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from claude_mcp.engine.docker_cli import DockerCliEngine
from tests.engine_fixtures import Bare
from tests.peers import Peer, script

pytestmark = pytest.mark.once

PATIENCE_SECONDS = 60
TEAMS = {name: secrets.token_hex(16) for name in ("red", "blue")}


@asynccontextmanager
async def calling(url: str, token: str, era: str = "auto") -> AsyncIterator[Peer]:
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE_SECONDS) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=era) as client:
            yield Peer(client, os.getpid())


@contextmanager
def serving(engine: DockerCliEngine, environ: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Where the server is, and its pid; it has ended well at the end."""
    argv = [sys.executable, "-m", "claude_mcp", f"--engine={engine.program}", "serve", "--port=0"]
    with subprocess.Popen(argv, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            yield said.split()[-1], process.pid
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


async def test_two_teams_share_a_server_and_a_turn_outlives_it(
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    tmp_path: Path,
    name: str,
    bare: Bare,
) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text("".join(f'[{team}]\ntoken = "{token}"\n' for team, token in TEAMS.items()))
    environ["CLAUDE_MCP_TOKENS_FILE"] = str(tokens)
    wait = "until [ -e go ]; do sleep 0.1; done; echo went"
    prompt = script({"tool": "Bash", "input": {"command": wait}}, {"say": "done"})
    with serving(engine, environ) as (url, _):
        async with calling(url, TEAMS["red"], "legacy") as red, calling(url, TEAMS["blue"]) as blue:
            created = await red("create_session", projectPath=str(project), sessionName=name)
            container = created["containerName"]
            ran = await red("execute_command", sessionId=name, command="echo hi >made; cat made")
            assert ran["stdout"] == "hi\n"
            assert (project / "made").stat().st_uid == project.stat().st_uid
            assert (await blue("list_sessions"))["sessions"] == []
            for reference in (name, created["sessionId"]):
                told = await blue.refused("execute_command", sessionId=reference, command="true")
                assert told.startswith(
                    f"There is no session {reference!r}.\nThere are no sessions."
                )
            turn = await red("execute_in_session", sessionId=name, prompt=prompt, waitSeconds=0)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cut_off, url, created["sessionId"])
    (project / "go").touch()
    with serving(engine, environ) as (url, _):
        async with calling(url, TEAMS["red"]) as red:
            ended = await red("get_turn", sessionId=name, turnId=turn["turnId"])
            assert (ended["status"], ended["result"]) == ("completed", "done")
            await red("destroy_session", sessionId=name)
    bare.remove_all(container.removeprefix("claude-mcp-"))


async def cut_off(url: str, session: str) -> None:
    """A stranger, who gets nowhere."""
    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        answers = [
            await http.post(url, json={"session": session}, headers=headers)
            for headers in ({}, {"authorization": "Bearer wrong"}, {"host": "evil.example"})
        ]
    assert [each.status_code for each in answers] == [401, 401, 421]
