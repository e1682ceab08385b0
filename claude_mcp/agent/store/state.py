"""What the agent remembers across a restart of the container, and its log.

The log is the main process's stderr: the engine keeps it, with times, also when the container
has ended.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from claude_mcp.agent.store import files
from claude_mcp.contract import places as contract
from claude_mcp.contract.numbers import amount
from claude_mcp.contract.redaction import redactor


def log(line: str) -> None:
    line = redactor.redact(line)
    sys.stderr.write(line.replace("\n", "\n  ") + "\n")
    sys.stderr.flush()


class State:
    """A small JSON file in the session's home, replaced whole on every change."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._path = os.path.join(directory, contract.STATE_FILE)
        self._values: dict[str, Any] = {}
        try:
            values = json.loads(files.read(self._path))
            if isinstance(values, dict):
                self._values = values
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError):
            log(f"{self._path} is damaged and is not used")

    def _write(self) -> None:
        try:
            files.replace(self._path, json.dumps(self._values).encode())
        except (OSError, ValueError, RecursionError) as error:
            log(f"the session's state cannot be written: {error}")

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
        """From where Claude Code counts when it resumes a conversation, in USD."""
        saved = self._values.get("savedCost")
        conversation, usd = saved if isinstance(saved, list) and len(saved) == 2 else (None, 0.0)
        return (amount(usd) or 0.0) if conversation == conversation_id else 0.0

    def save_cost(self, conversation_id: str | None, usd: float) -> None:
        """Claude Code ended in order, which makes it remember what it last reported."""
        self._values["savedCost"] = [conversation_id, usd]
        self._write()

    @property
    def other_model(self) -> str | None:
        """The conversation in which a turn had a model of its own."""
        value = self._values.get("otherModel")
        return value if isinstance(value, str) else None

    @other_model.setter
    def other_model(self, conversation_id: str | None) -> None:
        if conversation_id != self._values.get("otherModel"):
            self._values["otherModel"] = conversation_id
            self._write()

    @property
    def mcp_servers(self) -> list[str]:
        """The names of those that were handed in."""
        names = self._values.get("mcpServers")
        return [str(name)[:100] for name in names[:100]] if isinstance(names, list) else []

    @mcp_servers.setter
    def mcp_servers(self, names: list[str]) -> None:
        if names != self._values.get("mcpServers"):
            self._values["mcpServers"] = names
            self._write()

    @property
    def latest_turn(self) -> str | None:
        value = self._values.get("latestTurn")
        return value if isinstance(value, str) else None

    @latest_turn.setter
    def latest_turn(self, turn_id: str) -> None:
        self._values["latestTurn"] = turn_id
        self._write()
