"""The secrets that reach a session on the agent's stdin, or later with ``configure``.

They exist in the agent's memory only, and are lost when the container stops. Credentials and MCP
servers arrive together or apart; each replaces what it replaces as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from claude_mcp.contract.messages import from_json, to_json


class Credential(NamedTuple):
    """``kind`` says what ``value`` is: a key, a token, the JSON of a Google credential, or where
    the machine's role can be asked for. Only the kind ``keys`` has the AWS keys instead."""

    kind: str
    value: Any = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"Credential(kind={self.kind!r})"


class Credentials(NamedTuple):
    """Who serves the model, and everything needed to reach it."""

    provider: str
    credential: Credential | None
    proxies: Mapping[str, str]
    """``HTTP_PROXY`` and the like; values may contain passwords."""
    secret_values: tuple[str, ...]
    """Everything in here that must be redacted."""
    base_url: str | None = None
    region: str | None = None
    project_id: str | None = None
    resource: str | None = None
    metadata_host: str | None = None
    custom_headers: str | None = None
    """Headers for every request to the provider, one ``Name: value`` a line."""

    def __repr__(self) -> str:
        return f"Credentials(provider={self.provider!r})"


class McpServers(NamedTuple):
    mcp_config: Mapping[str, Any]
    """As Claude Code reads it: an object ``mcpServers``."""
    mcp_secret_values: tuple[str, ...]
    """Everything in the configuration that must be redacted."""

    def __repr__(self) -> str:
        return "McpServers()"


class Handover(NamedTuple):
    """None for a part that is not handed over; the session keeps what it has of it."""

    credentials: Credentials | None = None
    mcp_servers: McpServers | None = None

    def to_json(self) -> dict[str, Any]:
        """One flat object with the keys of both parts."""
        return {
            key: value for part in self if part is not None for key, value in to_json(part).items()
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Handover:
        """Raises ``Malformed`` if a part is incomplete."""
        credentials = mcp_servers = None
        if "provider" in values:
            credentials = from_json(Credentials, values)
            if credentials.credential is not None:
                credential = from_json(Credential, credentials.credential)
                credentials = credentials._replace(credential=credential)
        if "mcpConfig" in values:
            mcp_servers = from_json(McpServers, values)
        return Handover(credentials, mcp_servers)
