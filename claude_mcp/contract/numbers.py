"""Numbers from an untrusted sender, and numbers in sentences."""

from __future__ import annotations

LARGEST = 2**53
"""Larger integers lose digits in JavaScript, and in JSON readers that follow it."""


def amount(value: object) -> float | None:
    """A JSON number between 0 and ``LARGEST``; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if 0 <= value <= LARGEST else None  # also None for NaN


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
