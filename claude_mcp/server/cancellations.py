"""Distinguishes cancellation by the client from a lost connection; the SDK ends calls alike.

The SDK cancels the call and only then passes the client's ``notifications/cancelled`` to a
middleware. Clients number their requests alike, so a call is identified by its connection and its
request's id.
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


Context = ServerRequestContext[Any, Any]
Key = tuple[object, str]


class Cancellations:
    def __init__(self) -> None:
        self._calls: dict[Key, anyio.Event] = {}

    async def middleware(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.method == "notifications/cancelled":
            key = _key(ctx, (ctx.params or {}).get("requestId"))
            if key in self._calls:
                self._calls[key].set()
        return await call_next(ctx)

    @contextmanager
    def watch(self, ctx: Context) -> Iterator[Callable[[], Awaitable[bool]]]:
        """Yields a function that reports, after a cancellation, whether the client asked for it."""
        key, noticed = _key(ctx, ctx.request_id), anyio.Event()
        self._calls[key] = noticed

        async def asked_for() -> bool:
            with anyio.move_on_after(NOTICE_SECONDS, shield=True):
                await noticed.wait()
            return noticed.is_set()

        try:
            yield asked_for
        finally:
            if self._calls.get(key) is noticed:
                del self._calls[key]


def _key(ctx: Context, request_id: object) -> Key:
    """The connection of a message and the id of a request on it.

    The SDK may make a ``Connection`` for each message, but on a stream they share their outbound
    channel. Over HTTP they share a session's id; without one, nothing connects two messages.
    """
    connection = ctx.session._connection
    if ctx.request is None:
        return id(connection.outbound), str(request_id)
    return connection.session_id or object(), str(request_id)
