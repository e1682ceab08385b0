"""Whether a session holds work that would be lost with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from claude_mcp.contract import operations
from claude_mcp.contract.numbers import counted
from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import ClaudeMcpError, NextStep, SessionNotFound, WorkUnsaved
from claude_mcp.sessions.channel.answers import MAX_NAMED, listed, read
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.session import Status

STEPS = (NextStep.APPLY, NextStep.DISCARD_WORK)


async def check(handle: SessionHandle) -> None:
    """Refuse to lose work. A session whose project is mounted has none of its own.

    Raises:
        WorkUnsaved: what it has that is nowhere else, or why that cannot be told.
        EngineError: the engine does not answer.
    """
    session = handle.session
    alive = session.status in (Status.RUNNING, Status.STOPPED, Status.PAUSED, Status.EXPIRED)
    if not session.may_hold_work or not alive:
        return
    try:
        answer = await handle.request(operations.UNSAVED, {})
        found = read(operations.Unsaved, answer)
    except SessionNotFound:
        return
    except ClaudeMcpError as error:
        # Whatever went wrong: without its engine, no session can be asked.
        await handle.engine.check()
        raise WorkUnsaved(
            f"Whether session {session.name!r} holds work that is nowhere else cannot be told: "
            f"{error.message}",
            steps=STEPS,
        ) from error
    more_commits = max(0, found.more_commits)
    parts = [
        *_named("commit", found.commits, more_commits),
        *_named("changed file", found.files, max(0, found.more - more_commits)),
    ]
    if found.reason:
        parts.append(f"perhaps more: {found.reason}")
    if parts:
        raise WorkUnsaved(
            f"Session {session.name!r} was not destroyed: only there are "
            f"{redactor.redact(', '.join(parts))}.",
            hint="Take them, or destroy the session with them.",
            steps=STEPS,
        )


def _named(what: str, names: Sequence[str], more: int) -> Iterator[str]:
    """How many there are, and the first of them."""
    count = len(names) + more
    if not names and count:
        yield counted(count, what)
    elif names:
        shown = names[:MAX_NAMED]
        rest = f" and {count - len(shown)} more" if count > len(shown) else ""
        yield f"{counted(count, what)} ({listed(shown)}{rest})"
