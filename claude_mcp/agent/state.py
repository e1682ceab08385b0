"""What the agent remembers across a restart of the container, and its log.

The log is the main process's stderr: the engine keeps it, with times, also when the container
has ended.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from claude_mcp.agent import contract


def log(line: str) -> None:
    sys.stderr.write(line.replace("\n", "\n  ") + "\n")
    sys.stderr.flush()


class State:
    """A small JSON file in the session's home, replaced whole on every change."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._path = os.path.join(directory, contract.STATE_FILE)
        self._values: dict[str, Any] = {}
        try:
            with open(self._path, encoding="utf-8") as file:
                values = json.load(file)
            if isinstance(values, dict):
                self._values = values
        except FileNotFoundError:
            pass
        except ValueError:
            log(f"{self._path} is damaged and is not used")

    def _write(self) -> None:
        temporary = self._path + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(self._values, file)
        os.replace(temporary, self._path)

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
        value = self._values.get("costUsd")
        return float(value) if isinstance(value, (int, float)) else 0.0

    def add_reported_cost(self, conversation_id: str, reported_usd: float) -> float:
        """Book what Claude Code reported and return what is new of it.

        Its figure counts over a conversation, also after ``--resume`` (measured with 2.1.330;
        older ones began again at 0), so that one below the last is new as a whole.
        """
        last = self._values.get("reported")
        conversation, before = last if isinstance(last, list) and len(last) == 2 else (None, 0.0)
        countable = isinstance(before, (int, float)) and before <= reported_usd
        if conversation != conversation_id or not countable:
            before = 0.0
        self._values["reported"] = [conversation_id, reported_usd]
        self._values["costUsd"] = self.cost_usd + reported_usd - before
        self._write()
        return reported_usd - before
