"""The open channels of this process, and requests that need one.

A channel is opened by the first request, carries any number of requests at once, and closes after
it has been idle for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from claude_mcp.contract import operations
from claude_mcp.engine.engine import Container, Engine
from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    EngineError,
    EngineUnavailable,
    NextStep,
)
from claude_mcp.sessions.channel import silence
from claude_mcp.sessions.channel.channel import (
    NO_CONTAINER,
    NOT_RUNNING,
    Channel,
    ChannelLost,
    NoContainer,
    NotReached,
    NotRunning,
    OnEvent,
    Silent,
    Unanswered,
)
from claude_mcp.sessions.channel.refusals import AgentRefused

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 30.0
"""How long an unused channel stays open."""
TRUSTED_QUIET_SECONDS: Final = 0.1
"""A channel is assumed to be alive for this long after the agent's last word."""
PING_SECONDS: Final = 2.0
SETTLE_SECONDS: Final = 1.0
LOG_LINES: Final = 5
LOG_BYTES: Final = 4096


class Channels:
    """At most one open channel per container."""

    def __init__(
        self, engine: Engine, tasks: TaskGroup, *, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._idle_seconds = idle_seconds
        self._open: dict[str, Channel] = {}

    def is_open(self, container_id: str) -> bool:
        channel = self._open.get(container_id)
        return channel is not None and not channel.closed

    async def is_alive(self, container_id: str) -> bool:
        """Whether the open channel, if there is one, still answers.

        This notices a container that was stopped, paused or removed in the meantime before a
        request is sent: afterwards nobody could tell whether the request was carried out.
        """
        channel = self._open.get(container_id)
        if channel is None or channel.closed:
            return False
        if not channel.greeted or channel.quiet_seconds < TRUSTED_QUIET_SECONDS:
            return True
        busy = channel.busy
        try:
            with anyio.fail_after(PING_SECONDS):
                await channel.request(operations.PING, {})
        except (ClaudeMcpError, TimeoutError) as error:
            if busy and isinstance(error, TimeoutError):
                return True  # others wait for answers over it, and it watches the agent itself
            logger.debug("closing a channel that does not answer: %r", error)
            self.close(container_id)
            return False
        return True

    def close(self, container_id: str) -> None:
        channel = self._open.pop(container_id, None)
        if channel is not None:
            channel.close()

    async def _hold(self, container_id: str, channel: Channel) -> None:
        try:
            await channel.run()
        finally:
            if self._open.get(container_id) is channel:
                del self._open[container_id]

    async def request(
        self,
        container_id: str,
        op: str,
        args: Mapping[str, Any],
        on_event: OnEvent | None = None,
    ) -> dict[str, Any]:
        """As ``Channel.request``, over the open channel or a new one.

        A request that was not written is sent once more, over another channel. If the session is
        silent, the error says which part of it is. If only the agent does not answer, the error
        quotes the end of the session's log.
        """
        try:
            try:
                return await self._channel(container_id).request(op, args, on_event)
            except NotReached as error:
                logger.debug("a request was not sent and is sent again: %s", error)
            return await self._channel(container_id).request(op, args, on_event)
        except AgentRefused:
            raise
        except Silent as error:
            if not isinstance(error, Unanswered):
                self.close(container_id)
            raise await silence.explain(
                self._engine, container_id, error.seconds, written=error.written
            ) from error
        except ChannelLost as error:
            raise await self._lost(container_id, error) from error
        except AgentError as error:
            if NextStep.READ_LOG in error.steps:  # of a request that was made while this one waits
                raise
            await self._check_running(container_id)
            raise await self._with_log(container_id, error, "") from error
        except EngineUnavailable:
            raise
        except EngineError:
            await self._check_running(container_id)
            raise

    def _channel(self, container_id: str) -> Channel:
        channel = self._open.get(container_id)
        if channel is None or channel.closed:
            channel = Channel(self._engine, container_id, self._idle_seconds)
            self._open[container_id] = channel
            self._tasks.start_soon(self._hold, container_id, channel)
        return channel

    async def _check_running(self, container_id: str) -> None:
        """Raise NotRunning if the container ended while somebody was connecting to it.

        A container that is ending fails a new exec in many ways, each in other words.
        """
        try:
            container = await self._settled(container_id)
        except EngineError as error:
            logger.debug("nothing is known of the container: %s", error)
            return
        if container is None:
            raise NoContainer(NO_CONTAINER)
        if silence.ended(container) is not None:
            raise NotRunning(NOT_RUNNING)

    async def _settled(self, container_id: str) -> Container | None:
        """The container, once the engine has had time to notice that it ended."""
        container = await silence.container_now(self._engine, container_id)
        if container is not None and container.status != "paused":
            # During a removal, an engine first describes the container as running or stopped.
            await anyio.sleep(SETTLE_SECONDS)
            container = await silence.container_now(self._engine, container_id)
        return container

    async def _lost(self, container_id: str, error: ChannelLost) -> ClaudeMcpError:
        """The error for a request that was written and will not be answered."""
        try:
            container = await self._settled(container_id)
        except EngineError as unavailable:
            return silence.in_doubt(unavailable)
        return silence.ended(container) or await self._with_log(
            container_id, error, " The request may have been carried out."
        )

    async def _with_log(self, container_id: str, error: AgentError, doubt: str) -> AgentError:
        return AgentError(
            f"{error.message} {await self._end_of_log(container_id)}",
            hint=f"Read the session's log. If the error persists, destroy the session.{doubt}",
            steps=(NextStep.READ_LOG, NextStep.DESTROY),
        )

    async def _end_of_log(self, container_id: str) -> str:
        try:
            with anyio.fail_after(silence.ENGINE_SECONDS):
                log = await self._engine.logs(container_id, LOG_LINES, LOG_BYTES)
        except TimeoutError:
            return f"Its log cannot be read either: {self._engine.title} does not answer."
        except ClaudeMcpError as error:
            return f"Its log cannot be read either: {error.message}"
        lines = [line.partition(" ")[2] for line in log.err.splitlines() if line.strip()]
        return f"Its log ends with: {' | '.join(lines)}" if lines else "Its log is empty."
