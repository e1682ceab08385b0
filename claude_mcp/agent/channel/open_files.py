"""Keeps the agent below its limit of open files.

At the limit, nothing could be accepted, killed or recorded. So what a session may start in any
number asks here first, and leaves a reserve to everything else.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

POLL_SECONDS = 0.02
UNLIMITED = 1 << 30


class TooManyOpen(Exception):
    """There is no room for more open files."""


class Room:
    """Room for one kind of thing, each of which needs ``count`` descriptors."""

    _lock = threading.Lock()
    _opening = 0
    """Descriptors that are about to be opened, of every kind."""

    def __init__(self, count: int, reserve: int) -> None:
        self._count = count
        self._reserve = reserve
        self._turn = threading.Lock()

    @contextlib.contextmanager
    def taken(self, wait_seconds: float = 0.0) -> Iterator[None]:
        """Open the descriptors in the block. Calls that wait for room get it in their order; one
        that does not wait looks once, also while another one looks.

        Raises:
            TooManyOpen: there is still no room.
        """
        if wait_seconds > 0:
            self._wait(time.monotonic() + wait_seconds)
        elif not self._take():
            raise TooManyOpen
        try:
            yield
        finally:
            with Room._lock:
                Room._opening -= self._count

    def _wait(self, deadline: float) -> None:
        if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TooManyOpen
        try:
            while not self._take():
                if time.monotonic() >= deadline:
                    raise TooManyOpen
                time.sleep(POLL_SECONDS)
        finally:
            self._turn.release()

    def _take(self) -> bool:
        with Room._lock:
            wanted = _open() + Room._opening + self._count + self._reserve
            if wanted > _limit():
                return False
            Room._opening += self._count
            return True


def _open() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:  # listing them needs one itself
        return UNLIMITED


def _limit() -> int:
    limit = os.sysconf("SC_OPEN_MAX")
    return limit if limit > 0 else UNLIMITED


COMMANDS = Room(12, reserve=96)
"""A command keeps at most seven of them: for its streams, its end, and to wake its thread."""
CONNECTIONS = Room(2, reserve=96)
"""Through a relay."""
CHANNELS = Room(4, reserve=32)
"""So that a front end can connect although commands have taken all that they may."""
