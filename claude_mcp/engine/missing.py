"""The error for an engine's program that cannot be started."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
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


def not_found(
    program: str, environment: Mapping[str, str], hint: str | None = None
) -> EngineNotFound:
    """``hint`` is for a program that is nowhere."""
    for directory in DIRECTORIES:
        if directory.startswith("~") and "HOME" not in environment:
            continue
        place = directory.replace("~", environment.get("HOME", ""), 1)
        if "/" not in program and shutil.which(Path(place) / program) is not None:
            hint = (
                f"It is in {place}. Add that to the PATH that claude-mcp is started with, such as "
                "in 'env' of an MCP client's entry."
            )
            break
    return EngineNotFound(f"'{program}' is not installed or not on PATH.", hint=hint)
