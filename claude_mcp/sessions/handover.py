"""Gives a running session credentials and MCP servers.

A session keeps them in memory only: restarting its container erases them, and keys expire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from claude_mcp.contract import operations
from claude_mcp.contract.handover import Credentials, Handover
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.wording import named
from claude_mcp.errors import NextStep, SessionNotReady, UsageError
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.mcp import config as mcp_config
from claude_mcp.sessions.mcp import hosts as mcp_hosts
from claude_mcp.sessions.providers import resolve
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.options import SECRET_OPTIONS, ProviderRequest
from claude_mcp.sessions.session import Session

UNKNOWN_HOST: Final = (
    "An MCP server runs on this machine. The session can reach it only if it was created with a "
    "server or a gateway on this machine; otherwise create a new session with this "
    f"{named('mcpConfig')}."
)


@dataclass(frozen=True, slots=True)
class HandedOver:
    """``credentials`` says whose they were; None if only MCP servers were handed over."""

    session: Session
    credentials: CredentialSource | None
    mcp_servers: tuple[str, ...]
    warnings: tuple[str, ...]


async def give(
    handle: SessionHandle, options: Mapping[str, str], config: Mapping[str, Any] | None = None
) -> HandedOver:
    """Give a session credentials of its own, MCP servers (an ``mcpConfig``), or both.

    With neither, it gets the server's current credentials. The next prompt uses what is given.

    Raises:
        UsageError: they cannot be used, or not for this session.
        SessionNotReady: the server has no credentials to give.
        SessionNotFound, SessionAmbiguous, AgentError, EngineError
    """
    given = ProviderRequest(options=options)  # from here on the redactor knows its secrets
    checked = None
    warnings: tuple[str, ...] = ()
    if config is not None:
        checked = mcp_config.check(config) or {"mcpServers": {}}
    pinned = await handle.pinned()
    if checked is not None:
        servers = mcp_hosts.translate(checked, pinned.engine.dialect)
        checked, warnings = servers.config, servers.warnings
        if servers.needs_alias and pinned.engine.dialect.extra_hosts:
            warnings += (UNKNOWN_HOST,)
    whose: CredentialSource | None = None
    credentials: Credentials | None = None
    if given.options:
        provider = _own(pinned, given.options)
        whose, credentials = provider.source, provider.credentials
        warnings += provider.warnings
    elif checked is None:
        whose, credentials = CredentialSource.SERVER, _servers(pinned)
    await _configure(pinned, Handover(credentials, mcp_config.handover(checked)))
    if checked is not None:
        pinned.keep_mcp_config(checked)
    return HandedOver(
        pinned.session, whose, tuple(checked["mcpServers"] if checked else ()), warnings
    )


async def restore(handle: SessionHandle) -> None:
    """Give a session that has lost its credentials the server's.

    Its MCP servers go with them, if this process knows them.

    Raises:
        SessionNotReady: it was created with credentials of its own, or the server has none.
        UsageError: the server's settings for the session's provider no longer fit together.
    """
    pinned = await handle.pinned()
    await _configure(pinned, Handover(_servers(pinned), mcp_config.handover(pinned.mcp_config)))


async def _configure(pinned: SessionHandle, handover: Handover) -> None:
    configure = operations.Configure(handover.to_json())
    await pinned.request(operations.CONFIGURE, to_json(configure))


def _servers(handle: SessionHandle) -> Credentials:
    session = handle.session
    if session.credentials is CredentialSource.SESSION:
        raise SessionNotReady(
            f"The session {session.name!r} was created with its own credentials. It keeps them in "
            "memory only, so they were lost when its container restarted.",
            hint=f"Give them to it again. {_needed(session)}",
            steps=(NextStep.GIVE_CREDENTIALS,),
        )
    credentials = resolve.restore(
        handle.config,
        handle.engine.dialect,
        session.provider,
        session.credentials,
        session.places,
    )
    if credentials is None:
        raise SessionNotReady(
            f"Neither the session {session.name!r} nor the server has credentials.",
            hint="Set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or CLAUDE_CODE_OAUTH_TOKEN for the "
            "server, or give the session its own.",
            steps=(NextStep.GIVE_CREDENTIALS,),
        )
    return credentials


def _own(handle: SessionHandle, options: Mapping[str, str]) -> resolve.Provider:
    session = handle.session
    if session.credentials is CredentialSource.SERVER:
        raise UsageError(
            f"The session {session.name!r} uses the server's credentials and gets them "
            "automatically.",
            hint="For other credentials, create a session with those.",
        )
    lost = [name for name, value in session.places.items() if not value]
    fixed = [name for name in options if name not in (*SECRET_OPTIONS, *lost)]
    if fixed:
        raise UsageError(
            f"{', '.join(fixed)} cannot be changed: it was fixed when the session was created."
        )
    missing = [name for name in lost if name not in options]
    if missing:
        raise UsageError(
            f"{', '.join(missing)} contained a password and was lost too.", hint=_needed(session)
        )
    provider = resolve.known_provider(session.provider)
    request = ProviderRequest(provider, {**session.places, **options})
    return resolve.resolve(handle.config, handle.engine.dialect, request)


def _needed(session: Session) -> str:
    secret = [name for name, value in session.places.items() if not value]
    further = f", and {' and '.join(secret)}" if secret else ""
    return f"It needs a credential for {resolve.known_provider(session.provider)}{further}."
