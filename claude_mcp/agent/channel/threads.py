"""Threads and processes in a session that may have used up all that its limit allows."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, TypeVar

ROOM_SECONDS = 2.0
POLL_SECONDS = 0.05

Begun = TypeVar("Begun")


def with_room(begin: Callable[[], Begun]) -> Begun:
    """Begin what needs a thread or a process; waits a little for room, as what was killed is not
    gone at once.

    Raises:
        BlockingIOError, RuntimeError: there was no room for one.
    """
    deadline = time.monotonic() + ROOM_SECONDS
    while True:
        try:
            return begin()
        except (BlockingIOError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def start(work: Callable[..., None], *args: Any) -> bool:
    """Start a daemon thread; False when there was no room for it."""
    try:
        with_room(lambda: threading.Thread(target=work, args=args, daemon=True).start())
    except RuntimeError:
        return False
    return True
