"""What callers hear about a turn: its events while they wait, and its state or its result."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from claude_mcp.agent.channel.connections import Answer, Request, RequestError
from claude_mcp.agent.store.journal import Event, Journal
from claude_mcp.agent.store.records import Records, Result
from claude_mcp.agent.turns import listing
from claude_mcp.agent.turns.driver import Driver
from claude_mcp.agent.turns.listening import EVENT_CHARACTERS, Headlines, Listener
from claude_mcp.agent.turns.turn import Turn, rfc3339
from claude_mcp.claude.events import headline, waiting_note
from claude_mcp.contract.codes import Code
from claude_mcp.contract.redaction import redactor

LONGEST_WAIT_SECONDS = 3600.0
MAX_EVENTS = 50
TAIL_EVENTS = 10
GONE = (
    "Events before number {} were removed when the session's journal was full; the results of "
    "turns are kept."
)


class Following:
    """``going`` tells the turns that are not over, ``ahead`` how many come before one of them."""

    def __init__(
        self,
        changed: threading.Condition,
        journal: Journal,
        records: Records,
        driver: Driver,
        going: Callable[[], Sequence[Turn]],
        ahead: Callable[[Turn], int],
    ) -> None:
        self._changed = changed
        self._journal = journal
        self._records = records
        self._driver = driver
        self._going = going
        self._ahead = ahead

    def follow(
        self,
        request: Request,
        turn_id: str,
        turn: Turn | None,
        wait: float | None,
        seen: int,
        reading: bool = False,
        with_prompt: bool = False,
        live: bool = False,
    ) -> Answer:
        """Report the events after ``seen`` until the turn is over or asks for permission, the time
        is up, or the caller is gone. With ``reading``, return as soon as there is an event. With
        ``live``, report also what Claude says while it says it."""
        if turn is not None:
            with self._changed:
                turn.listeners += live
            try:
                self._report(request, turn, wait, seen, reading, live)
            finally:
                with self._changed:
                    turn.listeners -= live
        if request.abandoned:
            return {}
        cursor = seen if reading else None
        with self._changed:
            answer = self.answer(turn_id, turn, cursor)
            return {**answer, "prompt": self._prompt(turn_id)} if with_prompt else answer

    def _report(
        self,
        request: Request,
        turn: Turn,
        wait: float | None,
        seen: int,
        reading: bool,
        live: bool,
    ) -> None:
        deadline = math.inf if wait is None else time.monotonic() + wait
        telling = Listener(request) if live else Headlines(request)
        request.on_cancel(self.wake)
        done = False
        while not done:
            with self._changed:
                left = deadline - time.monotonic()
                news, seen = self._journal.read(seen, turn.id, MAX_EVENTS, telling.characters)
                pause, saying = telling.pause(turn), turn.saying
                over, stuck = turn not in self._going(), bool(self._questions(turn))
                done = over or stuck or request.abandoned or left <= 0
                if not news and not done and pause > 0:
                    self._changed.wait(min(left, pause, LONGEST_WAIT_SECONDS))
                    continue
            telling.events(news)
            telling.saying(saying)
            done = done or bool(news and reading)

    def answer(self, turn_id: str, turn: Turn | None, cursor: int | None) -> Answer:
        questions = self._driver.permissions.of(turn_id)
        going = turn is not None and turn in self._going()
        if turn is not None and going:
            result: Result = {
                "status": self.status(turn),
                "ahead": self._ahead(turn),
                "durationMs": turn.elapsed_ms,
                "notes": [*turn.notes, *self._waits_for(turn)],
            }
            if turn.model is not None:
                result["model"] = turn.model
            if turn.retry_at is not None:
                result["retryAt"] = rfc3339(turn.retry_at)
            if step := headline(self._journal.step(turn_id)):
                result["lastStep"] = step
            first, last = turn.first, self._journal.last
        else:
            record = self._records.get(turn_id)
            if record is None:
                raise RequestError(Code.NO_TURN, turn_id)
            result = listing.outcome(record)
            first, last = record.first, record.last or record.first
        events: list[Event] = []
        behind = last
        if cursor is not None:
            start = max(cursor, first)
            if start < last and start + 1 < self._journal.oldest:
                gone = GONE.format(self._journal.oldest)
                result = {**result, "notes": [*result.get("notes", ()), gone]}
            events, behind = self._journal.read(start, turn_id, MAX_EVENTS, EVENT_CHARACTERS)
        elif going:
            start = max(first, last - TAIL_EVENTS)
            events, behind = self._journal.read(start, turn_id, TAIL_EVENTS, EVENT_CHARACTERS)
        if questions:
            result = {**result, "questions": questions}
        return {**result, "turnId": turn_id, "events": events, "cursor": behind}

    def _prompt(self, turn_id: str) -> str:
        record = self._records.get(turn_id)
        return record.text if record else ""

    def status(self, turn: Turn) -> str:
        return "needs_permission" if self._questions(turn) else "running"

    def _questions(self, turn: Turn) -> list[dict[str, Any]]:
        """The open questions that keep a turn from continuing."""
        return [] if turn.cancelled else self._driver.permissions.of(turn.id)

    def _waits_for(self, turn: Turn) -> list[str]:
        """A note while requests of the turn to the provider fail, or Claude Code is silent."""
        if turn.retry is None:
            return self._driver.quiet_notes(turn)
        note = waiting_note(turn.retry, time.monotonic() - turn.retried)
        return [redactor.redact(note)]

    def wake(self) -> None:
        """Have all who wait look again."""
        with self._changed:
            self._changed.notify_all()
