"""Explains why an engine, or the user of a session, may not enter a host path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from claude_mcp.contract.places import WORKSPACE
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.spec import ContainerSpec
from claude_mcp.errors import EngineError
from claude_mcp.sessions.paths import policy

_DENIED: Final = re.compile(r"permission denied", re.IGNORECASE)
_NOT_ENTERED: Final = re.compile(r"\bchdir\b.*permission denied", re.IGNORECASE)
"""How runtimes say that a container's user may not enter its working directory."""


def explain(error: EngineError, engine: Engine, spec: ContainerSpec) -> None:
    """Give an error a hint if a host path that is mounted may be its cause."""
    if error.hint is None and _DENIED.search(error.message):
        hints = (policy.access_hint(Path(mount.source)) for mount in spec.mounts)
        error.hint = next(filter(None, hints), None)
    if error.hint is None and _NOT_ENTERED.search(error.message):
        project = next(mount.source for mount in spec.mounts if mount.target == WORKSPACE)
        who = "The session's user"
        if engine.dialect.rootless:
            who = f"Rootless {engine.title} runs as your user, but without your other groups, and"
        error.hint = (
            f"{who} may not enter {project}: own the directory, or give that user access, for "
            f"example with 'setfacl -m u:NAME:rwx {project}'."
        )
