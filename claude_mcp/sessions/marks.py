"""The label by which a container is known as a session."""

from __future__ import annotations

from typing import Final

SESSION: Final = "claude-mcp.session"
"""Its value is the version of the schema."""
SCHEMA: Final = "1"
