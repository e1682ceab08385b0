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
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import AgentError, ClaudeMcpError, NextStep
from claude_mcp.sessions.channel.channel import Channel, OnEvent
from claude_mcp.sessions.channel.refusals import AgentRefused

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 30.0
"""How long an unused channel stays open."""
TRUSTED_IDLE_SECONDS: Final = 0.1
"""An unused channel is assumed to be alive for this long."""
PING_SECONDS: Final = 2.0
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
        if channel.busy or channel.idle_seconds < TRUSTED_IDLE_SECONDS:
            return True
        try:
            with anyio.fail_after(PING_SECONDS):
                await channel.request(operations.PING, {})
        except (ClaudeMcpError, TimeoutError) as error:
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

        If the agent does not answer at all, the error quotes the end of the session's log.
        """
        channel = self._open.get(container_id)
        if channel is None or channel.closed:
            channel = Channel(self._engine, container_id, self._idle_seconds)
            self._open[container_id] = channel
            self._tasks.start_soon(self._hold, container_id, channel)
        try:
            return await channel.request(op, args, on_event)
        except AgentRefused:
            raise
        except AgentError as error:
            raise AgentError(
                f"{error.message} {await self._end_of_log(container_id)}",
                hint="Read the session's log. If the error persists, destroy the session.",
                steps=(NextStep.READ_LOG, NextStep.DESTROY),
            ) from error

    async def _end_of_log(self, container_id: str) -> str:
        try:
            log = await self._engine.logs(container_id, LOG_LINES, LOG_BYTES)
        except ClaudeMcpError as error:
            return f"Its log cannot be read either: {error.message}"
        lines = [line.partition(" ")[2] for line in log.err.splitlines() if line.strip()]
        return f"Its log ends with: {' | '.join(lines)}" if lines else "Its log is empty."
