"""The real, interactive Claude Code as a client, in a terminal of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\s")
RIGHT, DOWN, ENTER = "\x1b[C", "\x1b[B", "\r"


class Terminal:
    """What a program wrote, without spaces and control sequences, and what is typed to it."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self._pid = pid
        self._descriptor = descriptor
        self._screen = ""
        self._read_to = 0
        self._changed = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except OSError:  # the program has ended
                data = b""
            with self._changed:
                self._screen += data.decode("utf-8", "replace")
                self._over = not data
                self._changed.notify_all()
            if not data:
                return

    def expect(self, text: str) -> None:
        """Wait until the text comes after what was expected before; spaces do not count."""

        def came() -> bool:
            return text in ESCAPES.sub("", self._screen[self._read_to :]) or self._over

        with self._changed:
            assert self._changed.wait_for(came, PATIENCE_SECONDS), self._screen[-4000:]
            assert not self._over, self._screen[-4000:]
            self._read_to = len(self._screen)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._reader.join()
        os.close(self._descriptor)


class ClaudeCode:
    """Claude Code with a home of its own and one MCP server, ours."""

    def __init__(self, program: Path, directory: Path, server: list[str], env: Mapping[str, str]):
        self.home = directory / "home"
        self.work = self.home / "work"
        self.work.mkdir(parents=True)
        self._program = program
        self._environ = {
            **env, "HOME": str(self.home), "TERM": "xterm-256color", "IS_SANDBOX": "1",
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

    @contextmanager
    def terminal(self, *words: str) -> Iterator[Terminal]:
        """Killed at the end, and its server ends with it."""
        pid, descriptor = pty.fork()
        if pid == 0:
            os.chdir(self.work)
            os.execve(self._program, self.argv(*words), self._environ)
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        terminal = Terminal(pid, descriptor)
        try:
            yield terminal
        finally:
            terminal.kill()


def tool(name: str, **given: Any) -> dict[str, Any]:
    """A step of the stand-in that calls one of our tools."""
    return {"tool": f"mcp__sessions__{name}", "input": given}
