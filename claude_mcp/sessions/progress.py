"""How work that takes a while reports what it is doing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Progress = Callable[[str], Awaitable[None]]


async def no_progress(message: str) -> None:
    """For callers that do not want reports."""
