"""What every front end shows of an operation's outcome, as values.

A view holds plain data only, and all of it: each field is always present, None if there is
nothing to say. Its JSON form is ``views.wire``'s, its text ``views.text``'s. The results
themselves are in ``sessions``, ``turns``, ``commands`` and ``workspaces``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from claude_mcp.views.wire import to_json

USD_DIGITS = 6
PART_CHARS = 50_000
"""How much of a turn's result, or of an event, one answer has."""


@dataclass(frozen=True, slots=True)
class Result:
    def wire(self) -> dict[str, Any]:
        """The JSON object: an MCP tool's structured content, a command's ``--json``."""
        wire: dict[str, Any] = to_json(self)
        return wire
