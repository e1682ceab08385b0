"""Starts threads and processes in a session that may have reached its process limit."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, TypeVar

RETRY_SECONDS = 2.0
POLL_SECONDS = 0.05

Started = TypeVar("Started")


def retry_at_limit(start: Callable[[], Started]) -> Started:
    """Start something that needs a thread or a process.

    At the process limit it retries for a short time, because killed processes count until they
    are gone.

    Raises:
        BlockingIOError, RuntimeError: the limit is still reached.
    """
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return start()
        except (BlockingIOError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def start(work: Callable[..., None], *args: Any) -> bool:
    """Start a daemon thread; False if the process limit is reached."""
    try:
        retry_at_limit(lambda: threading.Thread(target=work, args=args, daemon=True).start())
    except RuntimeError:
        return False
    return True
