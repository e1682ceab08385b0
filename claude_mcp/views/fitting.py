"""Keeps a result within the size that a client passes on to its model.

Each kind of result is bounded where it is made, and says how to read on. What is longer all the
same, because a session lied or names are long, is cut here, and the next step says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, TypeVar

from claude_mcp.views.results import Result
from claude_mcp.views.wire import to_json

MIN_CHARS: Final = 200
"""A shorter text is never cut."""
LEFT_OUT: Final = "\n[{} characters left out]\n"

R = TypeVar("R", bound=Result)


def fitted(result: R, limit: int) -> R:
    """The result, its longest parts cut until its JSON has at most ``limit`` characters."""
    while _size(result.wire()) > limit:
        largest = max(_parts(result), key=_part_size, default=None)
        if largest is None:  # nothing of it can be cut
            return result
        result = _replaced(result, largest, _shorter(largest))
    return result


def _size(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":")))


def _part_size(part: str | list[Any]) -> int:
    return _size(to_json(part))


def _inside(value: Any) -> list[Any]:
    if is_dataclass(value):
        return [getattr(value, each.name) for each in fields(value)]
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _parts(value: Any) -> Iterator[str | list[Any]]:
    """Everything in a result that can be shortened."""
    for each in _inside(value):
        if (isinstance(each, str) and len(each) > MIN_CHARS) or (
            isinstance(each, list) and len(each) > 1
        ):
            yield each
        yield from _parts(each)


def _shorter(part: str | list[Any]) -> str | list[Any]:
    """Half of a list, or of a text its first and its last part."""
    if isinstance(part, list):
        return part[: len(part) // 2]
    quarter = len(part) // 4
    cut = len(part) - 2 * quarter
    return part[:quarter] + LEFT_OUT.format(cut) + part[-quarter:]


def _replaced(value: Any, old: Any, new: Any) -> Any:
    if value is old:
        return new
    if is_dataclass(value) and not isinstance(value, type):
        changed = {each.name: getattr(value, each.name) for each in fields(value)}
        return replace(value, **{name: _replaced(each, old, new) for name, each in changed.items()})
    if isinstance(value, dict):
        return {name: _replaced(each, old, new) for name, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, old, new) for each in value]
    return value
