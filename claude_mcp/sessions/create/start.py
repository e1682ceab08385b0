"""Bringing a session's container up: two engine calls, and nothing left when it does not work."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import anyio
import anyio.lowlevel

from claude_mcp.contract import places as contract
from claude_mcp.engine import process
from claude_mcp.engine.engine import ContainerNameInUse, Engine, LimitRefused, NewContainer
from claude_mcp.engine.spec import ContainerSpec
from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    ImageNotFound,
    ImageUnfit,
    SessionExists,
)
from claude_mcp.sessions import limits
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.network import proxies as egress
from claude_mcp.sessions.network.access import Proxy
from claude_mcp.sessions.registry import Progress, Sessions

logger = logging.getLogger(__name__)

READY_SECONDS: Final = 30.0
LAST_WORDS_SECONDS: Final = 10.0
"""How long a client whose container did not start may take to say why."""
ALL_LINES: Final = -1
LOG_TIME: Final = re.compile(r"^\d{4}-\d\d-\d\dT\S+", re.MULTILINE)
LAST_WORDS_BYTES: Final = 4096
LOG_SECONDS: Final = 2.0
LOG_POLL_SECONDS: Final = 0.2
BUILD_HINT: Final = (
    "Build the session image with scripts/build-custom-image.sh, or name another with "
    "DEFAULT_CLAUDE_IMAGE."
)


async def bring_up(
    sessions: Sessions,
    engine: Engine,
    spec: ContainerSpec,
    name: str,
    proxy: Proxy | None,
    handover: Mapping[str, Any],
    progress: Progress,
) -> tuple[str, tuple[str, ...]]:
    """A session that runs, without the limits that this host cannot set: its id and warnings."""
    left_out: list[str] = []
    while True:
        try:
            created = await _create_container(engine, spec, name)
            try:
                await anyio.lowlevel.checkpoint()  # a cancellation that came while creating
                if proxy is not None:
                    # From here on nobody removes it: the session can be seen to need it.
                    await progress("making sure of its proxy")
                    await egress.ensure(engine, proxy)
                await progress("starting the session")
                warnings = await _hand_over(sessions, engine, created.id, spec, handover)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await roll_back(engine, created.id, proxy)
                raise
        except LimitRefused as error:
            if getattr(spec.limits, error.limit) is None:
                raise
            spec = limits.without(spec, error.limit)
            left_out.append(limits.cannot_set(engine.dialect, error.limit, error.reason))
        else:
            return created.id, (*left_out, *created.ignored, *warnings)


async def _create_container(engine: Engine, spec: ContainerSpec, name: str) -> NewContainer:
    """The engine's `create`; not interrupted, because a daemon finishes what it began."""
    try:
        with anyio.CancelScope(shield=True):
            created = await engine.create(spec, {contract.PAYLOAD_VARIABLE: payload.archive()})
    except ContainerNameInUse as error:
        raise SessionExists(
            f"A session named {name!r} exists already.",
            hint="Use it, destroy it first, or choose another name.",
        ) from error
    except ImageNotFound as error:
        raise ImageNotFound(
            f"{engine.title} has no image {spec.image}.", hint=BUILD_HINT
        ) from error
    return created


async def _hand_over(
    sessions: Sessions,
    engine: Engine,
    container_id: str,
    spec: ContainerSpec,
    handover: Mapping[str, Any],
) -> tuple[str, ...]:
    """Start the container with the secrets on its stdin; returns warnings once it committed."""
    line = json.dumps({"secrets": handover}, separators=(",", ":")).encode() + b"\n"
    try:
        async with engine.start_attached(container_id) as stream:
            with anyio.fail_after(READY_SECONDS):
                # An agent that has ended reads no more; why is told where its answer is awaited.
                with suppress(anyio.BrokenResourceError):
                    await stream.send(line)
                ready = await _expect(engine, container_id, spec, stream, contract.READY)
                writable, *missing = ready.split()
                if missing:
                    raise ImageUnfit(
                        f"Image {spec.image} is not fit for a session: it lacks "
                        f"{' and '.join(missing)}.",
                        hint=BUILD_HINT,
                    )
                await sessions.check_room(container_id)
                with suppress(anyio.BrokenResourceError):
                    await stream.send(contract.COMMIT.encode() + b"\n")
                await _expect(engine, container_id, spec, stream, contract.COMMITTED)
    except TimeoutError:
        raise AgentError(
            f"The session's agent was not ready within {READY_SECONDS:g} s.",
            hint="The machine may be overloaded; try again.",
        ) from None
    if writable != "writable":
        return ("Claude may not write in the project directory: check its owner and mode.",)
    return ()


async def _expect(
    engine: Engine, container_id: str, spec: ContainerSpec, stream: process.Stream, start: str
) -> str:
    """The rest of the next line that begins with ``start``; other lines are talk."""
    async for line in stream.lines():
        if line.startswith(start):
            return line[len(start) :]
    # stdout has ended, so the client is about to: its stderr tells why.
    with anyio.move_on_after(LAST_WORDS_SECONDS):
        await stream.wait()
    said = stream.stderr_tail or await _logged(engine, container_id)
    error = engine.failed(f"start session container {spec.name}", said)
    if isinstance(error, ImageUnfit):
        raise ImageUnfit(
            f"Image {spec.image} is not fit for a session: it has no python3 on PATH.",
            hint=BUILD_HINT,
        )
    raise error


async def _logged(engine: Engine, container_id: str) -> str:
    """What a container left in its log: Podman's client may attach too late to tell it.

    Read until it does not change any more: it is written piece by piece, a line of its own and a
    time for each.
    """
    said = ""
    with anyio.move_on_after(LOG_SECONDS):
        while True:
            try:
                log = await engine.logs(container_id, ALL_LINES, LAST_WORDS_BYTES)
            except ClaudeMcpError as error:
                logger.debug("container %s has no log: %s", container_id[:12], error)
                break
            if log.err and log.err == said:
                break
            said = log.err
            await anyio.sleep(LOG_POLL_SECONDS)
    return " ".join(LOG_TIME.sub("", said).split())


async def roll_back(engine: Engine, container_id: str, proxy: Proxy | None) -> None:
    try:
        await engine.remove(container_id)
    except ClaudeMcpError as error:
        # The first error is what the user must see; this one says what is still there.
        logger.error("container %s is left behind: %s", container_id[:12], error)
    await egress.release_or_log(engine, proxy)
