"""Ends the session at the end of its lifetime or after its idle timeout, but never while a turn or
a command runs. A command in the background does not count, nor does what a command left running.

The agent ends itself because only it knows what is running, and because the session's memory is
then freed even if no front end exists any more. Its exit code shows whether the container may be
removed, or holds work that is nowhere else.

The lifetime ends at a moment of the clock, which ``expiresAt`` names. All else is a duration, which
a clock that is set does not change.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, NoReturn

from claude_mcp.agent import ending
from claude_mcp.agent.store.state import log
from claude_mcp.contract import places
from claude_mcp.contract.workspaces import BIND

if TYPE_CHECKING:
    from claude_mcp.agent.turns.queue import Turns
    from claude_mcp.contract.settings import Settings

LONGEST_WAIT_SECONDS = 3600.0
HELD_SECONDS = 300.0
"""How often an expired session that stays looks whether its work was taken."""


class Expiry:
    def __init__(
        self, settings: Settings, turns: Callable[[], Turns], holds_work: Callable[[], bool]
    ) -> None:
        self._has_own = settings.workspace != BIND
        self._stays = settings.stays_with_work
        self._holds_work = holds_work
        self._expires_at = settings.expires_at
        self._idle_seconds = settings.idle_timeout_seconds
        self._turns = turns
        self._changed = threading.Condition()
        self._uses = 0
        self._last_use = time.monotonic()
        self._began = self._last_use
        self._released: float | None = None

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep the session from expiring while a command or a transfer runs."""
        with self._changed:
            self._uses += 1
        try:
            yield
        finally:
            with self._changed:
                self._uses -= 1
                self._last_use = time.monotonic()
                self._changed.notify_all()

    def start(self) -> None:
        if self._expires_at is not None or self._idle_seconds is not None:
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> NoReturn:
        turns = self._turns()
        self._began = time.monotonic()
        while True:
            last = max(turns.wait_until_quiet(), self._wait_for_uses())
            if turns.busy:
                continue
            due, why = self._due(last)
            left = due - time.monotonic()
            if left <= 0:
                held = self._has_own and self._holds_work()
                if held and self._stays:
                    log(f"session has expired, but holds work that would be lost: {why}")
                    time.sleep(HELD_SECONDS)
                    continue
                log(f"session expired: {why}")
                code = places.EXPIRED_WITH_WORK_EXIT_CODE if held else places.EXPIRED_EXIT_CODE
                ending.end(code)
            time.sleep(min(left, LONGEST_WAIT_SECONDS))

    def _wait_for_uses(self) -> float:
        """Wait until no command or transfer runs; returns when the last one ended."""
        with self._changed:
            while self._uses:
                self._changed.wait()
            return self._last_use

    def _due(self, last: float) -> tuple[float, str]:
        """When a session expires that was last busy at ``last``, and why; by ``time.monotonic``."""
        moments = []
        if self._idle_seconds is not None:
            why = f"it was unused for {self._idle_seconds:g} s"
            moments.append((last + self._idle_seconds, why))
        if self._expires_at is not None:
            due = time.monotonic() + self._expires_at - time.time()
            if self._has_own and self._began > due:
                due = last + places.EXPIRY_GRACE_SECONDS
            elif last > max(due, self._began):
                # A turn outlived the session: leave time to fetch its result, but only once.
                self._released = self._released or last
                due = self._released + places.EXPIRY_GRACE_SECONDS
            moments.append((due, "its lifetime is over"))
        return min(moments)
