"""Markdown for a terminal with colors: what Claude writes, line by line, without its marks.

Only styles are added and marks left out: a text that is no Markdown is shown as it is. The text may
be anybody's, so what is looked for is bounded; it must not hold control characters any more.
"""

from __future__ import annotations

import re
from typing import Final

from claude_mcp.cli.drawing import BOLD, CYAN, DIM, SLANTED, folded, styled

_FENCE: Final = re.compile(r"\s*(```|~~~)")
_HEADING: Final = re.compile(r"#{1,6} +(.+?)(?: +#+)?$")
_BULLET: Final = re.compile(r"(\s*)[-*+] +(?=\S)")
_QUOTE: Final = re.compile(r"> ?(.*)")
_RULE: Final = re.compile(r"\s*([-*_])(?: *\1){2,}\s*$")
_INLINE: Final = re.compile(
    r"(?P<ticks>`{1,3})(?P<code>[^`].{0,198}?)(?P=ticks)"
    r"|\*\*(?P<bold>[^\s*](?:.{0,198}?\S)?)\*\*"
    r"|(?<![\w*])\*(?P<slanted>[^\s*](?:[^*]{0,198}[^\s*])?)\*(?![\w*])"
    r"|\[(?P<label>[^\]\[]{1,200})\]\((?P<url>[^()\s]{1,500})\)"
)
_START: Final = re.compile(r"\s*(?:[-*+] +|\d{1,3}[.)] +|> ?)?")
MAX_INDENT: Final = 20
LINE_CHARS: Final = 2_000
"""A longer line is shown as it is."""
RULE_COLUMNS: Final = 20


def render(text: str, limit: int | None = None) -> str:
    """The text with styles, its lines broken between words if they are wider than ``limit``."""
    markdown = Markdown(limit)
    lines = map(markdown.line, text.split("\n"))
    return "\n".join(line for line in lines if line is not None)


class Markdown:
    """A text that is rendered line by line, as it comes."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._fence = ""

    def line(self, line: str) -> str | None:
        """The next line; None if nothing is shown of it."""
        mark = _FENCE.match(line)
        if mark and (not self._fence or mark[1] == self._fence):
            self._fence = "" if self._fence else mark[1]
            return None
        return self.unfinished(line)

    def unfinished(self, line: str) -> str:
        """The beginning of the next line."""
        if self._fence:
            return styled(line, CYAN) if line else ""
        return folded(_line(line), self.limit, _indent(line))


def _indent(line: str) -> int:
    """Of what follows the first row of a line: below its words."""
    start = _START.match(line)
    return min(len(start[0]) if start else 0, MAX_INDENT)


def _line(line: str) -> str:
    if len(line) > LINE_CHARS:
        return line
    if heading := _HEADING.fullmatch(line):
        return styled(heading[1], BOLD)
    if _RULE.fullmatch(line):
        return styled("─" * RULE_COLUMNS, DIM)
    if quote := _QUOTE.fullmatch(line):
        return f"{styled('│', DIM)} {_inline(quote[1])}"
    return _inline(_BULLET.sub(r"\1• ", line, count=1) if _BULLET.match(line) else line)


def _inline(text: str) -> str:
    return _INLINE.sub(_styled, text)


def _styled(match: re.Match[str]) -> str:
    if match["code"] is not None:
        return styled(match["code"], CYAN)
    if match["bold"] is not None:
        return styled(match["bold"], BOLD)
    if match["slanted"] is not None:
        return styled(match["slanted"], SLANTED)
    return f"{styled(match['label'], BOLD)} ({match['url']})"
