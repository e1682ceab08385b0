"""What the agent is told in its argv about a session; readable by anybody, so never a secret.

The agent reads the settings at every start of the container.
"""

from __future__ import annotations

from typing import NamedTuple

from claude_mcp.contract.workspaces import BIND

OPEN = "open"
RESTRICTED = "restricted"
NO_NETWORK = "none"
"""The values of ``Settings.network``."""

ASK = "ask"
BYPASS = "bypass"
"""The values of ``Settings.permission_mode``: ask a person, or allow every tool."""


class Settings(NamedTuple):
    permission_mode: str
    idle_seconds: float
    """Claude Code is stopped after being idle for this long."""
    permission_seconds: float
    """An unanswered permission question is denied after this long."""
    model: str | None = None
    small_fast_model: str | None = None
    trust_project: bool = False
    """Whether Claude Code loads the project's own settings."""
    append_system_prompt: str | None = None
    expires_at: float | None = None
    """When the session's lifetime ends, in seconds since 1970."""
    idle_timeout_seconds: float | None = None
    """The session ends itself after being unused for this long."""
    workspace: str = BIND
    """A kind in `workspaces`."""
    base: str | None = None
    """The commit that a clone began with."""
    network: str = OPEN
    session_name: str | None = None
    """The name the proxy knows the session by; set when the network is not open."""
    stays_with_work: bool = False
    """The session does not end by itself while it holds work that is nowhere else, because its
    files would end with it."""
    ports: tuple[int, ...] = ()
    """Ports on the session's loopback that are published on the host."""
    git_hooks: str | None = None
    """The directory that starts with a copy of ``places.HOST_HOOKS``."""
