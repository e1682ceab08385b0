"""Connections of clients that are slow or silent.

uvicorn waits forever for the rest of a request's head, and for a client to read its answer. Each
connection has a deadline for both here; ``watch`` closes those that have missed it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import anyio
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

HEAD_SECONDS: Final = 30.0
"""How long the head of a request may take to arrive."""
READ_SECONDS: Final = 30.0
"""How long a client may read nothing of what waits for it."""
LOOK_SECONDS: Final = 2.0
MAX_CONNECTIONS: Final = 1_000
"""Of all clients together; further requests are answered with 503."""


class Connection(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.head_since: float | None = self.loop.time()
        self._unread = 0
        self._unread_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._is_idle and self.head_since is None:
            self.head_since = self.loop.time()
        super().data_received(data)
        if not self._is_idle:
            self.head_since = None

    @property
    def _is_idle(self) -> bool:
        """Whether no request has come, or the last one has been answered."""
        return self.cycle is None or self.cycle.response_complete

    def look(self, now: float) -> None:
        """Close the connection if its client missed a deadline."""
        unread = self.transport.get_write_buffer_size()
        if not unread or unread < self._unread:
            self._unread_since = now
        self._unread = unread
        if unread and now - self._unread_since > READ_SECONDS:
            logger.info("a client has read nothing for %g s", READ_SECONDS)
            self.transport.abort()
        elif self.head_since is not None and now - self.head_since > HEAD_SECONDS:
            logger.info("the head of a request did not arrive within %g s", HEAD_SECONDS)
            self.transport.abort()


async def watch(connections: set[Any]) -> None:
    """Look after a server's connections until it is cancelled."""
    while True:
        now = asyncio.get_running_loop().time()
        for each in list(connections):
            each.look(now)
        await anyio.sleep(LOOK_SECONDS)
