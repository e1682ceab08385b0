"""The session of the current directory, which a person may leave unnamed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from claude_mcp.errors import SessionAmbiguous, SessionNotFound

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions
    from claude_mcp.sessions.session import Session

HERE: Final = "."
"""Instead of a session's name: the only session of the current directory."""


async def named(sessions: Sessions, reference: str) -> str:
    """The reference, or the id of the only session of this directory for ``HERE``.

    That is a session whose project is the directory, or else the nearest one above it.

    Raises:
        SessionNotFound, SessionAmbiguous: there are none, or several
    """
    if reference != HERE:
        return reference
    listed = await sessions.list(ask=False)
    directory, found = _nearest([each.session for each in listed])
    if len(found) == 1:
        return found[0].id
    if found:
        names = ", ".join(shlex.quote(each.name) for each in found)
        raise SessionAmbiguous(
            f"{len(found)} sessions work on {directory}.", hint=f"Name one of them: {names}."
        )
    raise SessionNotFound(
        f"No session works on {directory}.",
        hint="Create one with 'claude-mcp create .', or name one of 'claude-mcp list'.",
    )


def _nearest(sessions: Sequence[Session]) -> tuple[str, list[Session]]:
    """The sessions on this directory, or else on the nearest one above it, and which that is."""
    here = above = os.path.realpath(os.curdir)
    while True:
        found = [each for each in sessions if os.path.realpath(each.project_path) == above]
        if found:
            return above, found
        if above == os.path.dirname(above):
            return here, []
        above = os.path.dirname(above)
