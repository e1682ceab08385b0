"""The proxies' containers: created on demand, shared, and removed with their last session.

A proxy has no state of its own. It can always be created again from its sessions' labels. The
engine restarts it after a crash; if it was stopped or removed, the next call to one of its
sessions starts it again.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

import anyio

from claude_mcp.contract import places
from claude_mcp.engine import host
from claude_mcp.engine.engine import ContainerNameInUse, Engine, LimitRefused
from claude_mcp.engine.info import EngineInfo
from claude_mcp.engine.spec import ContainerSpec, Limits, VolumeMount
from claude_mcp.errors import ClaudeMcpError, EngineError, ImageNotFound
from claude_mcp.proxy import READY
from claude_mcp.sessions import limits
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.network.access import (
    EGRESS_LABEL,
    PROXY_LABEL,
    PROXY_OF_LABEL,
    Proxy,
    proxy_from_json,
)

logger = logging.getLogger(__name__)

READY_SECONDS: Final = 20.0
STARTING_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.1
LOG_MAX_SIZE: Final = "10m"
USER: Final = "0:0"
"""Root without any capability, which owns the socket's directory."""
LIMITS: Final = Limits(memory=256 * limits.MIB, pids=256)


async def ensure(engine: Engine, proxy: Proxy) -> None:
    """Make sure that the proxy runs; takes one engine call if it does already.

    Raises:
        EngineError, ImageNotFound: it cannot be started.
    """
    deadline = anyio.current_time() + STARTING_SECONDS
    while True:
        found = await engine.inspect([proxy.name])
        late = anyio.current_time() > deadline
        if not found:
            try:
                return await _create(engine, proxy)
            except ContainerNameInUse:
                if late:
                    raise
                logger.debug("another process is creating proxy %s", proxy.id)
        elif found[0].labels.get(PROXY_OF_LABEL) != proxy.id:
            raise EngineError(
                f"The container {proxy.name} has the name of the session's proxy and is not ours.",
                hint=f"If nobody needs it, remove it with '{engine.program} rm --force "
                f"{proxy.name}'.",
            )
        elif found[0].status == "running":
            return
        elif late or found[0].status in ("exited", "stopped"):
            return await engine.start(proxy.name)
        # Its creator is about to start or remove it, or the engine is restarting it.
        await anyio.sleep(POLL_SECONDS)


async def _create(engine: Engine, proxy: Proxy) -> None:
    dialect = engine.dialect
    info = await engine.info() if dialect.limits_need_delegation else None
    spec = _spec(engine, proxy, info)
    while True:
        try:
            with anyio.CancelScope(shield=True):  # a daemon completes the operation anyway
                async with engine.watching():
                    created = await engine.create(
                        spec, {places.PAYLOAD_VARIABLE: payload.proxy_archive()}
                    )
            try:
                await _start(engine, created.id)
            except BaseException:
                with anyio.CancelScope(shield=True), suppress(ClaudeMcpError):
                    await engine.remove(created.id)
                raise
            return
        except LimitRefused as error:
            if getattr(spec.limits, error.limit) is None:
                raise EngineError(
                    error.message
                ) from error  # not a limit of the session, so no retry there
            spec = limits.without(spec, error.limit)
        except ImageNotFound as error:
            raise ImageNotFound(
                f"{engine.title} has no image {proxy.image} to run a session's proxy from.",
                hint="Build it with scripts/build-custom-image.sh, or set CLAUDE_MCP_PROXY_IMAGE "
                "to an image that has python3.",
            ) from error


async def _start(engine: Engine, container_id: str) -> None:
    """Start the proxy and wait until it listens."""
    async with engine.start_attached(container_id) as stream:
        with anyio.move_on_after(READY_SECONDS) as waiting:
            async with engine.watching():
                async for line in stream.lines():
                    if line == READY:
                        return
                await stream.wait()
    if waiting.cancelled_caught:
        raise EngineError(
            f"The session's proxy was not ready within {READY_SECONDS:g} s.",
            hint="The machine may be overloaded; try again.",
        )
    raise engine.failed("start the session's proxy", stream.stderr_tail)


def _spec(engine: Engine, proxy: Proxy, info: EngineInfo | None) -> ContainerSpec:
    dialect = engine.dialect
    settable, _, _ = limits.settable(dialect, LIMITS, info)
    return ContainerSpec(
        name=proxy.name,
        image=proxy.image,
        command=payload.proxy_command(proxy.policy),
        labels={PROXY_OF_LABEL: proxy.id, PROXY_LABEL: proxy.to_json()},
        inherited=(places.PAYLOAD_VARIABLE,),
        volumes=(VolumeMount(proxy.name, places.PROXY_DIRECTORY, read_only=False),),
        user=USER,
        extra_hosts=dialect.extra_hosts if dialect.host_alias in proxy.policy else (),
        limits=settable,
        restart="on-failure",
        read_only_root=True,
        security_options=("label=disable",) if host.has_selinux() else (),
        log_max_size=LOG_MAX_SIZE,
    )


async def release(engine: Engine, proxy: Proxy) -> None:
    """Remove the proxy unless a session still needs it, which takes one engine call."""
    if await engine.ids(EGRESS_LABEL, proxy.id):
        return
    await engine.remove(proxy.name)
    with suppress(ClaudeMcpError):  # in use by a session that was created meanwhile
        await engine.remove_volume(proxy.name)
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
