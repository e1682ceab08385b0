"""How work that takes a while reports what it is doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

BYTES: Final = "byte"


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of some work is done, in units, of which ``unit`` names one."""

    done: int
    total: int | None = None
    """None if it is not known."""
    unit: str = BYTES


class Progress(Protocol):
    async def __call__(self, message: str, amount: Amount | None = None, /) -> None:
        """Say what is being done now, and perhaps how much of it is done."""


async def no_progress(message: str, amount: Amount | None = None) -> None:
    """For callers that do not want reports."""
