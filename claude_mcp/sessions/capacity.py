"""How much room engines have for one more session, and which of them has the most.

What counts is the memory that the running sessions may take, as a part of the engine's memory: it
is known from the engine's answers, without measuring for a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from claude_mcp.config import Config
from claude_mcp.contract.numbers import counted
from claude_mcp.engine.engine import Container, Engine
from claude_mcp.engine.info import EngineInfo
from claude_mcp.errors import ungrouped
from claude_mcp.sessions import labels
from claude_mcp.sessions.limits import GIB, LEAST_DEFAULT_MEMORY
from claude_mcp.sessions.marks import SESSION
from claude_mcp.sessions.outcomes import Unreachable

UNKNOWN_MEMORY: Final = 8 * GIB
"""What an engine has that does not say it."""
"""The states of containers that take room."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What of one engine is taken."""

    running: int
    promised_bytes: int
    """The memory that the running sessions may take; one without a limit counts as a small one."""
    memory_bytes: int | None
    has_image: bool
    mounts: bool = True
    """Whether it can mount directories of this host."""
    is_full: bool = False
    """Whether as many sessions run as may."""
    names: frozenset[str] = field(default=frozenset(), repr=False)
    """Of the sessions that the owner sees."""
    coming: int = 0
    """Sessions that are being created and may not be counted yet."""

    @property
    def share(self) -> float:
        """Of its memory that is promised; may be more than 1."""
        coming = self.coming * LEAST_DEFAULT_MEMORY
        return (self.promised_bytes + coming) / (self.memory_bytes or UNKNOWN_MEMORY)

    def __str__(self) -> str:
        total = f" of {self.memory_bytes / GIB:.1f}" if self.memory_bytes else ""
        sessions = counted(self.running, "running session")
        image = "" if self.has_image else ", without the image"
        return f"{sessions}, {self.promised_bytes / GIB:.1f}{total} GiB promised{image}"


async def measure(engine: Engine, config: Config, image: str | None) -> Capacity:
    """Three engine calls at once; four the first time.

    Raises:
        EngineError
    """
    containers: list[Container] = []
    infos: list[EngineInfo] = []
    has_image: list[bool] = []

    async def list_containers() -> None:
        containers.extend(await engine.containers(SESSION))

    async def ask_info() -> None:
        infos.append(await engine.info())

    async def look_for_image() -> None:
        has_image.append(await engine.image_exists(image or config.image))

    with ungrouped():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(list_containers)
            tasks.start_soon(ask_info)
            tasks.start_soon(look_for_image)
    running = [each for each in containers if each.status in labels.RUNNING]
    sessions = [session for each in containers if (session := labels.session_of(each))]
    return Capacity(
        running=len(running),
        promised_bytes=sum(each.limits.memory or LEAST_DEFAULT_MEMORY for each in running),
        memory_bytes=infos[0].memory_bytes,
        has_image=has_image[0],
        mounts=engine.dialect.bind_mounts and not engine.dialect.over_network,
        is_full=config.max_sessions is not None and len(running) >= config.max_sessions,
        names=frozenset(each.name for each in sessions if each.is_visible_to(config.owner)),
    )


def roomiest(measured: Mapping[str, Capacity], *, mounting: bool = False) -> str:
    """The engine with the smallest promised part of its memory; in doubt, the first one.

    One without the image, with as many sessions as may run, or that cannot mount what must be
    mounted (``mounting``), is taken only if all are so.
    """

    def order(name: str) -> tuple[bool, bool, bool, float, int]:
        one = measured[name]
        cannot_mount = mounting and not one.mounts
        running = one.running + one.coming
        return cannot_mount, not one.has_image, one.is_full, one.share, running

    return min(measured, key=order)


def reason(
    chosen: str, measured: Mapping[str, Capacity], unreachable: Sequence[Unreachable]
) -> str:
    """Why this one was chosen, for people."""
    others = [f"{name}: {one}" for name, one in measured.items() if name != chosen]
    others += [f"{each.engine} does not answer" for each in unreachable]
    return f"{chosen} has the most room ({measured[chosen]}). {'; '.join(others)}."
