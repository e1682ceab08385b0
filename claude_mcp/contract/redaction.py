"""The redactor, which knows every secret of its process and removes them from text.

The host applies it to everything it prints, and the agent to everything it logs, stores and
answers.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

MASK = "[redacted]"
MIN_REDACTABLE_CHARS = 6
"""Shorter values are not redacted, because that would mask ordinary words too."""
MIN_PART_CHARS = 8
"""If a text is cut off within a secret, shorter parts of the secret are not redacted."""
MIN_LINE_CHARS = 16
"""In a secret of several lines, such as a private key, each line of this length is a secret."""
MAX_DEPTH = 100
TOO_DEEP = "[too deep]"


class Redactor:
    """Replaces known secrets, also if they are encoded as base64, URL or JSON, and also if they are
    broken into lines."""

    def __init__(self) -> None:
        self._forms: list[str] = []

    def add(self, value: str) -> None:
        """Add a secret. Its encoded forms are computed here, once."""
        if len(value) < MIN_REDACTABLE_CHARS:
            return
        lines = value.splitlines()
        parts = {value, value.strip()}
        if len(lines) > 1:
            parts.update(each for each in map(str.strip, lines) if len(each) >= MIN_LINE_CHARS)
        forms = {_joined(form) for part in parts for form in _forms(part)}
        known = {*self._forms, *(each for each in forms if len(each) >= MIN_REDACTABLE_CHARS)}
        self._forms = sorted(known)

    def redact(self, text: str, *, begun_before: bool = False, goes_on: bool = False) -> str:
        """The text without the secrets.

        ``begun_before`` and ``goes_on`` say that the text was cut off at its beginning or its end.
        Then the part of a secret that remains there is redacted too.
        """
        if not self._forms:
            return text
        joined = _joined(text)
        spans = [span for form in self._forms for span in _occurrences(form, joined)]
        if begun_before:
            spans += [(0, length) for form in self._forms if (length := _end_at(form, joined))]
        if goes_on:
            end = len(joined)
            spans += [
                (end - length, end) for form in self._forms if (length := _begun_at(form, joined))
            ]
        if not spans:
            return text
        where: Sequence[int] = range(len(text))
        if len(joined) < len(text):
            where = [at for at, character in enumerate(text) if character not in "\r\n"]
        redacted = []
        done = 0
        for first, behind in sorted(spans):
            start, end = where[first], where[behind - 1] + 1
            if start >= done:
                redacted += [text[done:start], MASK]
            # Secrets that overlap or contain each other are masked as one, so that no part remains.
            done = max(done, end)
        return "".join([*redacted, text[done:]])

    def settled(self, text: str) -> int:
        """How many characters of a text that still grows can be redacted and shown already.

        What is behind them may become a secret, or the rest of one.
        """
        joined = _joined(text)
        end = len(joined)
        for form in self._forms:
            at = joined.find(form[0], max(0, len(joined) - len(form) + 1))
            while at >= 0 and not form.startswith(joined[at:]):
                at = joined.find(form[0], at + 1)
            if at >= 0:
                end = min(end, at)
        if end == len(joined):
            return len(text)
        spans = [span for form in self._forms for span in _occurrences(form, joined)]
        for first, behind in sorted(spans, reverse=True):
            if first < end < behind:  # it would be cut, and so not be found
                end = first
        return [at for at, character in enumerate(text) if character not in "\r\n"][end]

    def redact_all(self, value: Any, depth: int = MAX_DEPTH) -> Any:
        """A JSON value without the secrets in any of its strings, including keys.

        Levels deeper than ``depth`` are left out.
        """
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, (dict, list)) and depth == 0:
            return TOO_DEEP
        if isinstance(value, dict):
            return {
                self.redact(key): self.redact_all(each, depth - 1) for key, each in value.items()
            }
        if isinstance(value, list):
            return [self.redact_all(each, depth - 1) for each in value]
        return value


def _joined(text: str) -> str:
    return text.replace("\r", "").replace("\n", "")


def _forms(value: str) -> set[str]:
    """A secret as it is, and as common text formats write it."""
    try:
        raw = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, as JSON may hold it
        raw = value.encode("utf-8", "surrogatepass")
    quoted = {
        urllib.parse.quote(raw, safe=""),
        urllib.parse.quote(raw, safe="/"),
        urllib.parse.quote_plus(raw),
    }
    lower = {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), each) for each in quoted}
    escaped = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    return {value, *quoted, *lower, *escaped, *_base64_forms(raw)}


def _base64_forms(raw: bytes) -> set[str]:
    """The base64 characters that encode only ``raw``, for each alignment of ``raw`` in a text."""
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


def _begun_at(form: str, text: str) -> int:
    """How many of a form's first characters are at the end of a text; 0 if too few."""
    first = form[:MIN_PART_CHARS]
    at = text.find(first, max(0, len(text) - len(form) + 1))
    while at >= 0 and not form.startswith(text[at:]):
        at = text.find(first, at + 1)
    return len(text) - at if at >= 0 else 0


def _end_at(form: str, text: str) -> int:
    """How many of a form's last characters are at the beginning of a text; 0 if too few."""
    last = form[-MIN_PART_CHARS:]
    at = text.rfind(last, 0, len(form) - 1)
    while at >= 0 and not form.endswith(text[: at + len(last)]):
        at = text.rfind(last, 0, at + len(last) - 1)
    return at + len(last) if at >= 0 else 0


redactor = Redactor()
