"""The tools that this server offers."""

from __future__ import annotations

from functools import cache
from typing import Final

from mcp.types import Tool

from claude_mcp.config import Config
from claude_mcp.config_names import Toolset
from claude_mcp.server.command_tools import EXECUTE_COMMAND, GET_COMMAND, STOP_COMMAND
from claude_mcp.server.history_tools import LIST_TURNS
from claude_mcp.server.session_tools import (
    CREATE_SESSION,
    DESTROY_SESSION,
    GET_SESSION_LOGS,
    LIST_SESSIONS,
    SET_CREDENTIALS,
)
from claude_mcp.server.tool import Declaration
from claude_mcp.server.turn_tools import (
    CANCEL_TURN,
    EXECUTE_IN_SESSION,
    GET_TURN,
    RESPOND_PERMISSION,
)
from claude_mcp.server.usage_tools import GET_STATS
from claude_mcp.server.work_tools import TRANSFER_FILES
from claude_mcp.server.workspace_tools import APPLY_CHANGES, DISCARD_CHANGES, GET_CHANGES

INSTRUCTIONS: Final = (
    "Isolated Claude Code sessions, each in its own container with one project of the host as "
    "/workspace. Call create_session once per project, then execute_in_session as often as you "
    "like: the conversation continues. execute_command runs a shell command there without Claude. "
    "destroy_session removes the container; the project stays."
)

DECLARATIONS: Final = (
    CREATE_SESSION,
    EXECUTE_IN_SESSION,
    GET_TURN,
    LIST_TURNS,
    CANCEL_TURN,
    RESPOND_PERMISSION,
    SET_CREDENTIALS,
    LIST_SESSIONS,
    GET_STATS,
    DESTROY_SESSION,
    TRANSFER_FILES,
    EXECUTE_COMMAND,
    GET_COMMAND,
    STOP_COMMAND,
    GET_SESSION_LOGS,
    GET_CHANGES,
    APPLY_CHANGES,
    DISCARD_CHANGES,
)


def find(config: Config, name: str) -> Declaration | None:
    """The tool of this name, if there is one that the caller may use."""
    allowed = config.tools is None or name in config.tools
    return BY_NAME.get(name) if allowed else None


BY_NAME: Final = {each.name: each for each in DECLARATIONS}


@cache
def tools(
    toolsets: frozenset[Toolset] = frozenset(Toolset), names: frozenset[str] | None = None
) -> tuple[Tool, ...]:
    """The tools of these sets, as they are listed; with ``names``, only these and of any set."""
    return tuple(
        each.tool()
        for each in DECLARATIONS
        if (each.toolset in toolsets if names is None else each.name in names)
    )
