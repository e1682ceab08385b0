"""Turns frames into short text events for people and models. No I/O; runs on Python 3.9."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass

from claude_mcp.claude.protocol import ApiRetry, Assistant, Frame, ToolResults, ToolUse

HEADLINE_CHARACTERS = 120


@dataclass(frozen=True)
class Event:
    """`kind`: `message`, `tool_call`, `tool_result`, `tool_error` or `api_retry`."""

    kind: str
    text: str


def events_of(frame: Frame, workspace: str = "/workspace") -> tuple[Event, ...]:
    """The events of a frame, in full length; most frames have none."""
    if isinstance(frame, Assistant):
        messages = [Event("message", text) for text in frame.texts if text.strip()]
        return (*messages, *(Event("tool_call", call_text(t, workspace)) for t in frame.tool_uses))
    if isinstance(frame, ToolResults):
        return tuple(
            Event("tool_error" if result.is_error else "tool_result", result.text)
            for result in frame.results
        )
    if isinstance(frame, ApiRetry):
        reason = f" ({frame.status})" if frame.status else ""
        return (Event("api_retry", f"API retry {frame.attempt} of {frame.max_retries}{reason}"),)
    return ()


def headline(text: str) -> str:
    """The first line with words, shortened, without control and invisible characters."""
    for line in text[: 100 * HEADLINE_CHARACTERS].splitlines():
        visible = (c if unicodedata.category(c)[0] != "C" else " " for c in line)
        words = " ".join("".join(visible).split())
        if len(words) > HEADLINE_CHARACTERS:
            return words[: HEADLINE_CHARACTERS - 1] + "…"
        if words:
            return words
    return ""


# The most informative argument of a call; the first one present is used.
_TELLING_ARGUMENTS = (
    "command",
    "file_path",
    "notebook_path",
    "pattern",
    "path",
    "url",
    "query",
    "description",
    "skill",
    "prompt",
)


def call_text(tool: ToolUse, workspace: str) -> str:
    """`Bash: ls -la`, followed by the other arguments as JSON on a second line."""
    rest = dict(tool.input)
    name = next((n for n in _TELLING_ARGUMENTS if isinstance(rest.get(n), str)), None)
    text = tool.name
    if name is not None:
        value: str = rest.pop(name)
        prefix = workspace.rstrip("/") + "/"
        is_path = name in ("file_path", "notebook_path", "path")
        text += f": {value[len(prefix) :] if is_path and value.startswith(prefix) else value}"
    return f"{text}\n{json.dumps(rest, ensure_ascii=False)}" if rest else text
