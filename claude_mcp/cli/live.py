"""What a person at a terminal sees of work while it is done: its steps, and the live line."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from claude_mcp.cli.drawing import DIM, bar, fit, is_plain, styled
from claude_mcp.cli.drawing import columns as columns_of
from claude_mcp.cli.line import LINE
from claude_mcp.cli.markdown import Markdown
from claude_mcp.cli.terminal import step, visible, write
from claude_mcp.contract.redaction import redactor
from claude_mcp.sessions.progress import Amount
from claude_mcp.views.figures import amount_text, elapsed, rate_text

MARGIN: Final = 3
"""Columns behind the live line, where the terminal shows a Ctrl-C."""
TIME_COLUMNS: Final = 14
"""Before the bar."""
LEAST_BAR_COLUMNS: Final = 8
MOST_BAR_COLUMNS: Final = 22
RATE_SECONDS: Final = 5.0
"""The time over which a rate is measured."""
WORKING: Final = "waiting for Claude"
WRITING: Final = "Claude is writing"
THINKING: Final = "Claude is thinking"
QUIET_KINDS: Final = ("tool_result", "unasked", "permission")
"""Events that get no row; for a permission, the person is asked."""


class Work:
    """A ``Progress`` whose latest report is the live line, with the time since the beginning."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._message = ""
        self._amount: Amount | None = None
        self._reports: deque[tuple[float, int]] = deque()

    async def __call__(self, message: str, amount: Amount | None = None, /) -> None:
        before = self._amount
        if (
            amount is None
            or message != self._message
            or (before and (amount.unit != before.unit or amount.done < before.done))
        ):
            self._reports.clear()
        if amount is not None:
            now = time.monotonic()
            self._reports.append((now, amount.done))
            while now - self._reports[0][0] > RATE_SECONDS and len(self._reports) > 2:
                self._reports.popleft()
        self._message, self._amount = message, amount
        LINE.show(self._draw)

    def _draw(self, columns: int) -> Sequence[str]:
        return [status(self._started, visible(self._told(columns)), columns)]

    def _told(self, columns: int) -> str:
        amount = self._amount
        if amount is None:
            return self._message
        parts = [self._message, amount_text(amount)]
        first, last = self._reports[0], self._reports[-1]
        if last[0] > first[0] and last[1] > first[1]:
            parts.append(rate_text(amount, (last[1] - first[1]) / (last[0] - first[0])))
        text = ", ".join(parts)
        left = min(MOST_BAR_COLUMNS, columns - MARGIN - TIME_COLUMNS - len(text))
        if amount.total and left >= LEAST_BAR_COLUMNS:
            return f"{bar(amount.done, amount.total, left)} {text}"
        return text


class Turn:
    """A ``Listener`` that shows a turn: what Claude says, rendered, and a row for each step.

    Without ``words``, only the steps.
    """

    def __init__(self, *, words: bool) -> None:
        self._words = words
        self._started = time.monotonic()
        self._doing = WORKING
        self._message = ""
        self._line = ""
        """The last line of the message, which is not whole yet."""
        self._markdown = None if is_plain(sys.stdout) else Markdown(columns_of(sys.stdout))
        LINE.show(self._draw)

    async def said(self, text: str, *, begins: bool, ends: bool) -> None:
        self._doing = THINKING if ends else WRITING
        if not self._words:
            LINE.redraw()
            return
        if begins:
            self._end_message()
            self._message = ""
        self._message += text
        *whole, self._line = (self._line + text).split("\n")
        for each in whole:
            self._print(each)
        if ends:
            self._end_message()
        LINE.redraw()

    async def did(self, kind: str, line: str) -> None:
        if kind in QUIET_KINDS:
            self._doing = THINKING
        else:
            self._end_message()
            self._message = ""
            self._doing = THINKING if kind == "tool_error" else line
            step(f"failed: {line}" if kind == "tool_error" else line)
        LINE.redraw()

    def end(self, result: str | None = None) -> bool:
        """The turn is over; returns whether its result is what was said last."""
        LINE.end()
        self._end_message()
        return bool(self._message) and self._message.strip() == (result or "").strip()

    def _end_message(self) -> None:
        if self._line:
            self._print(self._line)
        self._line = ""
        if self._markdown is not None:
            self._markdown = Markdown(columns_of(sys.stdout))

    def _print(self, line: str) -> None:
        text = visible(redactor.redact(line))
        shown = text if self._markdown is None else self._markdown.line(text)
        if shown is not None:
            write(f"{shown}\n")

    def _draw(self, columns: int) -> Sequence[str]:
        text = visible(redactor.redact(self._line))
        if text and self._markdown is not None:
            self._markdown.limit = columns
            text = self._markdown.unfinished(text)
        rows = text.split("\n") if text else []
        return [*rows, status(self._started, self._doing, columns)]


def status(started: float, doing: str, columns: int) -> str:
    """The live line: how long it takes, and what is being done."""
    took = elapsed(round((time.monotonic() - started) * 1000))
    text = fit(f"{took} · {doing}", columns - MARGIN)
    return text if is_plain(sys.stderr) else styled(text, DIM)


def shares_terminal() -> bool:
    """Whether stdout is the terminal that the live line is on."""
    if not (LINE.possible() and sys.stdout.isatty()):
        return False
    here, there = os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno())
    return here.st_rdev == there.st_rdev
