"""The error for an engine's program that cannot be started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Final

from claude_mcp.errors import EngineNotFound

INSTALL: Final = "Install it, or choose another engine with CLAUDE_MCP_ENGINE."
DIRECTORIES: Final = (
    "/usr/local/bin",
    "/usr/bin",
    "/opt/homebrew/bin",
    "/opt/podman/bin",
    "/snap/bin",
    "/Applications/Docker.app/Contents/Resources/bin",
    "~/.docker/bin",
    "~/.rd/bin",
    "~/.orbstack/bin",
    "~/.local/bin",
)
"""Where the engines' installers put their programs. A desktop application often has a PATH without
them, and passes that on to an MCP server."""


def not_found(program: str, environment: Mapping[str, str]) -> EngineNotFound:
    """The hint says where it is, if an installer put it there, or else ``INSTALL``."""
    hint, home = INSTALL, environment.get("HOME")
    if "/" not in program:
        places = [
            each.replace("~", home or "", 1) for each in DIRECTORIES if home or each[0] != "~"
        ]
        if found := shutil.which(program, path=os.pathsep.join(places)):
            hint = (
                f"It is in {os.path.dirname(found)}. Add that to the PATH that claude-mcp is "
                "started with, such as in 'env' of an MCP client's entry."
            )
    return EngineNotFound(f"'{program}' is not installed or not on PATH.", hint=hint)
