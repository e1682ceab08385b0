"""Find, list and destroy sessions; the engine is the only memory.

``open_sessions`` gives the object that every front end works with. It connects to the engine
when it is first needed, so that a server can start while a daemon is down.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from claude_mcp.config import Config
from claude_mcp.contract import operations
from claude_mcp.engine import detection
from claude_mcp.engine.engine import Engine, ReferenceAmbiguous
from claude_mcp.errors import (
    SessionAmbiguous,
    SessionNotFound,
    SessionNotReady,
    UsageError,
    ungrouped,
)
from claude_mcp.sessions import labels, pruning, quota
from claude_mcp.sessions.channel.answers import read
from claude_mcp.sessions.channel.channels import Channels, NotRunning, OnEvent
from claude_mcp.sessions.channel.refusals import AgentRefused, error_of
from claude_mcp.sessions.git.guard import GitGuard
from claude_mcp.sessions.network import proxies as egress
from claude_mcp.sessions.network.revival import Revival
from claude_mcp.sessions.session import MAX_NAME_CHARS, Session, Status, container_name

logger = logging.getLogger(__name__)

MAX_REFERENCE_CHARS: Final = 200
MAX_TIME_CHARS: Final = 40
SWEEP_SECONDS: Final = 10.0
"""How long the removal of expired sessions may hold up the end of this process."""
STATUS_SECONDS: Final = 1.0
"""How long `list` waits for what a session itself has to say."""

_ID: Final = re.compile(r"[0-9a-f]{4,64}")

Progress = Callable[[str], Awaitable[None]]


async def no_progress(message: str) -> None:
    """For callers that do not follow."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A session and, as far as it answered, what it is doing (else None)."""

    session: Session
    engine: str
    turn_running: bool | None = None
    last_activity_at: str | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Destroyed:
    """``existed`` is False when there was nothing left to destroy."""

    reference: str
    session: Session | None
    existed: bool
    warnings: tuple[str, ...] = ()


