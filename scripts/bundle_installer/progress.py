"""What the installer says while it works: lines on stderr, and on a terminal one that moves."""

from __future__ import annotations

import sys
from typing import Final

MB: Final = 1_000_000
_STEPS: Final = 4
"""How often a slow step is reported where there is no terminal."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Progress:
    """How many bytes of a step are done."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = max(total, 1)
        self._done = 0
        self._said = 0
        self._moves = sys.stderr.isatty()
        say(f"{what} ({total / MB:.0f} MB)")

    def add(self, count: int) -> None:
        self._done += count
        percent = min(100, self._done * 100 // self._total)
        step = 1 if self._moves else 100 // _STEPS
        if percent < self._said + step:
            return
        self._said = percent - percent % step
        if self._moves:
            end = "\n" if percent == 100 else "\r"
            print(f"  {percent:3} %", end=end, file=sys.stderr, flush=True)
        else:
            say(f"  {self._said} %")
