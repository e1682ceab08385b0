"""What is drawn by hand: texts cut to a width, tables that fit a terminal, colors.

Nothing here writes. A character takes the columns that terminals give it, which is two for many.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import Final, TextIO

from claude_mcp.config import variable

BOLD: Final = "1"
DIM: Final = "2"
SLANTED: Final = "3"
INVERSE: Final = "7"
CYAN: Final = "36"
GAP: Final = "  "
ELLIPSIS: Final = "…"
SPELLINGS: Final = str.maketrans({"…": "~", "•": "*", "─": "-", "│": "|", "·": "-"})
_STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")
LEAST_COLUMNS: Final = 6
"""What is left of a column that is cut, at least."""


def columns(stream: TextIO) -> int | None:
    """The width of the terminal; None if it is none, and so has no width."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def is_dumb(stream: TextIO) -> bool:
    """Whether what was written there cannot be drawn over: no terminal, or a dumb one."""
    return not stream.isatty() or variable("TERM") in (None, "", "dumb")


def is_plain(stream: TextIO) -> bool:
    """Whether nothing but text may be written: ``is_dumb``, or ``NO_COLOR``."""
    return is_dumb(stream) or bool(variable("NO_COLOR"))


def spelled(text: str, encoding: str) -> str:
    """The text with other characters for those of ours that an encoding lacks."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(SPELLINGS)
    return text


def styled(text: str, *styles: str) -> str:
    return f"\x1b[{';'.join(styles)}m{text}\x1b[0m"


def bare(text: str) -> str:
    """The text without styles."""
    return _STYLE.sub("", text)


def rows(text: str, limit: int) -> int:
    """How many rows of a terminal of that width one line takes; it may have styles."""
    count, taken = 1, 0
    for character in bare(text):
        wide = _width(character)
        if taken + wide > limit:
            count, taken = count + 1, 0
        taken += wide
    return count


def folded(text: str, limit: int | None, indent: int = 0) -> str:
    """One line, broken between words where it would be wider; what follows is indented.

    It may have styles. A word that is wider than a row stays whole.
    """
    if limit is None or width(bare(text)) <= limit:
        return text
    first, *words = text.split(" ")
    lines, taken = [first], width(bare(first))
    for word in words:
        wide = width(bare(word))
        if taken + 1 + wide > limit and bare(lines[-1]).strip():
            lines.append(" " * indent + word)
            taken = indent + wide
        else:
            lines[-1] += f" {word}"
            taken += 1 + wide
    return "\n".join(lines)


def bar(done: int, total: int, to: int) -> str:
    """A bar of that width that is filled as far as the work is done."""
    filled = (to - 2) * min(done, total) // max(1, total)
    return f"[{'=' * filled}{' ' * (to - 2 - filled)}]"


def width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, limit: int) -> str:
    """The text, or its beginning and an ellipsis, in at most ``limit`` columns."""
    if width(text) <= limit:
        return text
    taken, kept = 0, []
    for character in text:
        taken += _width(character)
        if taken > limit - 1:
            break
        kept.append(character)
    return "".join(kept).rstrip() + ELLIPSIS if limit > 0 else ""


def pad(text: str, to: int) -> str:
    return text + " " * (to - width(text))


def table(
    rows: Sequence[Sequence[str]],
    limit: int | None = None,
    *,
    drop: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> list[str]:
    """The rows as lines with aligned columns, in at most ``limit`` columns of the terminal.

    The first row has the heads. For what does not fit, the columns ``drop`` are left out, in order,
    and then the widest is cut, again and again, down to ``LEAST_COLUMNS``. Those in ``whole`` are
    never cut, because people copy what is in them.
    """
    for head in drop:
        if limit is None or _total(_widths(rows)) <= limit:
            break
        kept = [number for number, name in enumerate(rows[0]) if name != head]
        rows = [[row[number] for number in kept] for row in rows]
    widths = _widths(rows)
    cut = [number for number, head in enumerate(rows[0]) if head not in whole]
    while limit is not None and _total(widths) > limit:
        widest = max(cut, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= LEAST_COLUMNS:
            break
        widths[widest] -= 1
    return [
        GAP.join(pad(fit(cell, to), to) for cell, to in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(width, cells)) for cells in zip(*rows, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)
