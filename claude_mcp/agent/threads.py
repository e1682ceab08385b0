"""Threads in a session that may have used up all the processes that its limit allows."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

ROOM_SECONDS = 2.0
POLL_SECONDS = 0.05


def start(work: Callable[..., None], *args: Any) -> bool:
    """Start a daemon thread; waits a little for room, as what was killed is not gone at once.

    False when there was none.
    """
    deadline = time.monotonic() + ROOM_SECONDS
    while True:
        try:
            threading.Thread(target=work, args=args, daemon=True).start()
            return True
        except RuntimeError:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
