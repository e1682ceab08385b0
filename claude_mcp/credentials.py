"""Secret values that are not shown by accident.

``str`` and ``repr`` mask the value; only ``reveal`` returns it. The redactor knows every secret of
this process.
"""

from __future__ import annotations

import logging

from claude_mcp.contract.redaction import MASK, redactor
from claude_mcp.contract.wording import worded


class Secret:
    """A value that must not appear in argv, labels, logs, errors or results."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        redactor.add(value)

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class RedactingFormatter(logging.Formatter):
    """Formats a record with its traceback and masks every known secret in it."""

    def format(self, record: logging.LogRecord) -> str:
        return worded(redactor.redact(super().format(record)))
