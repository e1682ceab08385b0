"""The sessions of each owner, and whose a request is.

Every owner has ``Sessions`` of its own, which find nothing but that owner's. They are opened when
the owner first calls, and closed with the server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
from anyio.abc import TaskGroup
from mcp.server import ServerRequestContext
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.context import CallNext, HandlerResult
from pydantic import SkipValidation

from claude_mcp.config import Config
from claude_mcp.errors import ungrouped
from claude_mcp.server.http.identity_provider import IdentityProvider
from claude_mcp.server.http.tokens import OPERATOR, Grant, Tokens
from claude_mcp.sessions.registry import Sessions


class Owners:
    def __init__(self, config: Config, tasks: TaskGroup) -> None:
        self.config = config
        self._tasks = tasks
        self._sessions: dict[str, Sessions] = {}

    def sessions(self, grant: Grant = OPERATOR) -> Sessions:
        if grant.owner not in self._sessions:
            config = grant.applied_to(self.config)
            made: type[Sessions] = Sessions
            if config.engines:
                from claude_mcp.sessions.fleet import Fleet

                made = Fleet
            self._sessions[grant.owner] = made(config, self._tasks)
        return self._sessions[grant.owner]

    async def finish(self) -> None:
        async with anyio.create_task_group() as tasks:
            for sessions in self._sessions.values():
                tasks.start_soon(sessions.finish_sweeping)


@asynccontextmanager
async def open_owners(config: Config) -> AsyncIterator[Owners]:
    """Owners for as long as the block runs; leaving it closes every channel."""
    with ungrouped():
        async with anyio.create_task_group() as tasks:
            try:
                owners = Owners(config, tasks)
                yield owners
                await owners.finish()
            finally:
                tasks.cancel_scope.cancel()


class Granted(AccessToken):
    """A verified token and what it allows; the token itself is forgotten."""

    grant: SkipValidation[Grant]


class Verifier:
    """The SDK's ``TokenVerifier``: the tokens of the configuration, and an identity provider's."""

    def __init__(self, tokens: Tokens, provider: IdentityProvider | None = None) -> None:
        self._tokens = tokens
        self._provider = provider

    async def verify_token(self, token: str) -> AccessToken | None:
        grant = self._tokens.find(token)
        if grant is not None:
            name = f"token:{grant.owner}" if grant.owner else "operator"
            return Granted(token="", client_id=name, scopes=[], grant=grant)
        if self._provider is None:
            return None
        verified = await self._provider.verify(token)
        if verified is None:
            return None
        return Granted(
            token="",
            client_id=verified.grant.owner,
            scopes=[],
            subject=verified.subject,
            grant=verified.grant,
        )


async def give_sessions(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """A middleware: each request acts on the sessions of whoever sent it.

    Nobody is the operator: ``gate`` lets requests without a token through only if the server has
    no tokens at all.
    """
    user = ctx.request.scope.get("user") if ctx.request is not None else None
    grant = OPERATOR
    if isinstance(user, AuthenticatedUser):
        assert isinstance(user.access_token, Granted)
        grant = user.access_token.grant
    owners: Owners = ctx.lifespan_context
    return await call_next(replace(ctx, lifespan_context=owners.sessions(grant)))
