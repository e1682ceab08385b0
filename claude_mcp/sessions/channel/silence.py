"""Who is silent when a session does not answer: the engine, its container, or its agent.

The agent keeps a caller's time limit. It cannot while it is stopped, its container is paused, or
the engine's connection stalls. So the host has a limit of its own for every request, and a channel
with a request under way checks that the other side is still there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import anyio

from claude_mcp.contract import operations
from claude_mcp.contract.numbers import amount
from claude_mcp.engine.engine import BEING_REMOVED, LOST, Container, Engine
from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    EngineError,
    EngineUnavailable,
    NextStep,
    SessionNotFound,
    SessionNotReady,
)

GRACE_SECONDS: Final = 6.0
"""How long after the caller's limit an answer may arrive: the agent then kills what runs."""
PLAIN_SECONDS: Final = 60.0
"""The limit of operations that only read or store something."""
LONG_SECONDS: Final = 600.0
"""The limit of operations that read the whole workspace."""
ENGINE_SECONDS: Final = 6.0
"""How long an engine that answers may take to say what became of a container."""
BRIEF_SECONDS: Final = 0.5
"""After this long, it is asked whether it answers: its silence is told before that time is over."""

_PLAIN: Final = (
    operations.PING,
    operations.STATUS,
    operations.CONFIGURE,
    operations.EVENT,
    operations.RESPOND,
    operations.ARRIVED,
    operations.DROP,
    operations.APPLIED,
    operations.STOP_COMMAND,
    operations.COMMANDS,
)
_LONG: Final = (
    operations.CHANGES,
    operations.DISCARD,
    operations.PACK,
    operations.COLLECT,
    operations.UNSAVED,
)
_LIMITED: Final = (
    operations.COMMAND,
    operations.FOLLOW_COMMAND,
    operations.TURN,
    operations.FOLLOW,
    operations.MCP,
)
_MAYBE: Final = "What was asked of it may still be carried out."


def limit_of(op: str, args: Mapping[str, Any]) -> float:
    """How many seconds a request may take; infinite if its caller set no limit."""
    if op in _PLAIN:
        return PLAIN_SECONDS
    if op in _LONG:
        return LONG_SECONDS
    if op not in _LIMITED:
        return math.inf
    if args.get("background"):
        return PLAIN_SECONDS
    given = [amount(args.get(name)) for name in ("timeoutSeconds", "waitSeconds")]
    return min((each for each in given if each is not None), default=math.inf) + GRACE_SECONDS


class LinkLost(EngineUnavailable):
    """The engine stopped answering after a request was sent, which may be carried out."""


def in_doubt(error: EngineError) -> EngineError:
    """The error of a silent engine for a request that was sent."""
    hint = " ".join(filter(None, (error.hint, _MAYBE)))
    if isinstance(error, EngineUnavailable):
        return LinkLost(error.message, hint=hint)
    return error


async def container_now(engine: Engine, container_id: str) -> Container | None:
    """The container as the engine describes it; None if there is none.

    Raises:
        EngineUnavailable: the engine does not answer in time.
        EngineError
    """
    with anyio.move_on_after(ENGINE_SECONDS):
        async with engine.watching(BRIEF_SECONDS):
            found = await engine.inspect([container_id])
        return found[0] if found else None
    raise EngineUnavailable(
        f"{engine.title} answers, but does not say what became of the session's container.",
        hint=f"Somebody may be copying its files, or starting or removing it. {_MAYBE}",
    )


async def explain(
    engine: Engine, container_id: str, seconds: float, *, written: bool
) -> ClaudeMcpError:
    """The error for a session that has sent nothing for ``seconds``.

    ``written`` says whether the request was sent.
    """
    maybe = f" {_MAYBE}" if written else ""
    try:
        container = await container_now(engine, container_id)
    except EngineError as error:
        return in_doubt(error) if written else error
    if container is not None and container.status == "paused":
        return SessionNotReady(
            "The session's container is paused.",
            hint=f"Unpause its container {container.name} first.{maybe}",
        )
    return ended(container) or AgentError(
        f"The session's agent has not answered for {seconds:g} s, although its container runs.",
        hint=f"Read the session's log. If the error persists, destroy the session.{maybe}",
        steps=(NextStep.READ_LOG, NextStep.DESTROY),
    )


class StoppedMeanwhile(AgentError):
    """The container stopped while a request was under way."""


def stopped(why: str = "") -> StoppedMeanwhile:
    return StoppedMeanwhile(
        f"The session stopped before it answered: {why.rstrip('.')}."
        if why
        else "The session stopped before it answered.",
        hint="What was asked of it may have been carried out in part. The next prompt or command "
        "starts it again.",
    )


def lost(session: str, reason: str) -> SessionNotReady:
    """The error for a session whose container its engine ended for good; it is named first."""
    why = reason.rstrip(".") or "no reason is known"
    return SessionNotReady(
        f"{session} was ended by its engine, and its files and conversation are gone: {why}.",
        hint="Destroy it and create a new one.",
        steps=(NextStep.DESTROY, NextStep.CREATE),
    )


def ended(container: Container | None) -> ClaudeMcpError | None:
    """The error for a request whose container has stopped or is gone; None if it has not."""
    if container is None or container.status in BEING_REMOVED:
        return SessionNotFound(
            "The session was removed before it answered.",
            hint="What was asked of it may have been carried out in part.",
        )
    if container.status == LOST:
        return lost("The session", container.error)
    if container.status in ("running", "paused"):
        return None
    return stopped(container.error if container.status == "restarting" else "")
