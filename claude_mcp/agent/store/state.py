"""What the agent remembers across restarts of the container, and its log.

The log is the main process's stderr. The engine keeps it with timestamps, even after the
container has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

from claude_mcp.agent.store import files
from claude_mcp.contract import places
from claude_mcp.contract.numbers import amount
from claude_mcp.contract.redaction import redactor

MAX_APPLIED = 20


def log(line: str) -> None:
    """Write to the log, which may have lost its reader: no work fails because of that."""
    line = redactor.redact(line)
    with contextlib.suppress(OSError):
        sys.stderr.write(line.replace("\n", "\n  ") + "\n")
        sys.stderr.flush()


class State:
    """A small JSON file in the session's home that every change replaces as a whole."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._path = os.path.join(directory, places.STATE_FILE)
        self._values: dict[str, Any] = {}
        try:
            values = json.loads(files.read(self._path))
            if isinstance(values, dict):
                self._values = values
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError):
            log(f"{self._path} is damaged and will be ignored")

    def _write(self) -> None:
        try:
            files.replace(self._path, json.dumps(self._values).encode())
        except (OSError, ValueError, RecursionError) as error:
            log(f"could not save the session's state: {error}")

    @property
    def abandoned(self) -> bool:
        return self._values.get("abandoned") is True

    @property
    def conversation_id(self) -> str | None:
        value = self._values.get("conversationId")
        return value if isinstance(value, str) else None

    @conversation_id.setter
    def conversation_id(self, value: str | None) -> None:
        if value != self._values.get("conversationId"):
            self._values["conversationId"] = value
            self._write()

    @property
    def cost_usd(self) -> float:
        return amount(self._values.get("costUsd")) or 0.0

    def add_cost(self, usd: float) -> None:
        self._values["costUsd"] = self.cost_usd + usd
        self._write()

    def saved_cost(self, conversation_id: str | None) -> float:
        """The cost in USD that Claude Code starts counting from when it resumes a conversation."""
        saved = self._values.get("savedCost")
        conversation, usd = saved if isinstance(saved, list) and len(saved) == 2 else (None, 0.0)
        return (amount(usd) or 0.0) if conversation == conversation_id else 0.0

    def save_cost(self, conversation_id: str | None, usd: float) -> None:
        """Record that Claude Code ended in order and thus saved the cost that it last reported."""
        self._values["savedCost"] = [conversation_id, usd]
        self._write()

    @property
    def other_model(self) -> str | None:
        """The conversation in which a turn used a model other than the session's."""
        value = self._values.get("otherModel")
        return value if isinstance(value, str) else None

    @other_model.setter
    def other_model(self, conversation_id: str | None) -> None:
        if conversation_id != self._values.get("otherModel"):
            self._values["otherModel"] = conversation_id
            self._write()

    @property
    def mcp_servers(self) -> list[str]:
        """The names of the MCP servers that were handed over."""
        names = self._values.get("mcpServers")
        return [str(name)[:100] for name in names[:100]] if isinstance(names, list) else []

    @mcp_servers.setter
    def mcp_servers(self, names: list[str]) -> None:
        if names != self._values.get("mcpServers"):
            self._values["mcpServers"] = names
            self._write()

    @property
    def applied(self) -> list[str]:
        """The latest commits of the session that the host has."""
        commits = self._values.get("applied")
        return [str(each)[:64] for each in commits] if isinstance(commits, list) else []

    @applied.setter
    def applied(self, commits: list[str]) -> None:
        self._values["applied"] = commits[-MAX_APPLIED:]
        self._write()

    @property
    def latest_turn(self) -> str | None:
        value = self._values.get("latestTurn")
        return value if isinstance(value, str) else None

    @latest_turn.setter
    def latest_turn(self, turn_id: str) -> None:
        self._values["latestTurn"] = turn_id
        self._write()
