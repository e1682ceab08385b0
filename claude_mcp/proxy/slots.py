"""How many connections there may be of each kind; runs on Python 3.9."""

from __future__ import annotations

import asyncio

from claude_mcp.proxy.copying import End

IDLE_SECONDS = 30.0


class Room:
    """Room for ``most`` connections. When it is full, the one that was idle for the longest makes
    room, if that was ``idle_seconds``."""

    def __init__(self, most: int, idle_seconds: float = IDLE_SECONDS) -> None:
        self._most = most
        self._idle_seconds = idle_seconds
        self._inside: dict[asyncio.Future[None], End] = {}

    def enter(self, task: asyncio.Future[None], end: End) -> bool:
        if len(self._inside) >= self._most:
            idlest = min(self._inside, key=lambda each: self._inside[each].used)
            idle = asyncio.get_running_loop().time() - self._inside[idlest].used
            if idle < self._idle_seconds:
                return False
            del self._inside[idlest]
            idlest.cancel()
        self._inside[task] = end
        return True

    def leave(self, task: asyncio.Future[None]) -> None:
        self._inside.pop(task, None)


class Rooms:
    """Those that have not said yet what they want, those that only wait for the proxy's end, those
    to the provider of the model, and all others: no kind can take the room of another."""

    def __init__(self) -> None:
        self.beginning = Room(512, idle_seconds=0.0)
        self.watching = Room(1024, idle_seconds=0.0)
        self.model = Room(128)
        self.others = Room(512)
