"""The two forms of a tool's answer."""

from __future__ import annotations

from typing import Any

from mcp.types import CallToolResult, TextContent


def text(result: CallToolResult) -> str:
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


def content(result: CallToolResult) -> dict[str, Any]:
    """The structure without its next step, which has tests of its own."""
    assert not result.is_error, text(result)
    structured: dict[str, Any] = result.structured_content
    assert "next" in structured
    return {name: value for name, value in structured.items() if name != "next"}
