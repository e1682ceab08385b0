"""Numbers from the other side, which may be anything that JSON can say."""

from __future__ import annotations

LARGEST = 2**53
"""Larger integers lose digits in JavaScript, and in JSON readers that follow it."""


def amount(value: object) -> float | None:
    """A number as an honest sender gives it, from 0 to ``LARGEST``; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if 0 <= value <= LARGEST else None  # also None for NaN
