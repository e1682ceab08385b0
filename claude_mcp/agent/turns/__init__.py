"""Turns: their queue, the driver and its live Claude Code, permission questions, MCP servers."""
