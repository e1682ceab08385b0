"""Restricted sessions through a real MCP client, and with nobody there at all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from messages_standin import Standin

from claude_mcp.engine.engine import Engine
from tests.peers import script
from tests.restricted import bash

pytestmark = pytest.mark.xdist_group("world")
"""One process at a time makes proxies: some of these tests count them."""

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

Call = Callable[..., Any]


async def test_a_client_is_told_the_network_and_what_was_blocked(
    start: Call, project: Path, name: str
) -> None:
    async with start() as call:
        refused = await call.refused(
            "create_session", projectPath=str(project), allowedHosts=["pypi.org"]
        )
        assert refused == (
            "allowedHosts requires the network 'restricted'; this session's network is 'open'."
            "\nAsk for the network 'restricted' as well, or leave the hosts out."
        )
        created = await call(
            "create_session",
            projectPath=str(project),
            sessionName=name,
            network="restricted",
            allowedHosts=["pypi.org", "*.pythonhosted.org"],
        )
        assert created["network"] == "restricted"
        command = "curl -sS http://files.example.net/"
        ran = await call("execute_command", sessionId=name, command=command)
        turn = await call("execute_in_session", sessionId=name, prompt=bash(command))
        note = "Blocked: files.example.net; a new session can allow it with allowedHosts."
        assert (ran["notes"], turn["notes"]) == ([note], [note])
        assert turn["status"] == "completed"
        listed = {each["sessionName"]: each for each in (await call("list_sessions"))["sessions"]}
        assert listed[name]["network"] == "restricted"
        logs = await call("get_session_logs", sessionId=name)
        assert "blocked: files.example.net: a new session can allow it with allowedHosts" in str(
            logs["lines"]
        )
        await call("destroy_session", sessionId=name)


@pytest.mark.near("looks into the mounted project")
async def test_with_nobody_there_a_proxy_that_crashes_comes_back_for_the_turn_that_runs(
    start: Call, project: Path, name: str, bare: Bare, engine: Engine, standin: Standin
) -> None:
    url = f"http://{engine.dialect.host_alias}:{standin.port}/"
    command = (
        "touch started; until [ -e crashed ]; do sleep 0.05; done; "
        f"curl -sS -m 25 -o /dev/null -w '%{{http_code}}' {url} > answer; cat answer"
    )
    async with start() as call:
        await call(
            "create_session", projectPath=str(project), sessionName=name, network="restricted"
        )
        prompt = script({"tool": "Bash", "input": {"command": command}}, {"report": True})
        await call("execute_in_session", sessionId=name, prompt=prompt, waitSeconds=0)
        with anyio.fail_after(60):
            while not (project / "started").exists():
                await anyio.sleep(0.05)
    container = bare.containers(name)[0]
    proxy = bare("inspect", '--format={{index .Config.Labels "claude-mcp.egress"}}', container)
    proxy = f"claude-mcp-proxy-{proxy.strip()}"
    os.kill(int(bare("inspect", "--format={{.State.Pid}}", proxy)), signal.SIGKILL)
    (project / "crashed").touch()
    with anyio.fail_after(60):
        while not (project / "answer").exists() or not (project / "answer").read_text():
            await anyio.sleep(0.05)
    async with start() as call:
        turn = await call("get_turn", sessionId=name)
        assert (turn["status"], turn["result"]) == ("completed", "200")
        assert any(
            note.startswith("The session's proxy was not running for ") for note in turn["notes"]
        )
        await call("destroy_session", sessionId=name)
    assert proxy not in bare("ps", "-a", "--format={{.Names}}").split()
