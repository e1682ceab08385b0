"""What one caller hears of a turn while it happens: words as Claude writes them, and its steps.

Only whole messages are kept in the journal; the words before that are in memory alone.
"""

from __future__ import annotations

import math
import time

from claude_mcp.agent.channel.connections import Request
from claude_mcp.agent.store.journal import STEP_KINDS, Event
from claude_mcp.agent.turns.turn import MAX_SAYING_CHARACTERS, Turn
from claude_mcp.claude.events import headline
from claude_mcp.contract import operations
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.redaction import redactor

PAUSE_SECONDS = 0.05
"""Between two pieces of a message, so that each of them is worth its line."""
MESSAGE = "message"
EVENT_CHARACTERS = 1000


class Headlines:
    """For a caller that hears only what Claude does."""

    characters = EVENT_CHARACTERS
    """How much of an event's text it needs."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def pause(self, turn: Turn) -> float:
        """In how many seconds to look again if nothing happens."""
        return math.inf

    def events(self, news: list[Event]) -> None:
        """Send what the journal has."""
        for event in news:
            if event["kind"] in STEP_KINDS:
                self._request.event(to_json(operations.Progress(headline(event["text"]))))

    def saying(self, text: str) -> None:
        """Send what is new in the message that is being written."""


class Listener(Headlines):
    """For a caller that also hears Claude's words. It belongs to the thread of its request."""

    characters = MAX_SAYING_CHARACTERS

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._heard = ""
        """The message that is being written, as it was seen last."""
        self._sent = ""
        """What was sent of it."""
        self._last = 0.0

    def pause(self, turn: Turn) -> float:
        if turn.saying == self._heard:
            return math.inf
        return self._last + PAUSE_SECONDS - time.monotonic()

    def events(self, news: list[Event]) -> None:
        for event in news:
            if event["kind"] == MESSAGE:
                self._send(event["text"], ends=True)
                self._sent = self._heard = ""
            else:
                line = operations.Progress(headline(event["text"]), event["kind"])
                self._request.event(to_json(line))

    def saying(self, text: str) -> None:
        self._heard, self._last = text, time.monotonic()
        # What may be the beginning of a secret waits until more is known.
        settled = redactor.redact(text[: redactor.settled(text)])
        if settled and settled != self._sent:
            self._send(settled)
            self._sent = settled

    def _send(self, text: str, ends: bool = False) -> None:
        goes_on = bool(self._sent) and text.startswith(self._sent)
        piece = text[len(self._sent) :] if goes_on else text
        self._request.event(to_json(operations.Said(piece, not goes_on, ends)))
