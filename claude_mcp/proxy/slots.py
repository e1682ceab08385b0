"""Limits the number of connections of each kind; runs on Python 3.9."""

from __future__ import annotations

import asyncio

from claude_mcp.proxy.connections import Connection

IDLE_SECONDS = 30.0


class Slots:
    """At most ``most`` connections.

    When all slots are taken, a new connection replaces the one that has been idle the longest, but
    only if that was at least ``idle_seconds``.
    """

    def __init__(self, most: int, idle_seconds: float = IDLE_SECONDS) -> None:
        self._most = most
        self._idle_seconds = idle_seconds
        self._taken: dict[asyncio.Future[None], Connection] = {}

    def enter(self, task: asyncio.Future[None], connection: Connection) -> bool:
        if len(self._taken) >= self._most:
            idlest = min(self._taken, key=lambda each: self._taken[each].used)
            idle = asyncio.get_running_loop().time() - self._taken[idlest].used
            if idle < self._idle_seconds:
                return False
            del self._taken[idlest]
            idlest.cancel()
        self._taken[task] = connection
        return True

    def leave(self, task: asyncio.Future[None]) -> None:
        self._taken.pop(task, None)


class ConnectionSlots:
    """Separate slots for each kind of connection, so that no kind can exhaust another's."""

    def __init__(self) -> None:
        self.beginning = Slots(512, idle_seconds=0.0)
        """The request has not arrived yet."""
        self.watching = Slots(1024, idle_seconds=0.0)
        self.model = Slots(128)
        """To the provider."""
        self.others = Slots(512)
