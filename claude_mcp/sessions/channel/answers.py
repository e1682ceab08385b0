"""Reads what the agent answered, which the session may have forged.

A message is read into its class of the contract: afterwards every field has the declared type.
What remains for the caller: how long texts and lists may be, what must be redacted, and objects
of any shape, which go through ``mapping``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from claude_mcp.contract.messages import key
from claude_mcp.contract.numbers import amount
from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import AgentError

MAX_NAMED: Final = 10
NAME_CHARS: Final = 120
SAID_CHARS: Final = 200

Message = TypeVar("Message", bound=tuple[Any, ...])

_hints = functools.cache(get_type_hints)


class _Unusable(Exception):
    """A value does not have the declared type; the message names the field."""


def read(kind: type[Message], answer: object, fallback: Message | None = None) -> Message:
    """An answer or event as a message of ``kind``.

    A field that is missing or has the wrong type gets the value it has in ``fallback``, or else
    its default value. In a list, unusable entries are left out.

    Raises:
        AgentError: a field without such a value is missing or has the wrong type.
    """
    try:
        message: Message = _message(kind, answer, fallback)
    except _Unusable as error:
        raise AgentError("The session's agent sent an unusable answer.") from error
    return message


def _message(kind: Any, value: Any, fallback: Any = None) -> Any:
    values = value if isinstance(value, dict) else {}
    fields = dict(kind._field_defaults if fallback is None else fallback._asdict())
    for field, hint in _hints(kind).items():
        try:
            fields[field] = _value(hint, values[key(field)])
        except (KeyError, _Unusable):
            if field not in fields:
                raise _Unusable(f"{kind.__name__}.{field}") from None
    return kind(**fields)


def _value(hint: Any, value: Any) -> Any:
    if get_origin(hint) is UnionType:  # X | None
        return None if value is None else _value(get_args(hint)[0], value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_usable(get_args(hint)[0], value))
    if get_origin(hint) is Mapping and isinstance(value, dict):
        return value
    if hint is float and (number := amount(value)) is not None:
        return float(number)
    if hint is int and (number := amount(value)) is not None and number == int(number):
        return int(number)
    if hint in (str, bool) and isinstance(value, hint):
        return value
    if hint is object:
        return value
    if hasattr(hint, "_fields"):
        return _message(hint, value)
    raise _Unusable(str(hint))


def _usable(hint: Any, values: list[Any]) -> Any:
    for value in values:
        try:
            yield _value(hint, value)
        except _Unusable:
            continue


def line(value: object, characters: int = 500) -> str:
    """Text from the session as one short line."""
    return " ".join(str(value)[:characters].split())


def said(text: str | None) -> str | None:
    """A short line that a session says of itself, without secrets; None if it says nothing."""
    return redactor.redact(line(text or "", SAID_CHARS)) or None


def listed(names: Sequence[str]) -> str:
    """The first of several names as one short line, and how many more there are."""
    shown = ", ".join(line(each, NAME_CHARS) for each in names[:MAX_NAMED])
    return f"{shown} and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else shown


def mapping(value: object, depth: int = 20) -> dict[str, Any]:
    """A JSON object without its deepest levels, which not every reader of JSON can handle; {} for
    anything else."""
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
