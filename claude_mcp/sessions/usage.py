"""What sessions take of their host at this moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from claude_mcp.engine.engine import ContainerNotFound, ContainerNotRunning
from claude_mcp.engine.stats import Stats
from claude_mcp.errors import EngineError, EngineUnavailable, ungrouped
from claude_mcp.sessions.outcomes import Answers
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session, Status


@dataclass(frozen=True, slots=True)
class Usage:
    """``stats`` is None for a session that does not run."""

    session: Session
    engine: str
    stats: Stats | None


async def usage(sessions: Sessions, references: Sequence[str] = ()) -> Answers[Usage]:
    """What these sessions take, by default all of them: one engine call for all of an engine
    together, beside those that find them.

    Raises:
        UsageError, SessionNotFound, SessionAmbiguous, EngineError
    """
    if not references:
        answers = await sessions.everywhere(_measured)
        return Answers([each for part in answers.found for each in part], answers.unreachable)
    places = [await sessions.at(reference) for reference in dict.fromkeys(references)]
    parts: dict[Sessions, list[Usage]] = {}

    async def measure(there: Sessions) -> None:
        parts[there] = await _measured(there, [each for one, each in places if one is there])

    with ungrouped():
        async with anyio.create_task_group() as tasks:
            for there in dict.fromkeys(one for one, _ in places):
                tasks.start_soon(measure, there)
    return Answers([parts[one].pop(0) for one, _ in places])


async def _measured(sessions: Sessions, references: Sequence[str] = ()) -> list[Usage]:
    """Ask the engine again if a session has ended meanwhile: then it answers for none of them.

    It says so in many words, so after any failure it counts which sessions still run.
    """
    failure: EngineError | None = None
    asked: list[str] = []
    while True:
        if references:
            found = [await sessions.find(reference) for reference in references]
        else:
            found = [each.session for each in await sessions.list(ask=False)]
        running = [each.container_id for each in found if each.status is Status.RUNNING]
        if failure is not None and running == asked:
            raise failure
        try:
            measured = await (await sessions.engine()).stats(running) if running else []
        except EngineUnavailable:
            raise
        except (ContainerNotFound, ContainerNotRunning) as error:
            # The first time, the list may be the older of the two.
            asked = running if failure is not None else []
            failure = error
        except EngineError as error:
            failure, asked = error, running
        else:
            by_id = {each.id: each for each in measured}
            name = await sessions.name()
            return [Usage(session, name, by_id.get(session.container_id)) for session in found]
