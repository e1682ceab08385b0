"""A permission question, and a denial, as text for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def question_text(tool: str, tool_input: Mapping[str, Any], description: str | None) -> str:
    """The tool, each of its arguments, and Claude's own description."""
    lines = [tool, *(f"  {name}: {_indented(value)}" for name, value in tool_input.items())]
    if description and description not in tool_input.values():
        lines.append(f"  ({description})")
    return "\n".join(lines)


def denial_text(tool: str, tool_input: Mapping[str, Any], reason: str | None) -> str:
    """What was denied, and why if somebody said so."""
    denied = question_text(tool, tool_input, None)
    if reason is None:
        return f"Denied for lack of permission: {denied}"
    return f"Denied: {denied}\n  (reason: {_indented(reason)})"


def _indented(value: Any) -> str:
    """A value indented so that it cannot be mistaken for a line of ours."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "\n    ".join(text.splitlines())
