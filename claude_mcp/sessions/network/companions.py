"""Containers that serve sessions and have no state: a proxy, a forwarder of ports.

Each can be created again from the labels of its sessions. The engine restarts it after a crash.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import anyio

from claude_mcp.contract import places
from claude_mcp.engine import host
from claude_mcp.engine.engine import ContainerNameInUse, Engine, LimitRefused
from claude_mcp.engine.spec import ContainerSpec, Limits, PublishedPort, Traffic, VolumeMount
from claude_mcp.errors import ClaudeMcpError, EngineError, ImageNotFound
from claude_mcp.sessions import limits
from claude_mcp.sessions.channel import payload

logger = logging.getLogger(__name__)

READY_SECONDS: Final = 20.0
STARTING_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.1
LOG_MAX_SIZE: Final = "10m"
USER: Final = "0:0"
"""Root without any capability, which owns the socket's directory."""
LIMITS: Final = Limits(memory=256 * limits.MIB, pids=256)


async def ensure(
    engine: Engine,
    name: str,
    marks: tuple[str, str],
    what: str,
    create: Callable[[], Awaitable[None]],
) -> None:
    """Make sure that a companion runs; takes one engine call if it does already.

    ``marks`` is the label that it has, and the label's value.

    Raises:
        EngineError, ImageNotFound: it cannot be started.
    """
    label, value = marks
    deadline = anyio.current_time() + STARTING_SECONDS
    while True:
        found = await engine.inspect([name])
        late = anyio.current_time() > deadline
        if not found:
            try:
                return await create()
            except ContainerNameInUse:
                if late:
                    raise
                logger.debug("another process is creating %s", name)
        elif found[0].labels.get(label) != value:
            raise EngineError(
                f"The container {name} has the name of {what} and is not ours.",
                hint=f"If nobody needs it, remove it with '{engine.program} rm --force {name}'.",
            )
        elif found[0].status == "running":
            return
        elif late or found[0].status in ("exited", "stopped"):
            return await engine.start(name)
        # Its creator is about to start or remove it, or the engine is restarting it.
        await anyio.sleep(POLL_SECONDS)


async def spec(
    engine: Engine,
    *,
    name: str,
    image: str,
    command: tuple[str, ...],
    labels: dict[str, str],
    directory: str,
    extra_hosts: tuple[str, ...] = (),
    ports: tuple[PublishedPort, ...] = (),
    traffic: Traffic | None = None,
) -> ContainerSpec:
    """A companion's container, with a volume of its name at ``directory``.

    Where code arrives on stdin, the directory keeps it for the next start instead.
    """
    dialect = engine.dialect
    carried = dialect.environment_carries_code
    info = await engine.info() if dialect.limits_need_delegation else None
    settable, _, _ = limits.settable(dialect, LIMITS, info)
    return ContainerSpec(
        name=name,
        image=image,
        command=command,
        labels=labels,
        environment={} if carried else {"HOME": directory},
        inherited=places.PAYLOAD_VARIABLES if carried else (),
        volumes=(VolumeMount(name, directory, read_only=False),) if carried else (),
        kept_directories=() if carried else (directory,),
        user=USER if carried else dialect.user_options(0, 0)["user"],
        traffic=traffic,
        extra_hosts=extra_hosts,
        ports=ports,
        limits=settable,
        restart="on-failure",
        read_only_root=True,
        security_options=("label=disable",) if host.has_selinux() else (),
        log_max_size=LOG_MAX_SIZE,
    )


async def create(
    engine: Engine, spec: ContainerSpec, archive: str, what: str, ready: str, settings: str = ""
) -> None:
    """Create and start a companion, and wait until it says ``ready``.

    ``settings`` follow its code where that arrives on stdin.

    Raises:
        ContainerNameInUse, PortInUse, ImageNotFound, EngineError: nothing of it is left.
    """
    while True:
        try:
            with anyio.CancelScope(shield=True):  # a daemon completes the operation anyway
                async with engine.watching():
                    created = await engine.create(
                        spec, payload.variables(archive) if spec.inherited else {}
                    )
            try:
                delivery = b"" if spec.inherited else payload.delivery(archive, settings)
                await _start(engine, created.id, delivery, what, ready)
            except BaseException:
                with anyio.CancelScope(shield=True), suppress(ClaudeMcpError):
                    await engine.remove(created.id)
                    await engine.remove_volume(spec.name)  # fails if it is in use by another
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
                f"{engine.title} has no image {spec.image} to run {what} from.",
                hint="Build it with 'claude-mcp image build', or set CLAUDE_MCP_PROXY_IMAGE to an "
                "image that has python3.",
            ) from error


async def _start(engine: Engine, container_id: str, delivery: bytes, what: str, ready: str) -> None:
    """Start it and wait until it listens."""
    async with engine.start_attached(container_id) as stream:
        if delivery:
            with suppress(anyio.BrokenResourceError):  # it has ended, and says why
                await stream.send(delivery)
        with anyio.move_on_after(READY_SECONDS) as waiting:
            async with engine.watching():
                async for line in stream.lines():
                    if line == ready:
                        return
                await stream.wait()
    if waiting.cancelled_caught:
        raise EngineError(
            f"{what[:1].upper()}{what[1:]} was not ready within {READY_SECONDS:g} s.",
            hint="The machine may be overloaded; try again.",
        )
    raise engine.failed(f"start {what}", stream.stderr_tail)


async def remove(engine: Engine, name: str) -> None:
    """Remove a companion and its volume, unless another container has the volume."""
    await engine.remove(name)
    with suppress(ClaudeMcpError):  # in use by a session that was created meanwhile
        await engine.remove_volume(name)
