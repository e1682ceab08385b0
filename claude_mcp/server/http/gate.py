"""What a request must pass before it reaches MCP: the host it names, its origin, its token.

Nothing of a body is read before that. ``/healthz`` and ``/readyz`` ask for none of it, because
they tell a stranger nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import TokenVerifier
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from pydantic import AnyHttpUrl
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from claude_mcp.errors import ClaudeMcpError

logger = logging.getLogger(__name__)

BODY_SECONDS: Final = 30.0
"""How long a request's body may take to arrive."""
KNOWN_SECONDS: Final = 2.0
"""How long it is not asked again whether the engine answers."""

LOCAL: Final = ("127.0.0.1", "localhost", "[::1]")


def security(hosts: Sequence[str], origins: Sequence[str], *, local: bool) -> (
    TransportSecuritySettings
):  # fmt: skip
    """The names and origins that are served; on the loopback also its own names."""
    names = [*hosts, *(LOCAL if local else ())]
    return TransportSecuritySettings(
        # A client leaves out the port that is usual for its scheme.
        allowed_hosts=[each for name in names for each in (name, f"{name}:*")],
        allowed_origins=[
            *origins,
            *(f"http://{name}{port}" for name in (LOCAL if local else ()) for port in ("", ":*")),
        ],
    )


def guarded(
    app: ASGIApp,
    settings: TransportSecuritySettings,
    verifier: TokenVerifier | None,
    metadata_url: AnyHttpUrl | None = None,
) -> ASGIApp:
    """The application for those who pass. Without a verifier, no token is asked for."""
    app = _BodyInTime(app)
    if verifier is not None:
        app = RequireAuthMiddleware(app, [], metadata_url)
        app = AuthContextMiddleware(app)
        app = AuthenticationMiddleware(app, backend=BearerAuthBackend(verifier))
    return _Addressed(app, settings)


class _Addressed:
    """Answers 421 to a request for another host, and 403 to one of a foreign web page."""

    def __init__(self, app: ASGIApp, settings: TransportSecuritySettings) -> None:
        self._app = app
        self._security = TransportSecurityMiddleware(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self._security.validate_request(Request(scope))
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _TooSlow(Exception):
    pass


class _BodyInTime:
    """Answers 408 if the body does not arrive in time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deadline = anyio.current_time() + BODY_SECONDS
        complete = False

        async def in_time() -> Message:
            nonlocal complete
            if complete:
                return await receive()
            message: Message | None = None
            with anyio.move_on_at(deadline):
                message = await receive()
            if message is None:
                raise _TooSlow
            complete = not message.get("more_body", False)
            return message

        try:
            await self._app(scope, in_time, send)
        except _TooSlow:
            logger.info("a request's body did not arrive within %g s", BODY_SECONDS)
            response = PlainTextResponse(
                "The request's body did not arrive in time.", 408, {"connection": "close"}
            )
            await response(scope, receive, send)


class Requests:
    """The requests that are being answered, so that a stopping server can end them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: dict[anyio.CancelScope, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = complete = False

        async def noted(message: Message) -> None:
            nonlocal started, complete
            await send(message)
            started = True
            complete = message["type"] == "http.response.body" and not message.get("more_body")

        with anyio.CancelScope() as answering:
            self._open[answering] = scope["method"]
            try:
                await self._app(scope, receive, noted)
            finally:
                del self._open[answering]
        if answering.cancelled_caught and not complete:
            if started:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                response = PlainTextResponse("The server stops.", 503, {"connection": "close"})
                await response(scope, receive, send)

    def end(self, method: str | None = None) -> None:
        """End those of this method, or all."""
        for answering, each in self._open.items():
            if method in (None, each):
                answering.cancel()


class Readiness:
    """``/readyz``: whether the engine answers, asked at most once in ``KNOWN_SECONDS``."""

    def __init__(self, check: Callable[[], Awaitable[None]]) -> None:
        self._check = check
        self._asking = anyio.Lock()
        self._known_at = float("-inf")
        self._answers = False

    async def answer(self, request: Request) -> PlainTextResponse:
        async with self._asking:
            if anyio.current_time() >= self._known_at + KNOWN_SECONDS:
                self._answers = await self._ask()
                self._known_at = anyio.current_time()
        if self._answers:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("The container engine does not answer.\n", 503)

    async def _ask(self) -> bool:
        try:
            await self._check()
        except ClaudeMcpError as error:
            logger.warning("not ready: %s", error)
            return False
        return True


async def healthy(request: Request) -> PlainTextResponse:
    """``/healthz``: the process serves requests."""
    return PlainTextResponse("ok\n")
