"""The server's custom headers, which gateways may need; their values are secrets."""

from __future__ import annotations

import re
from typing import Final

from claude_mcp.config_names import HEADERS_NAME
from claude_mcp.contract.redaction import redactor
from claude_mcp.sessions.providers.lookup import MAX_KEY_CHARS, not_a_value

MIN_SECRET_CHARS: Final = 12
"""Shorter values are redacted only if their header sounds like a credential's."""
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*:[ \t]*([ \t!-~]*)")
_SECRET_NAME: Final = re.compile("auth|key|token|secret|cookie|password", re.IGNORECASE)


def check(given: str, problems: list[str]) -> str | None:
    """The headers, one ``Name: value`` a line; what is wrong with them is added to ``problems``."""
    lines = [line.strip() for line in given.splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        found = _HEADER.fullmatch(line)
        if found is None:
            problems.append(f"{HEADERS_NAME}: line {number} does not have the form 'Name: value'.")
        elif wrong := found[1] and not_a_value(found[1]):
            problems.append(f"{HEADERS_NAME}: the value in line {number} {wrong}")
    text = "\n".join(lines)
    if len(text) > MAX_KEY_CHARS:
        problems.append(f"{HEADERS_NAME} is longer than {MAX_KEY_CHARS} characters.")
    for value in secret_values(text):
        redactor.add(value)
    return text or None


def secret_values(headers: str) -> list[str]:
    """The values that must be redacted, and the tokens behind a scheme such as ``Bearer``."""
    found = []
    for line in headers.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if len(value) >= MIN_SECRET_CHARS or _SECRET_NAME.search(name):
            found += [value, value.rpartition(" ")[2]]
    return found
