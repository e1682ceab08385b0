"""One turn: a prompt, and everything up to its result."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from claude_mcp.agent.processes import cgroup_events, killing
from claude_mcp.agent.store.records import Result
from claude_mcp.claude import protocol

if TYPE_CHECKING:
    from claude_mcp.agent.network.egress import Mark


class TurnOptions(NamedTuple):
    """Options of one turn, which Claude Code accepts only when it starts; None if not given."""

    tools: tuple[str, ...] | None = None
    model: str | None = None
    max_turns: int | None = None
    max_budget_usd: float | None = None
    output_schema: str | None = None


NO_OPTIONS = TurnOptions()
LATEST_SECONDS = 2.0**33
"""A limit for forged moments, which not every calendar reaches."""


MAX_SAYING_CHARACTERS = 256 * 1024
"""Of a longer message, the rest is heard at its end."""


@dataclass(eq=False)
class Turn:
    """Without a prompt, it is a spontaneous turn: one that Claude Code started by itself."""

    id: str
    first: int
    """The number of the journal's last event before the turn."""
    prompt: str | None = None
    digest: str = ""
    """The digest of the prompt, as in the record."""
    text: str = ""
    """The beginning of the prompt, without secrets."""
    accepted: float = field(default_factory=time.time)
    """In seconds since 1970."""
    options: TurnOptions = NO_OPTIONS
    new_conversation: bool = False
    answerable: bool = False
    """Whether somebody can answer Claude's own questions."""
    started: float = field(default_factory=time.monotonic)
    before: killing.Snapshot = field(default_factory=dict)
    tasks: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    denied: dict[str, str] = field(default_factory=dict)
    """Why tool uses were denied, by the ids that Claude Code gave them."""
    unanswered: int = 0
    """How many of its permission questions expired."""
    limits_before: cgroup_events.Counts | None = None
    """How often limits had been reached when the turn began."""
    mark: Mark | None = None
    """The state of the restricted network when the turn began."""
    cancelled: bool = False
    retry: protocol.ApiRetry | None = None
    """The latest failed request to the provider, until an answer arrives."""
    retried: float = 0.0
    """When that was, as ``time.monotonic``."""
    said: str = ""
    """What the model said last."""
    saying: str = ""
    """The beginning of the message that the model is writing; the journal has those before."""
    listeners: int = 0
    """How many callers hear that as it is written."""
    finished: bool = False
    """Whether Claude Code reported that it is done with the prompt; its result comes before."""
    retry_at: float | None = None
    """When the usage limit that stopped it ends, in seconds since 1970."""
    refused: str | None = None
    """Why the turn must end at once."""
    model: str | None = None
    """The model that answered last, or that Claude Code said it would use."""
    posted: float = math.inf
    """The offset at which its line ends in Claude Code's input, once it was posted."""
    outcome: Result | None = None
    """The outcome according to Claude Code. The turn is over only after the clean-up."""

    def say(self, partial: protocol.Partial) -> None:
        """Take in a piece of what the model is writing."""
        before = "" if partial.begins else self.saying
        self.saying = (before + partial.text)[:MAX_SAYING_CHARACTERS]

    def have_said(self, texts: tuple[str, ...]) -> None:
        """Take in whole messages, which may be a subagent's."""
        if any(text.startswith(self.saying) for text in texts):
            self.saying = ""

    @property
    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self.started) * 1000)


def rfc3339(moment: float) -> str:
    """A moment in seconds since 1970, which may be forged, as UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(moment, LATEST_SECONDS)))
