"""The real, interactive Claude Code as a client, in a terminal of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tests.terminals import Terminal, terminal

PATIENCE_SECONDS = 60
RIGHT, DOWN, ENTER, ESCAPE = "\x1b[C", "\x1b[B", "\r", "\x1b"
PASTE = "\x1b[200~{}\x1b[201~"
CONNECTED = "\u2714 sessions"


class ClaudeCode:
    """Claude Code with a home of its own and one MCP server, ours."""

    def __init__(self, program: Path, directory: Path, server: list[str], env: Mapping[str, str]):
        self.home = directory / "home"
        self.work = self.home / "work"
        self.work.mkdir(parents=True)
        self._program = program
        self._environ = {
            **env, "HOME": str(self.home), "IS_SANDBOX": "1",
            "DISABLE_AUTOUPDATER": "1",
        }  # fmt: skip
        settings = {
            "hasCompletedOnboarding": True,
            "bypassPermissionsModeAccepted": True,
            "projects": {str(self.work): {"hasTrustDialogAccepted": True}},
            "customApiKeyResponses": {"approved": [env["ANTHROPIC_API_KEY"][-20:]]},
        }
        (self.home / ".claude.json").write_text(json.dumps(settings))
        command, *args = server
        servers = {"sessions": {"command": command, "args": args, "env": dict(env)}}
        self._mcp = self.home / "mcp.json"
        self._mcp.write_text(json.dumps({"mcpServers": servers}))
        self._mcp.chmod(0o600)

    def argv(self, *words: str) -> list[str]:
        return [
            str(self._program), f"--mcp-config={self._mcp}", "--strict-mcp-config",
            "--dangerously-skip-permissions", *words,
        ]  # fmt: skip

    @property
    def environ(self) -> dict[str, str]:
        return self._environ

    def terminal(self, *words: str) -> AbstractContextManager[Terminal]:
        """Killed at the end, and its server ends with it."""
        argv = ["env", f"--chdir={self.work}", *self.argv(*words)]
        return terminal(argv, self._environ, columns=160, rows=50)

    @contextmanager
    def asked(self, prompt: str) -> Iterator[Terminal]:
        """The same with a prompt, which is typed once the server is connected.

        Claude Code does not wait for that: it would tell its model that there is no such tool.
        """
        with self.terminal() as terminal:
            terminal.until("\u276f")
            terminal.type("/mcp")
            terminal.until("Manage MCP servers")
            terminal.type(ENTER)
            terminal.until(CONNECTED)
            terminal.type(ESCAPE)
            terminal.until(lambda text: CONNECTED not in text)
            terminal.type(PASTE.format(prompt))
            terminal.until(lambda text: "standin:" in text or "Pasted text" in text)
            terminal.type(ENTER)
            yield terminal


def tool(name: str, **given: Any) -> dict[str, Any]:
    """A step of the stand-in that calls one of our tools."""
    return {"tool": f"mcp__sessions__{name}", "input": given}
