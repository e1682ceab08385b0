"""How front ends offer a field of a request; declared once, in the field's metadata.

The field itself gives the name, the type and the default. From both, the MCP server derives an
argument's schema and the command line a flag.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

_KEY: Final = "option"


@dataclass(frozen=True, slots=True)
class Option:
    text: str
    """What it does, for models and people: starts with a small letter, ends without a full stop."""
    flag: str = ""
    """On the command line; a word without dashes is positional, and "" means not offered there."""
    metavar: str | None = None
    terminal: str = ""
    """Replaces ``text`` on the command line, where the value is given in another form."""
    repeatable: bool = False
    """The flag of a list takes one value each time; otherwise one value with commas in it."""
    argument: str = ""
    """The MCP argument, if it is not the field's name in camelCase."""
    minimum: float | None = None
    above: float | None = None
    """Smaller than any value."""
    configured: str = ""
    """The configuration name that holds the default."""


def option(text: str, **settings: Any) -> dict[str, Option]:
    """The metadata of an offered field; takes the fields of ``Option``."""
    return {_KEY: Option(text, **settings)}


def options(request: type[Any]) -> Iterator[tuple[str, Option]]:
    """The offered fields of a request, with their names, in order."""
    for field in fields(request):
        if _KEY in field.metadata:
            yield field.name, field.metadata[_KEY]
