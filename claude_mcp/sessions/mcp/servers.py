"""The status of a session's MCP servers, as Claude Code reports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio

from claude_mcp.contract import operations
from claude_mcp.contract.codes import Code
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import AgentError, SessionNotReady
from claude_mcp.sessions.channel.answers import line, read
from claude_mcp.sessions.channel.refusals import code_of
from claude_mcp.sessions.handle import SessionHandle

WAIT_SECONDS: Final = 40.0
"""Longer than Claude Code's own timeout for a server (30 s)."""
ANSWER_SECONDS: Final = 50.0
MAX_STATUS_CHARS: Final = 40
MAX_ERROR_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class McpServer:
    """``status`` comes from Claude Code; if it is ``unknown``, ``error`` says why."""

    name: str
    status: str
    error: str | None = None


async def wait(handle: SessionHandle, config: Mapping[str, Any]) -> tuple[McpServer, ...]:
    """Wait until none of a new session's servers is still starting.

    Raises:
        SessionNotFound, SessionNotReady, EngineError: the session itself no longer works.
    """
    reports: dict[str, operations.McpReport] = {}
    args = to_json(operations.WaitForMcp(WAIT_SECONDS))
    why = "Claude Code did not report its status"
    try:
        with anyio.fail_after(ANSWER_SECONDS):
            answer = await handle.request(operations.MCP, args, start=False)
        found = read(operations.McpReports, answer, operations.McpReports(()))
        reports = {report.name: report for report in found.mcp_servers}
    except TimeoutError:
        why = f"Claude Code did not report its status within {ANSWER_SECONDS:g} s"
    except (AgentError, SessionNotReady) as error:
        if isinstance(error, SessionNotReady) and code_of(error) is not Code.NO_ROOM:
            raise
        why = error.message
    return tuple(_server(name, reports.get(name), why) for name in config["mcpServers"])


def _server(name: str, report: operations.McpReport | None, why: str) -> McpServer:
    """Parse a report, which may be forged. Redact before cutting: a cut secret would not match."""
    if report is None:
        return McpServer(name, "unknown", why)
    error = line(redactor.redact(report.error or ""), MAX_ERROR_CHARS) or None
    return McpServer(name, line(report.status, MAX_STATUS_CHARS) or "unknown", error)


def warnings(servers: tuple[McpServer, ...]) -> tuple[str, ...]:
    """One warning for each server that is not connected."""
    return tuple(_warning(server) for server in servers if server.status != "connected")


def _warning(server: McpServer) -> str:
    because = f": {server.error}" if server.error else ""
    match server.status:
        case "failed":
            return f"MCP server {server.name} failed{because}."
        case "pending":
            return f"MCP server {server.name} is still starting after {WAIT_SECONDS:g} s."
        case "needs-auth":
            return (
                f"MCP server {server.name} needs authorization, but a session cannot log in "
                "interactively: pass a token in its headers or env."
            )
        case status:
            return f"MCP server {server.name} is {status}{because}."
