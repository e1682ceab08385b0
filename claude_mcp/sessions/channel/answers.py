"""Reads what an agent answered as what it is: input that the session may have forged."""

from __future__ import annotations

from typing import Any


def line(value: object, characters: int = 500) -> str:
    """Text of the session for one line of ours: short, and without what ends a line."""
    return " ".join(str(value)[:characters].split())


def mapping(value: object, depth: int = 20) -> dict[str, Any]:
    """A JSON object, without what lies deeper than readers of JSON can go; {} for anything else."""
    return _shallow(value, depth) if isinstance(value, dict) else {}


def _shallow(value: Any, depth: int) -> Any:
    match value:
        case dict() | list() if depth == 0:
            return "[...]"
        case dict():
            return {str(key): _shallow(each, depth - 1) for key, each in value.items()}
        case list():
            return [_shallow(each, depth - 1) for each in value]
        case _:
            return value
