"""What a caller asks of a new session, and what the caller gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_mcp.sessions.mcp.servers import McpServer
from claude_mcp.sessions.providers.options import ProviderRequest
from claude_mcp.sessions.providers.resolve import NOTHING_ASKED
from claude_mcp.sessions.session import Session


@dataclass(frozen=True, slots=True)
class Mount:
    """A further host path for the session; both paths absolute."""

    host_path: str
    container_path: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What a caller asks of a new session; None means the server's default."""

    project_path: str
    session_name: str | None = None
    provider: ProviderRequest = NOTHING_ASKED
    image: str | None = None
    model: str | None = None
    strict_permissions: bool = False
    trust_project: bool = False
    """What the project's own settings name may run, inside the session."""
    trust_git: bool = False
    """The session may change what makes the host's git run programs."""
    mounts: tuple[Mount, ...] = ()
    mcp_config: Mapping[str, Any] | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    """See ``limits.contain``."""
    read_only_root: bool | None = None
    runtime: str | None = None
    timeout_seconds: float | None = None
    """The session's time, and how long it may go unused; 0 for no end."""
    idle_timeout_seconds: float | None = None
    network: str | None = None
    """``open``, ``restricted`` or ``none``."""
    allowed_hosts: tuple[str, ...] = ()
    """What a restricted session may reach besides its provider; see ``proxy.names.parse_host``."""


@dataclass(frozen=True, slots=True)
class Created:
    session: Session
    engine: str
    warnings: tuple[str, ...]
    mcp_servers: tuple[McpServer, ...] = ()
