"""Distinguishes cancellation by the client from a lost connection; the SDK ends calls alike.

The SDK cancels the call and only then passes the client's ``notifications/cancelled`` to a
middleware. One server serves one client, so a request's id identifies the call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
from mcp.server import ServerRequestContext
from mcp.server.context import CallNext, HandlerResult

NOTICE_SECONDS: Final = 0.5
"""How long after the end of a call its notification may arrive."""


class Cancellations:
    def __init__(self) -> None:
        self._calls: dict[str, anyio.Event] = {}

    async def middleware(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        if ctx.method == "notifications/cancelled":
            noticed = self._calls.get(str((ctx.params or {}).get("requestId")))
            if noticed is not None:
                noticed.set()
        return await call_next(ctx)

    @contextmanager
    def watch(self, request_id: object) -> Iterator[Callable[[], Awaitable[bool]]]:
        """Yields a function that reports, after a cancellation, whether the client asked for it."""
        noticed = self._calls[str(request_id)] = anyio.Event()

        async def asked_for() -> bool:
            with anyio.move_on_after(NOTICE_SECONDS, shield=True):
                await noticed.wait()
            return noticed.is_set()

        try:
            yield asked_for
        finally:
            self._calls.pop(str(request_id), None)
