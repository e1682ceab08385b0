"""One turn: a prompt on its way through Claude Code."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from claude_mcp.agent.processes import cgroup_events
from claude_mcp.agent.processes import killing as processes
from claude_mcp.agent.store.records import Result

if TYPE_CHECKING:
    from claude_mcp.agent.network.egress import Mark

OPTIONS = ("tools", "model", "maxTurns", "maxBudgetUsd")
"""What a turn may have of its own; Claude Code takes them only when it starts."""


@dataclass(eq=False)
class Turn:
    """One prompt on its way, or, without one, what Claude Code began unasked."""

    id: str
    first: int
    """The number of the journal's last event before it."""
    prompt: str | None = None
    digest: str = ""
    """The prompt's, as the record has it."""
    options: dict[str, Any] = field(default_factory=dict)
    new_conversation: bool = False
    started: float = field(default_factory=time.monotonic)
    before: processes.Snapshot = field(default_factory=dict)
    tasks: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    expired: int = 0
    """How many of its questions nobody answered."""
    exhausted: cgroup_events.Counts | None = None
    """How often limits had been reached when it began."""
    mark: Mark | None = None
    """How it was with the network when it began, where that is restricted."""
    cancelled: bool = False
    refused: str | None = None
    """Why it must not go on."""
    posted: float = math.inf
    """Where its line ends in Claude Code's input, once it is there."""
    outcome: Result | None = None
    """What Claude Code made of it; the turn is over only when all is cleaned up."""
