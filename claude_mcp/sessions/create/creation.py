"""The creation of a container by an engine that may take too long.

A daemon goes on when its client is killed, so the client is left running: when it names the
container that nobody waits for any more, the container is removed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import anyio

from claude_mcp.engine.engine import Engine, NewContainer
from claude_mcp.engine.spec import ContainerSpec
from claude_mcp.errors import ClaudeMcpError, EngineUnavailable
from claude_mcp.sessions.registry import Sessions

logger = logging.getLogger(__name__)

SLOW_SECONDS: Final = 60.0
"""How long a caller waits for an engine that answers."""
LAST_SECONDS: Final = 900.0
"""How long a creation that nobody waits for may take."""


class _Creation:
    def __init__(self, engine: Engine, spec: ContainerSpec, inherited: Mapping[str, str]) -> None:
        self._engine, self._spec, self._inherited = engine, spec, inherited
        self.ended = anyio.Event()
        self.abandoned = False
        self.created: NewContainer | None = None
        self.failure: Exception | None = None

    async def run(self) -> None:
        try:
            self.created = await self._engine.create(
                self._spec, self._inherited, seconds=LAST_SECONDS
            )
        except Exception as error:  # whoever waits raises it
            self.failure = error
        finally:
            self.ended.set()
        if self.abandoned and self.created is not None:
            try:
                await self._engine.remove(self.created.id)
            except ClaudeMcpError as error:
                logger.error("container %s is left behind: %s", self.created.id[:12], error)


async def create(
    sessions: Sessions, engine: Engine, spec: ContainerSpec, inherited: Mapping[str, str]
) -> NewContainer:
    """The engine's ``create``; it cannot be cancelled, because a daemon would finish it anyway.

    Raises:
        EngineUnavailable: it does not answer, or took too long. If a container is created all the
            same, it is removed.
        EngineError: as the engine's ``create`` does.
    """
    creation = _Creation(engine, spec, inherited)
    sessions.in_background(creation.run)
    with anyio.CancelScope(shield=True):
        try:
            with anyio.move_on_after(SLOW_SECONDS):
                async with engine.watching():
                    await creation.ended.wait()
        finally:
            creation.abandoned = not creation.ended.is_set()
    if creation.failure is not None:
        raise creation.failure
    if creation.created is None:
        raise EngineUnavailable(
            f"{engine.title} did not create container {spec.name} within {SLOW_SECONDS:g} s.",
            hint="Its storage or daemon may hang: look at the engine's own log. If it creates the "
            "container after all, it is removed.",
        )
    return creation.created
