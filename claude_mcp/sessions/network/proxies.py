"""The proxies' containers: created on demand, shared, and removed with their last session.

A proxy has no state of its own. It can always be created again from its sessions' labels. The
engine restarts it after a crash; if it was stopped or removed, the next call to one of its
sessions starts it again.
"""

from __future__ import annotations

import logging
from typing import Final

import anyio

from claude_mcp.contract import places
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.spec import ContainerSpec
from claude_mcp.errors import ClaudeMcpError, EngineError
from claude_mcp.proxy import READY
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.network import companions
from claude_mcp.sessions.network.access import (
    EGRESS_LABEL,
    PROXY_LABEL,
    PROXY_OF_LABEL,
    Proxy,
    proxy_from_json,
    proxy_traffic,
)

logger = logging.getLogger(__name__)

WHAT: Final = "the session's proxy"


async def ensure(engine: Engine, proxy: Proxy) -> None:
    """Make sure that the proxy runs; takes one engine call if it does already.

    Raises:
        EngineError, ImageNotFound: it cannot be started.
    """
    marks = (PROXY_OF_LABEL, proxy.id)
    await companions.ensure(engine, proxy.name, marks, WHAT, lambda: _create(engine, proxy))


async def address(engine: Engine, proxy: Proxy) -> str:
    """Where the proxy, which runs, is reached on an engine with ``network_policies``.

    Raises:
        EngineError: it has disappeared, or others could use it too.
    """
    found = await engine.inspect([proxy.name])
    if not found or not found[0].address:
        raise EngineError("The session's proxy has just been removed.", hint="Try again.")
    await engine.ensure_traffic(found[0].id, proxy_traffic(proxy.id))
    return found[0].address


async def _create(engine: Engine, proxy: Proxy) -> None:
    spec = await _spec(engine, proxy)
    await companions.create(engine, spec, payload.proxy_archive(), WHAT, READY, proxy.policy)


async def _spec(engine: Engine, proxy: Proxy) -> ContainerSpec:
    dialect = engine.dialect
    carried = dialect.environment_carries_code
    return await companions.spec(
        engine,
        name=proxy.name,
        image=proxy.image,
        command=payload.proxy_command(proxy.policy)
        if carried
        else payload.receiving_proxy_command(),
        labels={PROXY_OF_LABEL: proxy.id, PROXY_LABEL: proxy.to_json()},
        directory=places.PROXY_DIRECTORY,
        extra_hosts=dialect.extra_hosts if dialect.host_alias in proxy.policy else (),
        traffic=proxy_traffic(proxy.id),
    )


async def release(engine: Engine, proxy: Proxy) -> None:
    """Remove the proxy unless a session still needs it, which takes one engine call."""
    if await engine.ids(EGRESS_LABEL, proxy.id):
        return
    await companions.remove(engine, proxy.name)
    if await engine.ids(EGRESS_LABEL, proxy.id):
        await ensure(engine, proxy)


async def release_or_log(engine: Engine, proxy: Proxy | None) -> None:
    """``release`` for the proxy of a removed session, if it had one.

    A failure is only logged: the session no longer exists, so nobody could act on an error.
    """
    if proxy is None:
        return
    try:
        with anyio.CancelScope(shield=True):  # otherwise the proxy would stay until a prune
            await release(engine, proxy)
    except ClaudeMcpError as error:
        logger.warning("proxy %s could not be removed: %s", proxy.name, error)


async def prune(engine: Engine) -> None:
    """Remove proxies that no session needs, left over when their sessions were removed."""
    for container in await engine.containers(PROXY_OF_LABEL):
        proxy = proxy_from_json(container.labels.get(PROXY_LABEL, ""))
        await release_or_log(engine, proxy)
