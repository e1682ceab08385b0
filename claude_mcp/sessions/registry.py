"""The sessions of one front end: open, list, prune and destroy them.

The engine is the only memory. ``open_sessions`` gives the object that every front end works with;
it connects to the engine when that is first needed, so a server can start while a daemon is down.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, TypeVar

import anyio
from anyio.abc import TaskGroup

from claude_mcp.config import Config
from claude_mcp.engine import host
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import (
    ClaudeMcpError,
    EngineError,
    NotASession,
    SessionNotFound,
    SessionNotReady,
    UsageError,
    WorkUnsaved,
    ungrouped,
)
from claude_mcp.sessions import (
    activity,
    labels,
    marks,
    mounted,
    own_container,
    pruning,
    references,
    unsaved,
)
from claude_mcp.sessions.activity import Activity
from claude_mcp.sessions.channel.channels import Channels
from claude_mcp.sessions.git.guard import GitGuard
from claude_mcp.sessions.handle import Connection, SessionHandle
from claude_mcp.sessions.known import KnownSessions
from claude_mcp.sessions.network import enforcement, forwarders, proxies
from claude_mcp.sessions.network.revival import Revival
from claude_mcp.sessions.network.tunnels import Tunnels
from claude_mcp.sessions.outcomes import Answers, Destroyed, Listed
from claude_mcp.sessions.own_container import OwnContainer
from claude_mcp.sessions.session import (
    Session,
    Status,
    age_seconds,
    client_name,
    is_over,
    oldest_first,
)
from claude_mcp.sessions.shared import Shared

logger = logging.getLogger(__name__)

ORPHANED_SECONDS: Final = 300.0
"""A forwarder without a session that is older than this belongs to none that is being created."""
SWEEP_SECONDS: Final = 10.0
"""How long removing sessions may delay the end of this process."""

T = TypeVar("T")


class _Attempt:
    """One attempt to connect to the engine."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.failure: Exception | None = None


