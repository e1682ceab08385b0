"""Names in messages that each front end says in its own way.

A message that a model and a person may read marks what a tool calls differently than the command
line, such as an argument. Whoever shows the message replaces the marked names. The marks are
Unicode's noncharacters, which exist for use within a program, so no other text has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_BEGIN, _END = "\ufdd0", "\ufdd1"
_MARKED = re.compile(f"{_BEGIN}([A-Za-z_.]+){_END}")


def named(name: str) -> str:
    """The name that the tools use, marked: of an argument (``limits.cpus``), a provider's option
    or a tool.
    """
    return f"{_BEGIN}{name}{_END}"


def worded(text: str, word: Callable[[str], str] = str) -> str:
    """The text with ``word`` of each marked name in its place; by default the name itself."""
    if _BEGIN not in text:
        return text
    return _MARKED.sub(lambda marked: word(marked[1]), text)
