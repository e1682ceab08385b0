"""Turns frames into short text events for people and models. No I/O; runs on Python 3.9."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass

from claude_mcp.claude import fields
from claude_mcp.claude.protocol import ApiRetry, Assistant, Frame, ToolResults, ToolUse

HEADLINE_CHARACTERS = 120
LONGEST_DELAY_SECONDS = 40.0
"""Between two retries, unless the service asks for more: 32 s and up to a quarter (measured)."""
MAX_RETRIES = 1000


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
        return (Event("api_retry", _retry(frame)),)
    return ()


def _retry(retry: ApiRetry) -> str:
    delay = f" in {retry.delay_seconds:.0f} s" if retry.delay_seconds >= 1 else ""
    return f"API retry {retry.attempt} of {retry.max_retries}{delay}{_reason(retry, ': ')}"


def _reason(retry: ApiRetry, before: str) -> str:
    """The status and the service's words, or else Claude Code's; empty if nothing is known."""
    kind = retry.kind.replace("_", " ") if retry.kind != "unknown" else ""
    parts = (f"HTTP {retry.status}" if retry.status else "", retry.words or kind)
    reason = ", ".join(filter(None, parts))
    return before + reason if reason else ""


def waiting_note(retry: ApiRetry, elapsed_seconds: float) -> str:
    """What a running turn waits for, this long after a retry was announced."""
    left = retry.delay_seconds - elapsed_seconds
    when = f"follows in {left:.0f} s" if left >= 1 else "is being tried"
    return (
        f"The provider fails{_reason(retry, ': ').rstrip('.')}. Retry {retry.attempt} of "
        f"{retry.max_retries} {when}. If it keeps failing, the turn ends within about "
        f"{max(1.0, left) + _later_delays(retry):.0f} s."
    )


def _later_delays(retry: ApiRetry) -> float:
    """An upper bound for the delays after this one: each is at most twice the one before."""
    total, delay = 0.0, retry.delay_seconds
    for _ in range(min(retry.max_retries - retry.attempt, MAX_RETRIES)):
        delay = max(delay, min(2 * delay, LONGEST_DELAY_SECONDS))
        total += delay
    return total


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
    "plan",
)


def call_text(tool: ToolUse, workspace: str) -> str:
    """`Bash: ls -la`, followed by the other arguments as JSON on a second line."""
    rest = dict(tool.input)
    name = next((n for n in _TELLING_ARGUMENTS if isinstance(rest.get(n), str)), None)
    text = tool.name
    questions = fields.mappings(rest.get("questions"))
    if questions:
        text += ": " + " ".join(fields.string(each.get("question")) for each in questions)
    if name is not None:
        value: str = rest.pop(name)
        prefix = workspace.rstrip("/") + "/"
        is_path = name in ("file_path", "notebook_path", "path")
        text += f": {value[len(prefix) :] if is_path and value.startswith(prefix) else value}"
    return f"{text}\n{json.dumps(rest, ensure_ascii=False)}" if rest else text
