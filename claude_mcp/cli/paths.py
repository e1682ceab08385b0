"""Arguments that hold two things: SESSION:PATH, and HOST:CONTAINER[:rw]. Pure functions."""

from __future__ import annotations

import os

from claude_mcp.errors import UsageError


def endpoints(source: str, destination: str) -> tuple[str, bool, str, str]:
    """The session, whether files go into it, and the two paths; the one here is absolute.

    Raises:
        UsageError: not exactly one of the two names a session.
    """
    source_session, source_path = _split(source)
    destination_session, destination_path = _split(destination)
    if source_session is None and destination_session is not None:
        return destination_session, True, _absolute(source_path), destination_path
    if source_session is not None and destination_session is None:
        return source_session, False, source_path, _absolute(destination_path)
    both = source_session is not None
    raise UsageError(
        "Both paths are in sessions; copy to the host in between."
        if both
        else "Neither path is in a session.",
        hint="One of them must be SESSION:PATH, such as fix-tests:/tmp/report.html; a path here "
        "that holds a colon begins with ./ or /.",
    )


def _split(argument: str) -> tuple[str | None, str]:
    if argument.startswith(("/", ".", "~")) or ":" not in argument:
        return None, argument
    session, _, path = argument.partition(":")
    if not path:
        raise UsageError(f"{argument!r} names no path in the session.")
    return session, path


def _absolute(path: str) -> str:
    """A trailing slash says "into this directory", and is kept."""
    absolute = os.path.abspath(path)
    return f"{absolute}/" if path.endswith("/") and absolute != "/" else absolute


def parse_mount(value: str) -> tuple[str, str, bool]:
    """Host path (absolute), container path, and whether it is read-only.

    Raises:
        UsageError
    """
    host, *rest = value.split(":")
    if not host or len(rest) not in (1, 2) or not rest[0] or rest[1:] not in ([], ["ro"], ["rw"]):
        raise UsageError(
            f"--mount {value!r} is not HOST:CONTAINER or HOST:CONTAINER:rw.",
            hint="For example --mount ~/data:/data; paths with a colon are not possible here.",
        )
    return _absolute(host), rest[0], rest[1:] != ["rw"]
