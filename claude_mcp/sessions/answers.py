"""Reads what an agent answered as what it is: input that the session may have forged."""

from __future__ import annotations

from typing import Final

LARGEST: Final = 2**53
"""Larger integers lose digits in JavaScript, and in JSON readers that follow it."""


def amount(value: object) -> float | None:
    """A number as an honest agent gives it, at least 0; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if 0 <= value <= LARGEST else None
