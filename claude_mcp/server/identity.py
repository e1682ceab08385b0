"""How the server introduces itself to clients."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

from mcp.types import Icon

NAME: Final = "claude-mcp"
TITLE: Final = "Claude Code sessions"


def icon() -> Icon:
    """Our icon, with its picture inside, so that a client needs no network to show it."""
    picture = (Path(__file__).parent / "icon.svg").read_bytes()
    return Icon(
        src=f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}",
        mime_type="image/svg+xml",
        sizes=["any"],
    )
