"""A permission question as text for people."""

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


def _indented(value: Any) -> str:
    """A value indented so that it cannot be mistaken for a line of ours."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "\n    ".join(text.splitlines())
