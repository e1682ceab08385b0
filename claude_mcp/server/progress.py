"""Progress notifications: what is being done, and a heartbeat while there is nothing to report.

Many hosts give up on a call that is silent for a minute.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import anyio

from claude_mcp.errors import ungrouped
from claude_mcp.sessions.progress import Amount
from claude_mcp.views.figures import reported
from claude_mcp.views.wire import clean

HEARTBEAT_SECONDS: Final = 5.0

T = TypeVar("T")


class Send(Protocol):
    """``ServerSession.report_progress``; does nothing if the client did not ask for progress."""

    async def __call__(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None: ...


class Reporter:
    """Numbers the reports of one call, because the protocol requires increasing numbers.

    How much of the work is done is such a number; the work before it is added.
    """

    def __init__(self, send: Send, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._send = send
        self._heartbeat_seconds = heartbeat_seconds
        self._lock = anyio.Lock()
        self._number = 0
        self._before = 0
        """The number when the work began whose amounts are reported now."""
        self._amount: Amount | None = None
        self._started = self._last_sent = anyio.current_time()

    async def __call__(self, message: str, amount: Amount | None = None, /) -> None:
        async with self._lock:
            total = self._count(amount)
            self._last_sent = anyio.current_time()
            await self._send(float(self._number), total, clean(reported(message, amount)))

    def _count(self, amount: Amount | None) -> float | None:
        """Go on to the next number; returns that at the end of the work, if it is known."""
        last, self._amount = self._amount, amount
        if amount is None or last is None or last.unit != amount.unit or last.done > amount.done:
            self._before = self._number
        done = self._before + (amount.done if amount is not None else 0)
        self._number = max(self._number + 1, done)
        if amount is None or amount.total is None:
            return None
        return float(max(self._before + amount.total, self._number))

    async def follow(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work; while it reports nothing, send a heartbeat every few seconds."""
        outcome: list[T] = []
        with ungrouped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._beat)
                outcome.append(await work())
                tasks.cancel_scope.cancel()
        return outcome[0]

    async def _beat(self) -> None:
        while True:
            await anyio.sleep_until(self._last_sent + self._heartbeat_seconds)
            if anyio.current_time() >= self._last_sent + self._heartbeat_seconds:
                await self(f"still running, {anyio.current_time() - self._started:.0f} s")
