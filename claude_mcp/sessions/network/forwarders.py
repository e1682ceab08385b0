"""The containers that lead from published ports into a session: one for each session with ports.

It is created before its session, because the session's labels say where its ports are. The ports of
the host are ours to choose: an engine would choose others at each start.

An engine without ``companions`` has no such container: ``tunnels`` alone leads to its sessions.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

import anyio

from claude_mcp.contract import places
from claude_mcp.engine.engine import Container, Engine, PortInUse
from claude_mcp.engine.spec import PublishedPort
from claude_mcp.errors import ClaudeMcpError, EngineError
from claude_mcp.ports import FIRST_PORT, READY
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.network import companions
from claude_mcp.sessions.network.forwarding import (
    PORTS_ID_LABEL,
    PORTS_LABEL,
    PORTS_OF_LABEL,
    Forwarding,
    Published,
    forwarding_from_json,
)

logger = logging.getLogger(__name__)

WHAT: Final = "the forwarder to a session's ports"
LOOPBACK: Final = "127.0.0.1"
TRIES: Final = 5


@asynccontextmanager
async def opened(engine: Engine, wanted: Forwarding | None) -> AsyncIterator[Forwarding | None]:
    """A running forwarder with ports of the host; it is removed if the block fails.

    Raises:
        EngineError, ImageNotFound: it cannot be started, or a port is in use.
    """
    if wanted is None:
        yield None
        return
    if not engine.dialect.companions:
        _check_free(wanted)
        yield replace(wanted, ports=_chosen(wanted.ports))
        return
    forwarding = await _open(engine, wanted)
    try:
        yield forwarding
    except BaseException:
        with anyio.CancelScope(shield=True):
            await release_or_log(engine, forwarding)
        raise


async def _open(engine: Engine, wanted: Forwarding) -> Forwarding:
    for left in reversed(range(TRIES)):
        forwarding = replace(wanted, ports=_chosen(wanted.ports))
        try:
            await _create(engine, forwarding)
            return forwarding
        except PortInUse as error:
            asked = {each.host_port: each for each in wanted.ports if each.host_port}
            given = None if error.port is None else asked.get(error.port)
            if given is not None or not left:
                raise _in_use(error, given) from error
            logger.debug("port %s is taken meanwhile; trying others", error.port)
    raise AssertionError  # the last try returns or raises


def _check_free(wanted: Forwarding) -> None:
    """Raises EngineError if a port of this host that was asked for is in use."""
    for each in wanted.ports:
        if each.host_port is None:
            continue
        try:
            socket.create_server((LOOPBACK, each.host_port)).close()
        except OSError as error:
            raise _in_use(PortInUse(str(error), each.host_port), each) from error


def _in_use(error: PortInUse, given: Published | None) -> EngineError:
    if given is None:
        return EngineError(error.message)
    return EngineError(
        f"Port {given.host_port} of this host is in use, so port {given.port} of the session "
        "cannot be published there.",
        hint=f"Choose another one, or give only {given.port}: then a free port is chosen.",
    )


def _chosen(ports: tuple[Published, ...]) -> tuple[Published, ...]:
    """The ports with a free port of the host for each that has none.

    On a host of the engine that is not ours, a port may be in use all the same.
    """
    with ExitStack() as stack:  # all are held until the last is found, so all are different
        held = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in ports]
        free = [each.getsockname()[1] for each in held]
    return tuple(
        replace(port, host_port=host) if port.host_port is None else port
        for port, host in zip(ports, free, strict=True)
    )


async def ensure(engine: Engine, forwarding: Forwarding) -> None:
    """Make sure that the forwarder runs; takes one engine call if it does already.

    Raises:
        EngineError, ImageNotFound: it cannot be started, or a port is in use.
    """
    if not engine.dialect.companions:
        return
    await companions.ensure(
        engine,
        forwarding.name,
        (PORTS_OF_LABEL, forwarding.id),
        WHAT,
        lambda: _create(engine, forwarding),
    )


async def _create(engine: Engine, forwarding: Forwarding) -> None:
    spec = await companions.spec(
        engine,
        name=forwarding.name,
        image=forwarding.image,
        command=payload.ports_command([each.port for each in forwarding.ports]),
        labels={PORTS_OF_LABEL: forwarding.id, PORTS_LABEL: forwarding.to_json()},
        directory=places.PORTS_DIRECTORY,
        ports=tuple(
            PublishedPort(each.host_port or 0, FIRST_PORT + number)
            for number, each in enumerate(forwarding.ports)
        ),
    )
    await companions.create(engine, spec, payload.ports_archive(), WHAT, READY)


async def release_or_log(engine: Engine, forwarding: Forwarding | None) -> None:
    """Remove the forwarder of a removed session, if it had one.

    A failure is only logged: the session no longer exists, so nobody could act on an error.
    """
    if forwarding is None or not engine.dialect.companions:
        return
    try:
        with anyio.CancelScope(shield=True):  # otherwise it would stay until a prune
            await companions.remove(engine, forwarding.name)
    except ClaudeMcpError as error:
        logger.warning("forwarder %s could not be removed: %s", forwarding.name, error)


async def prune(engine: Engine, is_old: Callable[[Container], bool]) -> None:
    """Remove old forwarders without a session; a young one may belong to one that is created."""
    if not engine.dialect.companions:
        return
    for container in await engine.containers(PORTS_OF_LABEL):
        forwarding = forwarding_from_json(container.labels.get(PORTS_LABEL, ""))
        if forwarding is None or not is_old(container):
            continue
        if not await engine.ids(PORTS_ID_LABEL, forwarding.id):
            await release_or_log(engine, forwarding)