class Sessions:
    """The sessions of one engine, as one front end sees them."""

    def __init__(self, config: Config, tasks: TaskGroup) -> None:
        self.config = config
        self._tasks = tasks
        self._connecting = anyio.Lock()
        self._connected: tuple[Engine, Channels] | None = None
        self._resolved: dict[str, Session] = {}
        self._mcp_configs: dict[str, Mapping[str, Any]] = {}
        self.git = GitGuard()
        self._sweeps: dict[str, anyio.Event] = {}
        self._revival = Revival(self.engine, tasks)

    async def engine(self) -> Engine:
        """The engine, connected to at the first call; see ``detection.detect`` for the errors."""
        return (await self._connection())[0]

    async def _connection(self) -> tuple[Engine, Channels]:
        async with self._connecting:
            if self._connected is None:
                engine = await detection.connect(self.config.engine, self.config.environment)
                logger.debug("using '%s' %s: %s", engine.program, engine.version, engine.dialect)
                self._connected = engine, Channels(engine, self._tasks)
            return self._connected

    async def find(self, reference: str) -> Session:
        """A session by its id, an unambiguous prefix of it, or its name: one engine call.

        Raises:
            UsageError: it cannot be a reference.
            SessionNotFound, SessionAmbiguous: with what there is instead.
        """
        check_reference(reference)
        engine = await self.engine()
        names = [container_name(reference)] if len(reference) <= MAX_NAME_CHARS else []
        prefix = _ID.fullmatch(reference) is not None
        try:
            containers = await engine.inspect([*names, *([reference] if prefix else [])])
        except ReferenceAmbiguous:
            containers = []
        found = [session for each in containers if (session := labels.session_of(each))]
        by_name = [session for session in found if session.name == reference]
        # One that is found by name wins over others that have it as the prefix of their id.
        if by_name:
            return by_name[0]
        if len(found) == 1 and found[0].container_id.startswith(reference):
            return found[0]
        return self._choose(reference, await self._all(engine))

    @staticmethod
    def _choose(reference: str, sessions: list[Session]) -> Session:
        matching = [one for one in sessions if one.name == reference] or [
            one
            for one in sessions
            if _ID.fullmatch(reference) and one.container_id.startswith(reference)
        ]
        if len(matching) == 1:
            return matching[0]
        if matching:
            choices = ", ".join(f"{one.id} ({one.name})" for one in matching[:10])
            raise SessionAmbiguous(f"{reference!r} fits {len(matching)} sessions: {choices}.")
        near = difflib.get_close_matches(reference, [one.name for one in sessions], n=1, cutoff=0.7)
        there = ", ".join(f"{one.id} ({one.name})" for one in sessions[:10])
        if near:
            hint = f"Did you mean {near[0]!r}?"
        else:
            hint = f"There are: {there}." if there else "There is none; create one first."
        raise SessionNotFound(f"There is no session {reference!r}.", hint=hint)

    async def _all(self, engine: Engine) -> list[Session]:
        containers = await engine.containers(labels.SESSION)
        found = [session for each in containers if (session := labels.session_of(each))]
        self._sweep(found)
        return sorted(found, key=lambda session: (session.created_at, session.name))

    def _sweep(self, found: Sequence[Session]) -> None:
        """Whoever looks at the sessions removes those that have expired; nobody waits for it."""
        for session in found:
            if pruning.is_over(session) and session.id not in self._sweeps:
                self._sweeps[session.id] = anyio.Event()
                self._tasks.start_soon(self._remove_expired, session)

    async def _remove_expired(self, session: Session) -> None:
        try:
            engine, channels = await self._connection()
            await pruning.prune(engine, channels, [session], broken=False)
        except Exception:  # nobody asked for it, and the others must not suffer
            logger.warning("session %s was not removed", session.name, exc_info=True)
        finally:
            self._sweeps.pop(session.id).set()

    async def finish_sweeping(self) -> None:
        with anyio.move_on_after(SWEEP_SECONDS):
            for done in [*self._sweeps.values()]:
                await done.wait()

    async def prune(self, *, dry_run: bool = False) -> list[pruning.Pruned]:
        """Remove expired and broken sessions; in a dry run only tell which.

        Raises:
            EngineError
        """
        engine, channels = await self._connection()
        containers = await engine.containers(labels.SESSION)
        found = [session for each in containers if (session := labels.session_of(each))]
        pruned = await pruning.prune(engine, channels, found, broken=True, dry_run=dry_run)
        if not dry_run:
            await egress.prune(engine)
        return pruned

    async def check_room(self, newcomer: str | None = None) -> None:
        """Whether one more session may run; without a limit, no engine call; see ``room.check``."""
        if self.config.max_sessions is not None:
            await quota.check(await self.engine(), self.config.max_sessions, newcomer)

    async def list(self) -> list[Listed]:
        """All sessions, oldest first: two engine calls.

        Only sessions whose channel is open anyway are asked what they are doing.
        """
        engine, channels = await self._connection()
        sessions = await self._all(engine)
        states: dict[str, operations.Status] = {}

        async def ask(session: Session) -> None:
            with anyio.move_on_after(STATUS_SECONDS):
                try:
                    answer = await channels.request(session.container_id, operations.STATUS, {})
                    states[session.id] = read(operations.Status, answer)
                except Exception as error:  # one bad session must not hide the others
                    logger.debug("session %s did not tell its state: %s", session.id, error)

        async with anyio.create_task_group() as tasks:
            for session in sessions:
                if session.status is Status.RUNNING and channels.is_open(session.container_id):
                    tasks.start_soon(ask, session)
        return [
            _listed(session, engine.dialect.name, states.get(session.id)) for session in sessions
        ]

    async def destroy(self, reference: str) -> Destroyed:
        """Kill and remove a session and all that belongs to it; what is gone already is fine.

        Raises:
            UsageError, SessionAmbiguous, EngineError
        """
        engine, channels = await self._connection()
        known = self._resolved.get(reference)
        if known is not None:
            # The id of a container is given once: what is gone cannot be mistaken for another.
            self._forget(known)
            self._mcp_configs.pop(known.container_id, None)
            channels.close(known.container_id)
            if await engine.remove(known.container_id):
                await egress.release_or_log(engine, known.proxy)
                warnings = await self.git.differences(known)
                return Destroyed(reference, known, existed=True, warnings=warnings)
        try:
            session = await self.find(reference)
        except SessionNotFound:
            if known is not None:  # somebody else removed it, and nothing of its proxy
                await egress.release_or_log(engine, known.proxy)
            return Destroyed(reference, known, existed=False)
        self._mcp_configs.pop(session.container_id, None)
        channels.close(session.container_id)
        existed = await engine.remove(session.container_id)
        await egress.release_or_log(engine, session.proxy)
        warnings = await self.git.differences(session)
        return Destroyed(reference, session, existed=existed, warnings=warnings)

    def remember(self, session: Session) -> None:
        """A session need not be looked for again under its ids and its name.

        What is remembered may be out of date: whoever uses it must notice when the container is
        gone. A prefix is not remembered; another session may have it too by now.
        """
        for reference in (session.id, session.container_id, session.name):
            self._resolved[reference] = session

    def _forget(self, session: Session) -> None:
        for reference in (session.id, session.container_id, session.name):
            self._resolved.pop(reference, None)

    async def request(
        self,
        reference: str,
        op: str,
        args: Mapping[str, Any],
        on_event: OnEvent | None = None,
        *,
        start: bool = True,
    ) -> tuple[Session, dict[str, Any]]:
        """Ask a session's agent; a stopped container is started again first, if ``start``.

        While the session's channel is open, no engine call is made at all.

        Raises:
            SessionNotFound, SessionAmbiguous, SessionNotReady: it cannot be asked.
            AgentError, EngineError: it did not answer.
            ClaudeMcpError: it refused; which error, ``refusals`` says.
        """
        try:
            return await self._request(reference, op, args, on_event, start=start)
        except AgentRefused as refusal:
            raise error_of(refusal, reference) from refusal

    async def _request(
        self,
        reference: str,
        op: str,
        args: Mapping[str, Any],
        on_event: OnEvent | None,
        *,
        start: bool,
    ) -> tuple[Session, dict[str, Any]]:
        engine, channels = await self._connection()
        known = self._resolved.get(reference)
        if known is not None and (
            not channels.is_open(known.container_id) or await channels.is_alive(known.container_id)
        ):
            try:
                hear = self._revival.hearing(known.proxy, on_event)
                return known, await channels.request(known.container_id, op, args, hear)
            except (NotRunning, SessionNotFound) as error:
                logger.debug("session %s is not what it was: %s", known.name, error)
            self._forget(known)
        session = await self.find(reference)
        if session.status in (Status.BROKEN, Status.CREATING, Status.PAUSED, Status.EXPIRED):
            raise _not_ready(session)
        self.remember(session)
        hear = self._revival.hearing(session.proxy, on_event)
        try:
            if session.status is Status.STOPPED:
                raise NotRunning("stopped")
            answer = await channels.request(session.container_id, op, args, hear)
        except NotRunning:
            if not start:
                raise SessionNotReady(
                    f"The session {session.name!r} is stopped.",
                    hint="The next prompt or command starts it again.",
                ) from None
            logger.info("starting the stopped session %s again", session.name)
            await self.check_room()
            if session.proxy is not None:
                await egress.ensure(engine, session.proxy)
            await engine.start(session.container_id)
            session = replace(session, status=Status.RUNNING)
            self.remember(session)
            answer = await channels.request(session.container_id, op, args, hear)
        except SessionNotFound:
            self._forget(session)
            raise SessionNotFound(f"The session {session.name!r} no longer exists.") from None
        return session, answer

    def keep_mcp_config(self, session: Session, config: Mapping[str, Any]) -> None:
        """The session loses it with its credentials, and gets it back with them."""
        self._mcp_configs[session.container_id] = config

    def mcp_config_of(self, session: Session) -> Mapping[str, Any] | None:
        """What was kept of it in this process."""
        return self._mcp_configs.get(session.container_id)


