"""MCP servers for the Claude in a session."""
