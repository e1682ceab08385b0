"""Credentials and MCP servers for a session that is there already.

A session keeps them in memory only: a restart of its container empties it, and keys expire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from claude_mcp.contract.handover import Credentials, Handover
from claude_mcp.errors import SessionNotReady, UsageError
from claude_mcp.sessions.mcp import config as mcp_config
from claude_mcp.sessions.providers import resolve as provider
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.options import SECRET_OPTIONS, ProviderRequest
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session

HOW: Final = "Hand them in again with set_credentials, or 'claude-mcp credentials'."


@dataclass(frozen=True, slots=True)
class HandedIn:
    """``credentials`` tells whose they were; None when only MCP servers were handed in."""

    session: Session
    credentials: CredentialSource | None
    mcp_servers: tuple[str, ...]
    warnings: tuple[str, ...]


async def hand_in(
    sessions: Sessions,
    reference: str,
    options: Mapping[str, str],
    config: Mapping[str, Any] | None = None,
) -> HandedIn:
    """Give a session credentials of its own, MCP servers (an ``mcpConfig``), or both; with
    neither, the server's credentials as they are now. The next prompt has them.

    Raises:
        UsageError: they cannot be used, or are not for this session.
        SessionNotReady: the server has no credentials that it could give.
        SessionNotFound, SessionAmbiguous, AgentError, EngineError
    """
    given = ProviderRequest(options=options)  # its secrets are redacted from here on
    checked = None
    if config is not None:
        checked = mcp_config.check(config) or {"mcpServers": {}}
    session = await sessions.find(reference)
    warnings: tuple[str, ...] = ()
    whose: CredentialSource | None = None
    credentials: Credentials | None = None
    if given.options:
        chosen = await _own(sessions, session, given.options)
        whose, warnings, credentials = chosen.source, chosen.warnings, chosen.credentials
    elif checked is None:
        whose, credentials = CredentialSource.SERVER, await _servers(sessions, session)
    handover = Handover(credentials, mcp_config.handover(checked)).to_json()
    session, _ = await sessions.request(session.id, "configure", {"secrets": handover})
    if checked is not None:
        sessions.keep_mcp_config(session, checked)
    return HandedIn(session, whose, tuple(checked["mcpServers"] if checked else ()), warnings)


async def restore(sessions: Sessions, session: Session) -> None:
    """Give a session that has no credentials (any more) those of the server.

    Its MCP servers go along, if this process knows them.

    Raises:
        SessionNotReady: it was made with credentials of its own, or the server has none.
        UsageError: the server's settings for its provider do not fit together any more.
    """
    handover = Handover(
        await _servers(sessions, session),
        mcp_config.handover(sessions.mcp_config_of(session)),
    )
    await sessions.request(session.id, "configure", {"secrets": handover.to_json()})


async def _servers(sessions: Sessions, session: Session) -> Credentials:
    if session.credentials is CredentialSource.SESSION:
        raise SessionNotReady(
            f"The session {session.name!r} was created with credentials of its own, which are "
            "kept in memory only and are lost when its container is started again.",
            hint=f"{HOW} {_needed(session)}",
        )
    engine = await sessions.engine()
    credentials = provider.restore(
        sessions.config, engine.dialect, session.provider, session.credentials, session.places
    )
    if credentials is None:
        raise SessionNotReady(
            f"The session {session.name!r} has no credentials, and neither has the server.",
            hint="Set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or CLAUDE_CODE_OAUTH_TOKEN for "
            "the server, or hand in some with set_credentials or 'claude-mcp credentials'.",
        )
    return credentials


async def _own(
    sessions: Sessions, session: Session, options: Mapping[str, str]
) -> provider.Provider:
    if session.credentials is CredentialSource.SERVER:
        raise UsageError(
            f"The session {session.name!r} uses the server's credentials and gets them by itself.",
            hint="For other credentials, create a session with those.",
        )
    lost = [name for name, value in session.places.items() if not value]
    fixed = [name for name in options if name not in (*SECRET_OPTIONS, *lost)]
    if fixed:
        raise UsageError(
            f"{', '.join(fixed)} cannot change any more: that was chosen when the session was "
            "created."
        )
    missing = [name for name in lost if name not in options]
    if missing:
        raise UsageError(
            f"{', '.join(missing)} held a password and was lost too.", hint=_needed(session)
        )
    engine = await sessions.engine()
    request = ProviderRequest(
        provider.known_provider(session.provider), {**session.places, **options}
    )
    return provider.resolve(sessions.config, engine.dialect, request)


def _needed(session: Session) -> str:
    secret = [name for name, value in session.places.items() if not value]
    further = f", and {' and '.join(secret)}" if secret else ""
    return f"It needs a credential for {provider.known_provider(session.provider)}{further}."
