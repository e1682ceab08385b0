"""Ids that a caller may choose, so that repeating a request does nothing twice."""

from __future__ import annotations

import uuid

from claude_mcp.errors import UsageError


def canonical(given: str | None, what: str) -> str:
    """The caller's own UUID in its canonical form, or a new one.

    Raises:
        UsageError: the caller's is not a UUID; the message says of what.
    """
    if given is None:
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(given))
    except ValueError:
        raise UsageError(f"The {what}'s id must be a UUID, and {given[:60]!r} is not.") from None
