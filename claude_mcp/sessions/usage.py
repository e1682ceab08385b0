"""What sessions take of their host at this moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claude_mcp.engine.engine import ContainerNotFound, ContainerNotRunning
from claude_mcp.engine.stats import Stats
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session, Status


@dataclass(frozen=True, slots=True)
class Usage:
    """``stats`` is None for a session that does not run."""

    session: Session
    stats: Stats | None


async def usage(sessions: Sessions, references: Sequence[str] = ()) -> list[Usage]:
    """What these sessions take, by default all of them: one engine call for all together, beside
    those that find them.

    Raises:
        UsageError, SessionNotFound, SessionAmbiguous, EngineError
    """
    try:
        return await _usage(sessions, references)
    except (ContainerNotFound, ContainerNotRunning):  # one has just ended, so none is answered for
        return await _usage(sessions, references)


async def _usage(sessions: Sessions, references: Sequence[str]) -> list[Usage]:
    if references:
        found = [await sessions.find(reference) for reference in dict.fromkeys(references)]
    else:
        found = [each.session for each in await sessions.list(ask=False)]
    running = [each.container_id for each in found if each.status is Status.RUNNING]
    measured = await (await sessions.engine()).stats(running) if running else []
    by_id = {each.id: each for each in measured}
    return [Usage(session, by_id.get(session.container_id)) for session in found]
