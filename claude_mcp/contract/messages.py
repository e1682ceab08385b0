"""Turns the values of this package into JSON objects and back.

A value is a ``NamedTuple``; its field ``max_turns`` is the key ``maxTurns``. A field that has its
default value is left out, so both sides may gain optional fields independently.

Dataclasses would do the same, but importing them and creating these classes takes 15 ms or more
(measured), which the first command of a session would have to wait for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

Message = TypeVar("Message", bound=tuple[Any, ...])


class Malformed(ValueError):
    """A JSON value is not the expected message."""


def key(field: str) -> str:
    """The JSON key of a field: ``exit_code`` becomes ``exitCode``."""
    first, *others = field.split("_")
    return first + "".join(map(str.capitalize, others))


def to_json(message: Any) -> dict[str, Any]:
    """The JSON object for a message, without the fields that have their default value."""
    defaults = message._field_defaults
    return {
        key(field): _plain(value)
        for field, value in zip(message._fields, message)
        if field not in defaults or value != defaults[field]
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return to_json(value) if hasattr(value, "_fields") else [_plain(each) for each in value]
    return value


def from_json(kind: type[Message], values: object) -> Message:
    """A message from a JSON object whose sender is trusted; unknown keys are ignored.

    Values are not checked. For what a session says, the host has a stricter reader.

    Raises:
        Malformed: it is no object, or lacks a required key.
    """
    if not isinstance(values, Mapping):
        raise Malformed(f"{kind.__name__} is not an object")
    fields: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    try:
        return kind(**{field: values[key(field)] for field in fields if key(field) in values})
    except TypeError as error:
        raise Malformed(str(error)) from error
