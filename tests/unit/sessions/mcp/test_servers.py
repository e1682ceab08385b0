"""What is made of an agent's word about MCP servers, which may be forged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from claude_mcp.contract.redaction import MASK
from claude_mcp.credentials import Secret
from claude_mcp.errors import SessionNotReady
from claude_mcp.sessions import handover
from claude_mcp.sessions.mcp.servers import McpServer, wait, warnings
from claude_mcp.sessions.registry import Sessions
from tests.unit.sessions.conftest import ScriptedEngine, container

pytestmark = pytest.mark.anyio

CONFIG = {"mcpServers": {"files": {"command": "npx"}, "db": {"command": "db"}}}


async def answered(
    scripted: ScriptedEngine, sessions: Sessions, script: str, status: str = "running"
) -> tuple[McpServer, ...]:
    there = container("ab12", "one", status=status)
    scripted.holds(there)
    scripted.agent(f"asked = request()\n{script}")
    return await wait(await sessions.open("one"), CONFIG)


def says(answer: Any) -> str:
    return f"answer(asked['id'], ok=json.loads({json.dumps(answer)!r}))"


async def test_each_server_has_its_status_and_error(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    reports = [
        {"name": "db", "status": "failed", "error": "there is no program 'db'"},
        {"name": "files", "status": "connected", "error": None},
        {"name": "unknown", "status": "connected", "error": None},
    ]
    script = "assert (asked['op'], asked['args']) == ('mcp', {'waitSeconds': 40.0})\n"
    assert await answered(scripted, sessions, script + says({"mcpServers": reports})) == (
        McpServer("files", "connected"),
        McpServer("db", "failed", "there is no program 'db'"),
    )


@pytest.mark.parametrize(
    "forged", [{}, {"mcpServers": 7}, {"mcpServers": [None, {"name": ["files"]}, {"status": "a"}]}]
)
async def test_a_forged_answer_is_ignored(
    scripted: ScriptedEngine, sessions: Sessions, forged: Any
) -> None:
    servers = await answered(scripted, sessions, says(forged))
    assert servers == tuple(
        McpServer(name, "unknown", "Claude Code did not report its status")
        for name in ("files", "db")
    )


async def test_a_long_error_is_redacted_before_it_is_truncated(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    Secret("sk-of-a-server-0123456789")
    error = "x" * 480 + "\nsk-of-a-server-0123456789 " + "y" * 100
    reports = [{"name": "files", "status": "f" * 100 + "\n", "error": error}]
    files, _ = await answered(scripted, sessions, says({"mcpServers": reports}))
    assert files == McpServer("files", "f" * 40, "x" * 480 + f" {MASK} yyyyyyyy")


async def test_a_refusing_agent_does_not_fail_the_session(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    script = "answer(asked['id'], error={'code': 'failed', 'message': 'no such thing'})"
    files, _ = await answered(scripted, sessions, script)
    assert files == McpServer("files", "unknown", "The session's agent failed: no such thing.")


async def test_a_missing_session_is_an_error(scripted: ScriptedEngine, sessions: Sessions) -> None:
    with pytest.raises(SessionNotReady, match="is stopped"):
        await answered(scripted, sessions, "", status="exited")
    assert "start" not in scripted.calls


def test_a_server_that_is_not_connected_is_a_warning() -> None:
    servers = (
        McpServer("a", "connected"),
        McpServer("b", "failed", "exit code 3"),
        McpServer("c", "failed"),
        McpServer("d", "pending"),
        McpServer("e", "needs-auth"),
        McpServer("f", "disabled"),
        McpServer("g", "unknown", "Claude Code did not report its status"),
    )
    assert warnings(servers) == (
        "MCP server b failed: exit code 3.",
        "MCP server c failed.",
        "MCP server d is still starting after 40 s.",
        "MCP server e needs authorization, but a session cannot log in "
        "interactively: pass a token in its headers or env.",
        "MCP server f is disabled.",
        "MCP server g is unknown: Claude Code did not report its status.",
    )


async def test_servers_are_restored_with_the_credentials(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("ab12", "one"))
    scripted.agent(
        "asked = request()\n"
        "open('handed', 'w').write(json.dumps(sorted(asked['args']['secrets'].get('mcpConfig'))))\n"
        "answer(asked['id'], ok={})"
    )
    handle = await sessions.open("one")
    handle.keep_mcp_config(CONFIG)
    await handover.restore(handle)
    assert scripted.noted("handed") == ['["mcpServers"]']