def check_reference(reference: str) -> None:
    if not reference.strip() or len(reference) > MAX_REFERENCE_CHARS or "\0" in reference:
        raise UsageError(
            "A sessionId is a session's id, the beginning of it, or its name; "
            f"{reference[:40]!r} is none of them."
        )


def _not_ready(session: Session) -> SessionNotReady:
    match session.status:
        case Status.PAUSED:
            return SessionNotReady(
                f"The session {session.name!r} is paused.",
                hint=f"Unpause its container {session.container_name} first.",
            )
        case Status.EXPIRED:
            return SessionNotReady(
                f"The session {session.name!r} has expired and is being removed.",
                hint="Create a new one, with a larger timeoutSeconds or idleTimeoutSeconds.",
            )
        case Status.CREATING:
            return SessionNotReady(
                f"The session {session.name!r} is being created.", hint="Try again in a moment."
            )
        case _:
            return SessionNotReady(
                f"The session {session.name!r} is broken: its creation was never completed, or "
                "it has lost its home, which a read-only root leaves in memory, with its stop.",
                hint="Destroy it and create it anew.",
            )


def _listed(session: Session, engine: str, status: operations.Status | None) -> Listed:
    if status is None:
        return Listed(session, engine)
    return Listed(
        session=session,
        engine=engine,
        turn_running=status.turn_running,
        last_activity_at=status.last_activity_at[:MAX_TIME_CHARS],
        cost_usd=status.cost_usd,
    )


@asynccontextmanager
async def open_sessions(config: Config) -> AsyncIterator[Sessions]:
    """Sessions for as long as the block runs; leaving it closes every channel."""
    with ungrouped():
        async with anyio.create_task_group() as tasks:
            try:
                sessions = Sessions(config, tasks)
                yield sessions
                await sessions.finish_sweeping()
            finally:
                tasks.cancel_scope.cancel()
