"""Removes docstrings, comments and most of the indentation from the code that travels into a
container.

The lines keep their numbers, so that a traceback from inside points at the right line of the
source. A scan with one pattern takes a fifth of the time of ``tokenize`` or
``ast.unparse``, and the latter changes the lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# Strings come before comments, so that a '#' inside of a string begins none. A string ends at
# the same place whatever prefix it has: after a backslash, even a raw string goes on.
_TOKEN: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"""'
    r"|'''(?:[^\\]|\\.)*?'''"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'(?:[^'\\\n]|\\.)*'"
    r"|[ \t]*\#[^\n]*"
    r"|[\[({]"
    r"|[\])}]",
    re.DOTALL,
)
_BLOCK_QUOTE: Final = '"""'
# Not nothing: a function that has only a docstring needs some statement in its place.
_EMPTY: Final = '""'
_INDENTATION: Final = re.compile(r"(?<=\n) +")
INDENT: Final = 4
"""Of the source; one blank does as well."""


def strip(source: str) -> str:
    """The same module without comments, with empty docstrings and little indentation.

    A docstring here is any statement that is only a string in three double quotes.
    """
    return "".join(_kept(source))


def _kept(source: str) -> Iterator[str]:
    position = 0
    depth = 0
    for match in _TOKEN.finditer(source):
        token = match.group()
        replacement = None
        match token.lstrip()[0]:
            case "(" | "[" | "{":
                depth += 1
            case ")" | "]" | "}":
                depth -= 1
            case "#":
                replacement = ""
            case _ if depth == 0 and _is_statement(source, match):
                replacement = _EMPTY + "\n" * token.count("\n")
        yield _less_indented(source[position : match.start()])
        yield token if replacement is None else replacement
        position = match.end()
    yield _less_indented(source[position:])


def _less_indented(code: str) -> str:
    """``code`` has no strings, whose lines must stay as they are."""
    if "\n " not in code:
        return code
    return _INDENTATION.sub(lambda found: " " * -(-len(found[0]) // INDENT), code)


def _is_statement(source: str, match: re.Match[str]) -> bool:
    """Whether a string outside of brackets stands alone on its lines, in three double quotes."""
    line_start = source.rfind("\n", 0, match.start()) + 1
    return (
        match.group().startswith(_BLOCK_QUOTE)
        and not source[line_start : match.start()].strip()
        and not source.endswith("\\\n", 0, line_start)
        and source[match.end() : match.end() + 1] in ("\n", "")
    )
