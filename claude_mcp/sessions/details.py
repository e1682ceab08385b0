"""All that is known of one session: what the engine says of it, and what it says of itself.

A session that does not run is not started for this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import anyio

from claude_mcp.errors import ClaudeMcpError, TurnNotFound, ungrouped
from claude_mcp.sessions.command_state import Entry
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.outcomes import Listed
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Status
from claude_mcp.sessions.turns import commands, listing, prompts
from claude_mcp.sessions.turns.listing import Listing
from claude_mcp.sessions.turns.results import TurnResult
from claude_mcp.sessions.workspaces.changes import Changes, get_changes

ANSWER_SECONDS: Final = 10.0
"""How long each part of the answer may take; they are asked for at once."""
TURNS: Final = 5
COMMANDS: Final = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Details:
    """``latest`` is the latest turn; ``turns`` and ``commands`` are a few, newest first. What is
    not known is None, and ``problems`` says why, by its name; a session that does not run knows
    nothing."""

    listed: Listed
    latest: TurnResult | None
    turns: Listing | None
    commands: list[Entry] | None
    changes: Changes | None
    problems: dict[str, str]


async def details(sessions: Sessions, reference: str) -> Details:
    """What is known of a session: one engine call, and one more for its channel.

    Raises:
        UsageError, SessionNotFound, SessionAmbiguous, EngineError
    """
    handle = await (await sessions.open(reference)).pinned()
    listed = await sessions.look(handle.session)
    problems: dict[str, str] = {}
    if handle.session.status is not Status.RUNNING or listed.problem is not None:
        return Details(listed, None, None, None, None, problems)

    async def told(name: str, ask: Callable[[SessionHandle], Awaitable[T]]) -> T | None:
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                return await ask(handle)
        except TimeoutError:
            problems[name] = f"it did not answer within {ANSWER_SECONDS:g} s"
        except TurnNotFound:
            pass  # it never had one
        except ClaudeMcpError as error:
            problems[name] = error.message
        return None

    latest: list[TurnResult | None] = []
    turns: list[Listing | None] = []
    latest_commands: list[list[Entry] | None] = []
    changes: list[Changes | None] = []

    async def keep(found: list[T | None], name: str, ask: Callable[..., Awaitable[T]]) -> None:
        found.append(await told(name, ask))

    with ungrouped():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep, latest, "turn", _latest)
            tasks.start_soon(keep, turns, "turns", _turns)
            tasks.start_soon(keep, latest_commands, "commands", _commands)
            tasks.start_soon(keep, changes, "changes", get_changes)
    return Details(listed, latest[0], turns[0], latest_commands[0], changes[0], problems)


async def _latest(handle: SessionHandle) -> TurnResult:
    return await prompts.follow(handle, wait_seconds=0)


async def _turns(handle: SessionHandle) -> Listing:
    return await listing.turns(handle, limit=TURNS)


async def _commands(handle: SessionHandle) -> list[Entry]:
    return (await commands.listed(handle))[: -COMMANDS - 1 : -1]
