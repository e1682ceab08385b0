"""Limits the number of connections, of each kind and of each session; runs on Python 3.9."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from claude_mcp.proxy.connections import Connection

IDLE_SECONDS = 30.0
DESCRIPTORS = 4096
"""As many as all slots need."""
RESERVED_DESCRIPTORS = 96
"""For lookups, the event loop, and connections that are just being closed."""


class Slots:
    """At most ``most`` connections, and for one session at most half of what the others leave.

    So a session that opens many connections leaves room for its neighbours. When no slot is free,
    a new connection replaces the one that has been idle the longest, but only if that was at least
    ``idle_seconds``. A session that has its share replaces only connections of its own.
    """

    def __init__(self, most: int, idle_seconds: float = IDLE_SECONDS) -> None:
        self._most = most
        self._idle_seconds = idle_seconds
        self._taken: dict[asyncio.Future[None], tuple[str, Connection]] = {}

    def enter(self, task: asyncio.Future[None], connection: Connection, session: str = "") -> bool:
        """Take a slot; ``session`` is "" as long as it is not known."""
        kept = self._taken.pop(task, None)
        if self.has_share(session):
            replaceable = self._of(session)
        elif len(self._taken) >= self._most:
            replaceable = list(self._taken)
        else:
            replaceable = []
        enters = not replaceable or self._replace(replaceable)
        if enters:
            self._taken[task] = (session, connection)
        elif kept is not None:
            self._taken[task] = kept
        return enters

    def leave(self, task: asyncio.Future[None]) -> None:
        self._taken.pop(task, None)

    def has_share(self, session: str) -> bool:
        """Whether a session has all the slots that it may have."""
        own = len(self._of(session))
        others = len(self._taken) - own
        return bool(session) and own >= max(1, (self._most - others) // 2)

    def _of(self, session: str) -> list[asyncio.Future[None]]:
        return [task for task, (name, _) in self._taken.items() if name == session]

    def _replace(self, tasks: Iterable[asyncio.Future[None]]) -> bool:
        idlest = min(tasks, key=lambda each: self._taken[each][1].used)
        idle = asyncio.get_running_loop().time() - self._taken[idlest][1].used
        if idle < self._idle_seconds:
            return False
        del self._taken[idlest]
        idlest.cancel()
        return True


class ConnectionSlots:
    """Separate slots for each kind of connection, so that no kind can exhaust another's.

    There are fewer where the host allows few open files. A connection that is served needs two.
    """

    def __init__(self, descriptors: int = DESCRIPTORS) -> None:
        descriptors = max(descriptors - RESERVED_DESCRIPTORS, 16)
        model = min(128, descriptors // 8)
        share = min(1.0, (descriptors - 2 * model) / (512 + 1024 + 2 * 512))
        self.beginning = Slots(int(512 * share), idle_seconds=0.0)
        """The request has not arrived yet."""
        self.watching = Slots(int(1024 * share), idle_seconds=0.0)
        self.model = Slots(model)
        """To the provider."""
        self.others = Slots(int(512 * share))
