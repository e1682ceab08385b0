"""What this process remembers about sessions in order to save engine calls.

It may be out of date, so a user of a remembered session must notice that its container has gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from claude_mcp.sessions.session import Session


class KnownSessions:
    """Sessions by their full ids and names, and the MCP servers that were given to them."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._mcp_configs: dict[str, Mapping[str, Any]] = {}

    def get(self, reference: str) -> Session | None:
        """Never by a prefix of an id, because another session may match it by now."""
        return self._sessions.get(reference)

    def remember(self, session: Session) -> None:
        for reference in (session.id, session.container_id, session.name):
            self._sessions[reference] = session

    def forget(self, session: Session) -> None:
        for reference in (session.id, session.container_id, session.name):
            self._sessions.pop(reference, None)

    def keep_mcp_config(self, session: Session, config: Mapping[str, Any]) -> None:
        """A session loses its MCP servers with its credentials, and gets both back together."""
        self._mcp_configs[session.container_id] = config

    def mcp_config_of(self, session: Session) -> Mapping[str, Any] | None:
        return self._mcp_configs.get(session.container_id)

    def drop_mcp_config(self, session: Session) -> None:
        self._mcp_configs.pop(session.container_id, None)
