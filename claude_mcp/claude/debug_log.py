"""Claude Code's debug log, the only place that has a failing service's own words. No I/O.

Frames of retried requests have a status and a category, but not what the service said (measured
with 2.1.330). The rule: a line may be forged, so no line raises. Runs on Python 3.9.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from claude_mcp.claude import fields

ARGUMENT = "--debug-file=/proc/self/fd/2"
ENVIRONMENT = {"CLAUDE_CODE_DEBUG_LOG_LEVEL": "error"}
"""With these, Claude Code writes the errors in its debug log, and only those, to its stderr."""

MAX_WORDS = 300
_LINE = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+Z \[[A-Z]+\] ")
_API_ERROR = re.compile(r"API error \(attempt (\d{1,9})/\d+\): (?:undefined|\d+) (.*)", re.DOTALL)
_STATUS = re.compile(r"\d{3} ")
_TAG = re.compile(r"<[^<>]*>")


class ApiError(NamedTuple):
    """One failed request: the number of the attempt, from 1, and the service's words."""

    attempt: int
    words: str


def is_line(line: bytes) -> bool:
    """Whether a line of stderr belongs to the debug log."""
    return _LINE.match(line) is not None


def api_error(line: bytes) -> ApiError | None:
    """The failed request that a line reports; None if it reports none."""
    head = _LINE.match(line)
    if head is None:
        return None
    text = line[head.end() :].decode("utf-8", "replace").strip()
    if text.startswith('"'):  # a message of several lines is written as JSON
        text = fields.string(_json(text)) or text
    found = _API_ERROR.match(text)
    return None if found is None else ApiError(int(found[1]), _words(found[2]))


def _words(text: str) -> str:
    """What a person reads: the message in a JSON body, or the text of a page."""
    status = _STATUS.match(text)
    body = text[status.end() :] if status else text
    if body.startswith("{"):
        body = _message(fields.mapping(_json(body))) or body
    elif body.startswith("<"):
        body = _TAG.sub(" ", body)
    return " ".join(fields.without_surrogates(body).split())[:MAX_WORDS]


def _message(body: dict[str, object]) -> str:
    error = body.get("error")
    inner = fields.mapping(error)
    given = (inner.get("message"), body.get("message"), body.get("Message"), error)
    return next(filter(None, map(fields.string, given)), "")


def _json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value
