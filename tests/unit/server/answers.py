"""The two forms of a tool's answer."""

from __future__ import annotations

from typing import Any

from mcp.types import CallToolResult, TextContent


def text(result: CallToolResult) -> str:
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


def content(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, text(result)
    structured: dict[str, Any] = result.structured_content
    return structured