class Sessions:
    """The sessions of one engine, as one front end sees them; ``fleet.Fleet`` has several."""

    def __init__(self, config: Config, tasks: TaskGroup) -> None:
        self.config = config
        self.git = GitGuard()
        self.known = KnownSessions()
        self.unmountable: set[str] = set()
        """Projects that the engine was found not to see."""
        self._tasks = tasks
        self._listing = Shared(self._list, tasks)
        self._background: list[anyio.Event] = []
        self._connected: Connection | None = None
        self._attempt: _Attempt | None = None
        self._sweeps: dict[str, anyio.Event] = {}

    async def engine(self) -> Engine:
        """The engine, connected to at the first call; see ``detection.connect`` for the errors."""
        return (await self._connection()).engine

    async def own_container(self) -> OwnContainer | None:
        """Where this program runs, if that is a container of the engine."""
        return await own_container.find(await self.engine()) if host.own_container() else None

    async def _connection(self) -> Connection:
        if self._connected is not None:
            return self._connected
        # All who need the engine at the same time share one attempt, and so also its failure.
        attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = _Attempt()
            self._tasks.start_soon(self._connect, attempt)
        await attempt.done.wait()
        if self._connected is None:
            raise attempt.failure or anyio.ClosedResourceError
        return self._connected

    async def _connect(self, attempt: _Attempt) -> None:
        # Whoever only lists the tools does not wait for this import.
        from claude_mcp.engine import detection, naming

        try:
            engine = await detection.connect(
                self.config.engine, self.config.environment, self.config.login
            )
            logger.debug("using '%s' %s: %s", engine.program, engine.version, engine.dialect)
            channels = Channels(engine, self._tasks)
            self._connected = Connection(
                config=self.config,
                engine=engine,
                channels=channels,
                revival=Revival(self.engine, channels, self._tasks),
                tunnels=Tunnels(engine, self._tasks),
                git=self.git,
                known=self.known,
                find=self.find,
            )
        except Exception as error:  # those who wait raise it
            if isinstance(error, EngineError) and self.config.engine_name is not None:
                error.hint = naming.hint_of(f"engines.{self.config.engine_name}", error.hint)
            attempt.failure = error
        finally:
            self._attempt = None
            attempt.done.set()

    @property
    def members(self) -> Sequence[Sessions]:
        """Those of each engine."""
        return (self,)

    async def name(self) -> str:
        """What results call the engine: the name it is configured by, or else its kind."""
        return self.config.engine_name or (await self.engine()).dialect.name

    async def everywhere(self, work: Callable[[Sessions], Awaitable[T]]) -> Answers[T]:
        """Do some work with the sessions of each engine."""
        return Answers([await work(self)])

    async def at(self, reference: str) -> tuple[Sessions, str]:
        """The sessions among which a session is, and how it is called there."""
        return self, reference

    @asynccontextmanager
    async def placed(
        self, engine: str | None, name: str | None, image: str | None, *, mounting: bool = False
    ) -> AsyncIterator[tuple[Sessions, str | None]]:
        """Where to create a session while the block runs, and why there, if that was a choice.

        ``mounting`` says that directories of this host must be mounted in it.

        Raises:
            UsageError: there is no engine of this name.
        """
        if engine is not None and engine != (own := await self.name()):
            raise references.no_engine(engine, [own])
        yield self, None

    async def open(self, reference: str) -> SessionHandle:
        """A session by its id, an unambiguous prefix of the id, or its name.

        One engine call, and none for a session that this process has used before.

        Raises:
            UsageError: this cannot be a reference.
            SessionNotFound, SessionAmbiguous: with the sessions it could mean instead.
            EngineError
        """
        known = self.known.get(reference)
        session = known or await self.find(reference)
        connection = await self._connection()
        connection.tunnels.ensure(session.container_id, session.forwarding)
        return SessionHandle(connection, reference, session, is_fresh=known is None)

    async def opened(self, session: Session) -> SessionHandle:
        """A handle for a session that was created just now."""
        self.known.remember(session)
        connection = await self._connection()
        connection.tunnels.ensure(session.container_id, session.forwarding)
        return SessionHandle(connection, session.id, session, is_fresh=False)

    async def find(self, reference: str) -> Session:
        """The session as the engine describes it now; raises as ``open`` does."""
        references.check(reference)
        engine, owner = await self.engine(), self.config.owner
        session = await references.resolve(engine, reference, self._all, owner)
        return await self._stopped_if_replaced(session)

    async def _all(self) -> Sequence[Session]:
        """All sessions, oldest first. Expired ones are removed in the background."""
        found = await self._found()
        self._sweep(found)
        found = [await self._stopped_if_replaced(session) for session in found]
        return oldest_first(found)

    async def _found(self) -> list[Session]:
        """The sessions that exist for the owner, as the engine describes them now."""
        return await self._listing.ask()

    async def _list(self) -> list[Session]:
        containers = await (await self.engine()).containers(marks.SESSION)
        return labels.sessions_of(containers, self.config.owner)

    async def _stopped_if_replaced(self, session: Session) -> Session:
        """The session; killed if it was restarted with other directories than it was created with.

        Whoever wants to use it then reads why it is not started again.
        """
        if session.status is not Status.RUNNING or not session.restarted:
            return session
        try:
            await mounted.check(session)
        except SessionNotReady as error:
            logger.warning("killing the session %s: %s", session.name, error)
            connection = await self._connection()
            self.known.forget(session)
            connection.channels.close(session.container_id)
            await connection.engine.kill(session.container_id)
            return replace(session, status=Status.STOPPED)
        return session

    def _sweep(self, found: Sequence[Session]) -> None:
        for session in found:
            if is_over(session) and session.id not in self._sweeps:
                self._sweeps[session.id] = anyio.Event()
                self._tasks.start_soon(self._remove_expired, session)

    async def _remove_expired(self, session: Session) -> None:
        try:
            connection = await self._connection()
            await pruning.prune(connection.engine, connection.channels, [session], broken=False)
        except Exception:  # nobody asked for this, and other work must not fail because of it
            logger.warning("session %s was not removed", session.name, exc_info=True)
        finally:
            self._sweeps.pop(session.id).set()

    def in_background(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do work that may outlive its caller; the end of this process waits for it a while."""
        done = anyio.Event()

        async def perform() -> None:
            try:
                await work()
            finally:
                self._background.remove(done)
                done.set()

        self._background.append(done)
        self._tasks.start_soon(perform)

    async def finish_sweeping(self) -> None:
        """Wait for what happens in the background, for as long as the engine answers."""
        waiting = [*self._sweeps.values(), *self._background]
        if not waiting or self._connected is None:
            return
        with anyio.move_on_after(SWEEP_SECONDS), suppress(EngineError):
            async with self._connected.engine.watching():
                for done in waiting:
                    await done.wait()

    async def prune(self, *, dry_run: bool = False, discard: bool = False) -> list[pruning.Pruned]:
        """Remove expired and broken sessions; a dry run only says which.

        One with work that is nowhere else is kept, unless ``discard`` says otherwise.

        Raises:
            EngineError
        """
        connection = await self._connection()
        engine = connection.engine
        pruned = await pruning.prune(
            engine,
            connection.channels,
            await self._found(),
            broken=True,
            dry_run=dry_run,
            discard=discard,
            held=self._held,
        )
        if not dry_run and not self.config.owner:
            await proxies.prune(engine)
            await forwarders.prune(
                engine, lambda each: age_seconds(each.created) > ORPHANED_SECONDS
            )
            await engine.remove_leftovers()
            await engine.sweep()
        return pruned

    async def list(self, *, ask: bool = True) -> list[Listed]:
        """All sessions, oldest first: two engine calls.

        With ``ask``, running sessions are asked what they are doing, which takes one more call for
        each that has no open channel. If one has ended meanwhile, the engine is asked again.
        """
        connection = await self._connection()
        sessions = await self._all()
        answers = await activity.ask(connection.channels, sessions) if ask else {}
        if activity.ENDED in answers.values():
            sessions = await self._all()
        name = await self.name()
        return [_listed(session, name, answers.get(session.id)) for session in sessions]

    async def survey(self, *, ask: bool = True) -> Answers[Listed]:
        """As ``list``, with the engines that did not answer."""
        return Answers(await self.list(ask=ask))

    async def look(self, session: Session) -> Listed:
        """One session as ``list`` has it."""
        connection = await self._connection()
        answers = await activity.ask(connection.channels, [session])
        return _listed(session, await self.name(), answers.get(session.id))

    async def destroy(self, reference: str, *, discard: bool = False) -> Destroyed:
        """Kill and remove a session and all that belongs to it.

        Succeeds if the session is already gone. With ``discard``, also if it holds work that is
        nowhere else.

        Raises:
            WorkUnsaved: it holds such work.
            UsageError, SessionAmbiguous, EngineError
        """
        known = self.known.get(reference)
        if known is not None and not discard:
            await self._check_saved(known, is_fresh=False)
        # The engine never reuses an id, so a remembered session cannot be another one by now.
        if known is not None and await self._remove(known):
            return await self._destroyed(reference, known)
        try:
            session = await self.find(reference)
        except SessionNotFound as error:
            if known is None:
                warnings = (str(error),) if isinstance(error, NotASession) else ()
                return Destroyed(reference, None, False, warnings, error)
            # Another process removed it, but not what served it.
            await self._release(known)
            return Destroyed(reference, known, existed=False)
        if not discard:  # a known one is gone, so this is another one of its name
            await self._check_saved(session, is_fresh=True)
        existed = await self._remove(session)
        return await self._destroyed(reference, session, existed=existed)

    async def destroy_each(
        self, references: Sequence[str], *, discard: bool = False
    ) -> Sequence[Destroyed | ClaudeMcpError]:
        """Destroy several sessions at once: what became of each, in order.

        What keeps one from being destroyed does not keep the others.
        """
        found: dict[str, Session] = {}
        outcomes: dict[str, Destroyed | ClaudeMcpError] = {}

        async def find(reference: str) -> None:
            try:
                found[reference] = await self.find(reference)
            except SessionNotFound:
                outcomes[reference] = await self.destroy(reference, discard=discard)
            except ClaudeMcpError as error:
                outcomes[reference] = error

        async def destroy(reference: str, session: Session) -> None:
            self.known.remember(session)
            try:
                destroyed = await self.destroy(session.id, discard=discard)
                outcomes[reference] = replace(destroyed, reference=reference)
            except ClaudeMcpError as error:
                outcomes[reference] = error

        # All are found before any is removed, so that no prefix changes its meaning.
        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for reference in dict.fromkeys(references):
                    tasks.start_soon(find, reference)
            async with anyio.create_task_group() as tasks:
                for reference, session in found.items():
                    tasks.start_soon(destroy, reference, session)
        return [outcomes[reference] for reference in references]

    async def created_by(self, client: str) -> Sequence[Session]:
        """The sessions that a client of this name created, oldest first; two engine calls.

        Raises:
            UsageError: the client has no name.
        """
        name = client_name(client)
        if not name:
            raise UsageError(
                "This client gave no name of its own, so no session is known to be its own.",
                hint="Name the sessions instead.",
            )
        return [each for each in await self._all() if each.client == name]

    async def _held(self, session: Session) -> str:
        try:
            await self._check_saved(session, is_fresh=True)
        except WorkUnsaved as error:
            return error.message
        return ""

    async def _check_saved(self, session: Session, *, is_fresh: bool) -> None:
        connection = await self._connection()
        await unsaved.check(SessionHandle(connection, session.id, session, is_fresh=is_fresh))

    async def _remove(self, session: Session) -> bool:
        """Remove the container; False if it is already gone."""
        connection = await self._connection()
        self.known.forget(session)
        self.known.drop_mcp_config(session)
        connection.channels.close(session.container_id)
        connection.tunnels.close(session.container_id)
        if session.status is Status.RUNNING:
            await enforcement.silence(connection.engine, session.container_id, session.egress)
        return await connection.engine.remove(session.container_id)

    async def _release(self, session: Session) -> None:
        """Remove what served a removed session."""
        engine = await self.engine()
        await proxies.release_or_log(engine, session.proxy)
        await forwarders.release_or_log(engine, session.forwarding)

    async def _destroyed(
        self, reference: str, session: Session, *, existed: bool = True
    ) -> Destroyed:
        await self._release(session)
        return Destroyed(reference, session, existed, await self.git.differences(session))


def _listed(session: Session, engine: str, answer: Activity | str | None) -> Listed:
    if isinstance(answer, Activity):
        return Listed(session, engine, answer)
    if session.status is not Status.RUNNING:
        return Listed(session, engine)
    return Listed(session, engine, problem=answer)


@asynccontextmanager
async def open_sessions(config: Config, kind: type[Sessions] = Sessions) -> AsyncIterator[Sessions]:
    """Sessions for as long as the block runs; leaving it closes every channel."""
    with ungrouped():
        async with anyio.create_task_group() as tasks:
            try:
                sessions = kind(config, tasks)
                yield sessions
                await sessions.finish_sweeping()
            finally:
                tasks.cancel_scope.cancel()
