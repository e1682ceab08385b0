"""The MCP clients that we can be added to: the file of each, and the shape of an entry there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

from claude_mcp.config import UserDirectories

ENTRY: Final = "claude-mcp"
"""Our name in a client's list of servers."""


class Base(Enum):
    """What a client's path begins with."""

    HOME = auto()
    APPLICATIONS = auto()
    XDG = auto()
    """Also on macOS."""
    CLAUDE = auto()


@dataclass(frozen=True, slots=True)
class Client:
    """One client. ``path`` is relative to ``base``."""

    title: str
    base: Base
    path: str
    section: str = "mcpServers"
    typed: bool = False
    """Its entries name their transport."""

    def file(self, user: UserDirectories) -> Path:
        match self.base:
            case Base.HOME:
                return user.home / self.path
            case Base.CLAUDE:
                return user.claude / self.path
            case Base.XDG if user.system != "win32":
                return user.xdg / self.path
        return user.applications / self.path

    def entry(self, command: list[str]) -> dict[str, object]:
        """What starts our server, in this client's words."""
        kind = {"type": "stdio"} if self.typed else {}
        return {**kind, "command": command[0], "args": command[1:]}


CLIENTS: Final = {
    "claude-desktop": Client(
        "Claude Desktop", Base.APPLICATIONS, "Claude/claude_desktop_config.json"
    ),
    "claude-code": Client("Claude Code", Base.CLAUDE, ".claude.json", typed=True),
    "cursor": Client("Cursor", Base.HOME, ".cursor/mcp.json"),
    "vscode": Client("VS Code", Base.APPLICATIONS, "Code/User/mcp.json", "servers", typed=True),
    "windsurf": Client("Windsurf", Base.HOME, ".codeium/windsurf/mcp_config.json"),
    "zed": Client("Zed", Base.XDG, "zed/settings.json", "context_servers"),
}
