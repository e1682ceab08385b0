"""Ends the session when its time is over, or when nobody has used it for long; never while a
turn or a command runs.

The agent ends itself, because it alone knows what runs, and because nobody need look for the
session's memory to be free again. Its exit code tells whoever looks next that the container can
go.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from claude_mcp.agent.store.state import log
from claude_mcp.contract import places as contract

if TYPE_CHECKING:
    from claude_mcp.agent.turns.queue import Turns

LONGEST_WAIT_SECONDS = 3600.0


class Expiry:
    """``expiresAt`` of the settings is a time in seconds since 1970, ``idleTimeoutSeconds`` a
    duration; either may be missing."""

    def __init__(self, settings: dict[str, Any], turns: Callable[[], Turns]) -> None:
        self._expires_at: float | None = settings.get("expiresAt")
        self._idle_seconds: float | None = settings.get("idleTimeoutSeconds")
        self._turns = turns
        self._changed = threading.Condition()
        self._uses = 0
        self._last_use = time.time()
        self._began = self._last_use
        self._released: float | None = None

    @contextmanager
    def use(self) -> Iterator[None]:
        """While a command or a transfer runs."""
        with self._changed:
            self._uses += 1
        try:
            yield
        finally:
            with self._changed:
                self._uses -= 1
                self._last_use = time.time()
                self._changed.notify_all()

    def start(self) -> None:
        if self._expires_at is not None or self._idle_seconds is not None:
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> NoReturn:
        turns = self._turns()
        self._began = time.time()
        while True:
            last = max(turns.wait_until_quiet(), self._wait_for_uses())
            if turns.busy:
                continue
            due, why = self._due(last)
            left = due - time.time()
            if left <= 0:
                log(f"session expired: {why}")
                os._exit(contract.EXPIRED_EXIT_CODE)
            time.sleep(min(left, LONGEST_WAIT_SECONDS))

    def _wait_for_uses(self) -> float:
        """Until none runs; when the last one ended."""
        with self._changed:
            while self._uses:
                self._changed.wait()
            return self._last_use

    def _due(self, last: float) -> tuple[float, str]:
        """When a session is over that was last busy at ``last``, and why."""
        moments = []
        if self._idle_seconds is not None:
            why = f"nobody has used it for {self._idle_seconds:g} s"
            moments.append((last + self._idle_seconds, why))
        if self._expires_at is not None:
            due = self._expires_at
            if last > max(due, self._began):
                # The result of what outlived the session's time can still be fetched, once.
                self._released = self._released or last
                due = self._released + contract.EXPIRY_GRACE_SECONDS
            moments.append((due, "its time is over"))
        return min(moments)
