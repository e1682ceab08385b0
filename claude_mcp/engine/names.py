"""Checks everything that names something on an engine's command line.

A checked name begins with a letter or a digit, so that a command line never reads it as an
option.
"""

from __future__ import annotations

import re
from typing import Final

from claude_mcp.errors import UsageError

REFERENCE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
IMAGE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:/@-]{0,511}")
RUNTIME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
KEY: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,127}")
SHOWN_CHARS: Final = 80
"""Upper bound on what a message repeats of an invalid name."""


def reference(value: str) -> str:
    """A container's name or id, or a volume's name."""
    if not REFERENCE.fullmatch(value):
        raise UsageError(f"{value[:SHOWN_CHARS]!r} is not a valid container name or id.")
    return value


def image_reference(value: str) -> str:
    if not IMAGE.fullmatch(value):
        raise UsageError(f"{value[:SHOWN_CHARS]!r} is not a valid image name.")
    return value


def runtime(value: str) -> str:
    """The name of a runtime that the engine's configuration declares.

    A path is refused: it would let the creator of a session choose a program to run on the host.
    """
    if not RUNTIME.fullmatch(value):
        raise UsageError(
            f"{value[:SHOWN_CHARS]!r} is not a valid runtime name.",
            hint="Declare the runtime in the engine's configuration and use its name.",
        )
    return value


def key(value: str) -> str:
    """The key of a label, or the name of a variable."""
    if not KEY.fullmatch(value):
        raise UsageError(f"{value[:SHOWN_CHARS]!r} is not a valid label or variable name.")
    return value
