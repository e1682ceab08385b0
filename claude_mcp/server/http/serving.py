"""Serves MCP over Streamable HTTP, until a signal arrives.

A stopping server ends no turn and no command: their callers have gone, as when a client vanishes.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import anyio
import uvicorn
from anyio.abc import TaskGroup, TaskStatus
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic import AnyHttpUrl, ValidationError
from starlette.applications import Starlette
from starlette.routing import Route

from claude_mcp import signals
from claude_mcp.config import Config, passed_descriptors
from claude_mcp.config_names import HOSTS_NAME, ORIGINS_NAME, TOKEN_NAME, URL_NAME
from claude_mcp.errors import ClaudeMcpError, ConfigError
from claude_mcp.server.app import STOP_SECONDS, build, raise_descriptor_limit
from claude_mcp.server.http import connections, gate, identity_provider, sockets, tokens
from claude_mcp.server.http.owners import Owners, Verifier, give_sessions, open_owners
from claude_mcp.sessions.registry import Sessions

logger = logging.getLogger(__name__)

PATH: Final = "/mcp"
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_CLIENTS: Final = 1_000
"""Clients of the revisions with a handshake; those that say nothing for half an hour are forgotten
and must begin again."""
KEEP_ALIVE_SECONDS: Final = 75
"""Longer than the reverse proxies in use keep an idle connection to us, so that they close it."""


BACKSTOP_SECONDS: Final = 3
"""How long an ended request may take to end."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call, as the configuration has it."""

    verifier: Verifier | None
    issuer: str | None
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    url: AnyHttpUrl | None


def access(config: Config, *, local: bool) -> Access:
    """Who may call a server that listens on these sockets.

    Raises:
        ConfigError: a setting cannot be used, or anybody on the network could call it.
    """
    known = tokens.load(config)
    provider = identity_provider.provider_of(config)
    hosts = _words(config, HOSTS_NAME)
    if not local and not known and provider is None:
        raise ConfigError(
            "A server that other machines can reach needs a token: its callers can do whatever the "
            "container engine can.",
            hint=f"Set {TOKEN_NAME} to the output of 'openssl rand -hex 32', or name a file of "
            "tokens.",
        )
    if not local and not hosts:
        raise ConfigError(
            "A server that other machines can reach needs the names under which they do, so that "
            "no web page can call it under another.",
            hint=f"Set {HOSTS_NAME}, for example to mcp.example.com.",
        )
    if known.subjects and provider is None:
        raise ConfigError("A token has a subject, but there is no identity provider.")
    verifying = None if provider is None else identity_provider.IdentityProvider(
        provider, known.subjects
    )  # fmt: skip
    return Access(
        verifier=Verifier(known, verifying) if known or verifying else None,
        issuer=provider.issuer if provider else None,
        hosts=hosts,
        origins=_words(config, ORIGINS_NAME),
        url=_url(config),
    )


def _words(config: Config, name: str) -> tuple[str, ...]:
    return tuple(config.http.get(name, "").replace(",", " ").split())


def _url(config: Config) -> AnyHttpUrl | None:
    if URL_NAME not in config.http:
        return None
    try:
        return AnyHttpUrl(config.http[URL_NAME])
    except ValidationError:
        raise ConfigError(f"{URL_NAME} must be an address such as https://host/mcp.") from None


@dataclass(frozen=True, slots=True)
class Application:
    app: Starlette
    requests: gate.Requests


def application(config: Config, allowed: Access, *, local: bool) -> Application:
    """The ASGI application; its lifespan opens the sessions of its owners."""
    owners: list[Owners] = []

    @asynccontextmanager
    async def opened(config: Config) -> AsyncIterator[Owners]:
        async with open_owners(config) as each:
            owners.append(each)
            yield each

    async def check() -> None:
        # Of several engines, one that answers is enough.
        await owners[0].sessions().everywhere(_answers)

    server = build(config, opened)
    server.middleware.append(give_sessions)
    manager = StreamableHTTPSessionManager(
        server, max_request_body_size=MAX_BODY_BYTES, max_sessions=MAX_CLIENTS
    )
    requests = gate.Requests(manager.asgi_app)
    security = gate.security(allowed.hosts, allowed.origins, local=local)
    metadata = None
    routes = [Route("/healthz", gate.healthy), Route("/readyz", gate.Readiness(check).answer)]
    if allowed.issuer is not None and allowed.url is not None:
        metadata = build_resource_metadata_url(allowed.url)
        issuers = [AnyHttpUrl(allowed.issuer)]
        routes += create_protected_resource_routes(allowed.url, issuers)
    guarded = gate.guarded(requests, security, allowed.verifier, metadata)
    routes.append(Route(PATH, endpoint=guarded))
    return Application(Starlette(routes=routes, lifespan=lambda app: manager.run()), requests)


def uvicorn_for(served: Application) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            served.app,
            http=connections.Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=connections.MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=round(STOP_SECONDS) + BACKSTOP_SECONDS,
        )
    )


async def _answers(sessions: Sessions) -> None:
    await (await sessions.engine()).check()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """``_serve`` receives them."""
        yield


def serve(config: Config, host: str, port: int, ready: Callable[[str], None]) -> int:
    """Serve until a signal arrives; ``ready`` is told where.

    Raises:
        ConfigError: a setting cannot be used, or the port is in use.
    """
    raise_descriptor_limit()
    listening = sockets.passed(passed_descriptors()) or sockets.bound(host, port)
    try:
        allowed = access(config, local=sockets.is_local(listening))
        anyio.run(_serve, config, listening, allowed, ready)
    finally:
        for one in listening:
            one.close()
    return 0


async def _serve(
    config: Config,
    listening: Sequence[socket.socket],
    allowed: Access,
    ready: Callable[[str], None],
) -> None:
    served = application(config, allowed, local=sockets.is_local(listening))
    server = uvicorn_for(served)
    where = " and ".join(sockets.described(one) for one in listening)
    async with anyio.create_task_group() as tasks:
        await tasks.start(_stop_on_signal, server, served.requests, tasks)
        tasks.start_soon(connections.watch, server.server_state.connections)
        ready(where if allowed.verifier else f"{where}, for everybody on this machine")
        await server.serve(sockets=list(listening))
        tasks.cancel_scope.cancel()
    if not server.started:
        raise ClaudeMcpError("The server could not start.", hint="See its log.")


async def _stop_on_signal(
    server: uvicorn.Server,
    requests: gate.Requests,
    tasks: TaskGroup,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Let the server finish what is short; a second signal ends the process immediately."""
    with anyio.open_signal_receiver(*signals.stopping()) as received:
        task_status.started()
        async for number in received:
            if server.should_exit:
                os._exit(128 + number)
            logger.info("stopping on %s", signal.Signals(number).name)
            server.should_exit = True
            requests.end("GET")  # they only listen
            tasks.start_soon(_end_later, requests)


async def _end_later(requests: gate.Requests) -> None:
    await anyio.sleep(STOP_SECONDS)
    requests.end()
