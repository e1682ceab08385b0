"""Secret values, and the redactor that stands before every line we print.

A ``Secret`` never shows its value by accident: ``str`` and ``repr`` are masked, and only
``reveal`` gives it away. The redactor knows every secret that was made in this process.
"""

from __future__ import annotations

import base64
import logging
import urllib.parse
from collections.abc import Iterator
from typing import Final

MASK: Final = "[redacted]"
MIN_REDACTABLE_CHARS: Final = 6
"""Shorter values are not replaced in text: they would also mask innocent words."""


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


class Redactor:
    """Replaces known secrets, also in their base64 and URL-encoded forms."""

    def __init__(self) -> None:
        self._forms: list[str] = []

    def add(self, value: str) -> None:
        """Learn one secret; its encoded forms are derived here, once."""
        if len(value) < MIN_REDACTABLE_CHARS:
            return
        quoted = urllib.parse.quote(value, safe="", errors="surrogateescape")
        forms = {value, quoted, *_base64_forms(value.encode("utf-8", "surrogateescape"))}
        self._forms = sorted({*self._forms, *forms})

    def redact(self, text: str) -> str:
        spans = sorted(span for form in self._forms for span in _occurrences(form, text))
        redacted = []
        done = 0
        for start, end in spans:
            if start >= done:
                redacted += [text[done:start], MASK]
            # Secrets that overlap, or hold one another, are hidden as one: no rest stays.
            done = max(done, end)
        return "".join([*redacted, text[done:]])


def _base64_forms(raw: bytes) -> set[str]:
    """The characters that hold nothing but bits of ``raw``, wherever in a text it stands."""
    forms = set()
    for bytes_before in range(3):
        padded = bytes(bytes_before) + raw
        ours = slice(-(-8 * bytes_before // 6), 8 * len(padded) // 6)
        forms.add(base64.b64encode(padded).decode()[ours])
        forms.add(base64.urlsafe_b64encode(padded).decode()[ours])
    return forms


def _occurrences(form: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = text.find(form, start + 1)


redactor: Final = Redactor()


class RedactingFormatter(logging.Formatter):
    """Formats a record, traceback included, and then removes every known secret."""

    def format(self, record: logging.LogRecord) -> str:
        return redactor.redact(super().format(record))
