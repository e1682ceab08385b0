"""Writes to stdout (data) and stderr (talk); secrets are redacted in both."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from claude_mcp.cli.drawing import DIM, fit, is_plain, spelled, styled
from claude_mcp.cli.drawing import columns as columns_of
from claude_mcp.cli.line import LINE
from claude_mcp.cli.words import word
from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.wording import worded


def write(text: str, stream: TextIO | None = None) -> None:
    """Print data unchanged; characters that the stream cannot encode become question marks."""
    stream = stream or sys.stdout
    LINE.clear()
    stream.flush()
    encoding = stream.encoding or "utf-8"
    data = memoryview(spelled(_told(text), encoding).encode(encoding, "replace"))
    while data:
        # Unbuffered streams (PYTHONUNBUFFERED) may write only a part, and return its size.
        data = data[stream.buffer.write(data) :]
    if stream.isatty():
        stream.flush()


def write_json(value: Any) -> None:
    write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def talk(line: str) -> None:
    LINE.clear()
    text = spelled(visible(_told(line)), sys.stderr.encoding or "utf-8")
    print(text, file=sys.stderr, flush=True)


def step(line: str) -> None:
    """Say what is being done. On a terminal, it takes one row."""
    text, limit = f"  {visible(_told(line))}", columns_of(sys.stderr)
    if limit is not None:
        text = fit(text, limit)
    if is_plain(sys.stderr):
        talk(text)
        return
    LINE.clear()
    print(styled(spelled(text, sys.stderr.encoding), DIM), file=sys.stderr, flush=True)


def _told(text: str) -> str:
    """The text without secrets, and with the command line's names in it."""
    return worded(redactor.redact(text), word)


def visible(text: str) -> str:
    """The text without terminal control characters, which may come from a session."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def for_terminal(text: str) -> str:
    """``visible`` if stdout is a terminal, else unchanged."""
    return visible(text) if sys.stdout.isatty() else text
