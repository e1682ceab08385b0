"""Writes to stdout (data) and stderr (talk); secrets are redacted in both."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from claude_mcp.contract.redaction import redactor


def write(text: str, stream: TextIO | None = None) -> None:
    """Print data unchanged; characters that the stream cannot encode become question marks."""
    stream = stream or sys.stdout
    stream.flush()
    data = memoryview(redactor.redact(text).encode(stream.encoding or "utf-8", "replace"))
    while data:
        # Unbuffered streams (PYTHONUNBUFFERED) may write only a part, and return its size.
        data = data[stream.buffer.write(data) :]


def write_json(value: Any) -> None:
    write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def talk(line: str) -> None:
    print(visible(redactor.redact(line)), file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """The text without terminal control characters, which may come from a session."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def for_terminal(text: str) -> str:
    """``visible`` if stdout is a terminal, else unchanged."""
    return visible(text) if sys.stdout.isatty() else text
