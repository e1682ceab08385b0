"""The last rows of a terminal: drawn again and again while something is done, then gone.

Nobody else writes to the terminal without ``clear`` before. Nothing is drawn in a pipe or on a dumb
terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from claude_mcp.cli.drawing import bare, is_dumb, rows, spelled

Draw = Callable[[int], Sequence[str]]
"""The lines to show now, for a width. They may have styles; a long one goes on in the next row."""
FRAME_SECONDS: Final = 0.5
"""How often it is drawn anyhow, because it shows the time."""


class LiveLine:
    """At the end of what was drawn last is the cursor."""

    def __init__(self) -> None:
        self._draw: Draw | None = None
        self._drawn: Sequence[str] = ()
        self._away = 0

    @staticmethod
    def possible() -> bool:
        return not is_dumb(sys.stderr)

    def show(self, draw: Draw) -> None:
        """Show this from now on, until ``end``."""
        self._draw = draw
        self.redraw()

    def redraw(self) -> None:
        if self._draw is None or self._away or not self.possible():
            return
        size = os.get_terminal_size(sys.stderr.fileno())
        columns, high = size.columns or 80, size.lines or 24
        lines = [*self._draw(columns)]
        over = sum(rows(line, columns) for line in lines) - (high - 1)
        while over > 0 and len(lines) > 1:  # what is above the screen could not be drawn over
            first = rows(lines[0], columns)
            if first > over:
                lines[0] = bare(lines[0])[columns * over :]
            else:
                del lines[0]
            over -= min(first, over)
        erased = self._erasure(columns)
        self._drawn = lines
        _write(erased + "\n".join(lines))

    def clear(self) -> None:
        """Take it off the screen, so that something else can be written there."""
        if self._drawn:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            erased, self._drawn = self._erasure(columns), ()
            _write(erased)

    def end(self) -> None:
        self._draw = None
        self.clear()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nothing is drawn meanwhile: somebody is asked something."""
        self.clear()
        self._away += 1
        try:
            yield
        finally:
            self._away -= 1

    def _erasure(self, columns: int) -> str:
        if not self._drawn:
            return ""
        up = sum(rows(line, columns) for line in self._drawn) - 1
        return "\r" + (f"\x1b[{up}A" if up else "") + "\x1b[J"


def _write(text: str) -> None:
    sys.stderr.write(spelled(text, sys.stderr.encoding or "utf-8"))
    sys.stderr.flush()


LINE: Final = LiveLine()
"""There is one terminal."""
