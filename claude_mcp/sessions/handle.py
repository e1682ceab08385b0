"""A session that a front end has opened: everything done with it goes through its handle.

The reference was resolved when the handle was made. It is resolved again only when the container
turns out to be stopped, replaced or removed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from claude_mcp.config import Config
from claude_mcp.contract.wording import named
from claude_mcp.engine.engine import ContainerNotFound, Engine, PortInUse
from claude_mcp.errors import (
    ClaudeMcpError,
    NextStep,
    SessionNotFound,
    SessionNotReady,
    TooManySessions,
)
from claude_mcp.sessions import mounted, own_container, quota
from claude_mcp.sessions.channel.channel import NoContainer, NotRunning, OnEvent
from claude_mcp.sessions.channel.channels import Channels
from claude_mcp.sessions.channel.refusals import AgentRefused, error_of
from claude_mcp.sessions.channel.silence import lost
from claude_mcp.sessions.git import guard
from claude_mcp.sessions.git.guard import GitGuard
from claude_mcp.sessions.known import KnownSessions
from claude_mcp.sessions.network import enforcement, forwarders, proxies
from claude_mcp.sessions.network.revival import Revival
from claude_mcp.sessions.network.tunnels import Tunnels
from claude_mcp.sessions.session import Session, Status

logger = logging.getLogger(__name__)


RESTARTED: Final = (
    "The session was stopped and has been started again. Files and the conversation are kept; "
    "processes that ran in it are gone, and credentials of its own must be given again."
)


class SessionStopped(SessionNotReady):
    """The session is stopped, and the request does not start it."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What all handles of one front end share."""

    config: Config
    engine: Engine
    channels: Channels
    revival: Revival
    tunnels: Tunnels
    git: GitGuard
    known: KnownSessions
    find: Callable[[str], Awaitable[Session]]
    """Resolves a reference by asking the engine."""


class SessionHandle:
    """One session of one caller.

    ``session`` is the session as it was when it was last looked at; ``request`` and ``pinned``
    refresh it.
    """

    def __init__(
        self, connection: Connection, reference: str, session: Session, *, is_fresh: bool
    ) -> None:
        self._connection = connection
        self._reference = reference
        self._is_fresh = is_fresh
        """Whether the engine described the session just now, and nothing used that yet."""
        self.session = session
        self.notes: tuple[str, ...] = ()
        """What a caller should know about requests that started the session again."""

    @property
    def config(self) -> Config:
        return self._connection.config

    @property
    def engine(self) -> Engine:
        return self._connection.engine

    @property
    def mcp_config(self) -> Mapping[str, Any] | None:
        """The MCP servers that this process gave to the session."""
        return self._connection.known.mcp_config_of(self.session)

    def keep_mcp_config(self, config: Mapping[str, Any]) -> None:
        self._connection.known.keep_mcp_config(self.session, config)

    async def git_warnings(self) -> tuple[str, ...]:
        """How the files that the host's git obeys differ from their state at creation."""
        return await self._connection.git.differences(self.session)

    async def host_path(self, path: str) -> str:
        """A path of the host that a caller named, as this program sees it.

        Raises:
            UsageError: this program runs in a container, and the path is not mounted there.
        """
        own = await own_container.find(self.engine)
        return path if own is None else own.here(path)

    def git_notes(self, output: str) -> tuple[str, ...]:
        """Explains what git says in a command's output when it may not write its configuration."""
        return guard.config_notes(self.session, output)

    async def pinned(self) -> SessionHandle:
        """A handle for the container that the reference means now: no later one of that name.

        It costs one engine call, unless the session was looked up just now.

        Raises:
            SessionNotFound, SessionAmbiguous, EngineError
        """
        session = self.session if self._is_fresh else await self._connection.find(self._reference)
        return SessionHandle(self._connection, session.id, session, is_fresh=True)

    async def check_mounts(self) -> None:
        """Raises SessionNotReady if a path that it mounts was replaced; see ``mounted.check``."""
        await mounted.check(self.session)

    async def request(
        self,
        op: str,
        args: Mapping[str, Any],
        on_event: OnEvent | None = None,
        *,
        start: bool = True,
    ) -> dict[str, Any]:
        """Ask the session's agent; with ``start``, a stopped container is started first.

        While the session's channel is open, this makes no engine call.

        Raises:
            SessionNotFound, SessionAmbiguous, SessionNotReady: the session cannot be asked.
            AgentError, EngineError: the agent did not answer.
            ClaudeMcpError: the agent refused; ``channel.refusals`` says which error this is.
        """
        if not self._is_fresh:
            if await self._may_answer() and not await self._may_be_another():
                try:
                    return await self._ask(op, args, on_event)
                except (NotRunning, NoContainer) as error:
                    logger.debug("session %s has changed: %s", self.session.name, error)
            self._connection.known.forget(self.session)
            self.session = await self._connection.find(self._reference)
        self._is_fresh = False
        return await self._ask_found(op, args, on_event, start)

    async def _may_answer(self) -> bool:
        """False if the channel is open and dead; a request over it might be carried out twice."""
        container_id, channels = self.session.container_id, self._connection.channels
        return not channels.is_open(container_id) or await channels.is_alive(container_id)

    async def _may_be_another(self) -> bool:
        """Whether the container may have been restarted with other directories mounted."""
        is_open = self._connection.channels.is_open(self.session.container_id)
        return not is_open and await mounted.is_replaced(self.session)

    async def _ask(
        self, op: str, args: Mapping[str, Any], on_event: OnEvent | None
    ) -> dict[str, Any]:
        session, channels = self.session, self._connection.channels
        hear = self._connection.revival.hearing(session.proxy, session.container_id, on_event)
        if not channels.is_open(session.container_id):
            try:
                self.notes += await enforcement.restored(
                    self.engine, session.container_id, session.egress
                )
            except ContainerNotFound as error:
                raise NoContainer(error.message) from None
        try:
            return await channels.request(session.container_id, op, args, hear)
        except AgentRefused as refusal:
            raise error_of(refusal, session.name) from refusal

    async def _ask_found(
        self, op: str, args: Mapping[str, Any], on_event: OnEvent | None, start: bool
    ) -> dict[str, Any]:
        """Ask the session that the engine has just described."""
        session = self.session
        is_over = session.status is Status.EXPIRED and not session.may_hold_work
        if is_over or session.status not in (Status.RUNNING, Status.STOPPED, Status.EXPIRED):
            raise _not_ready(session)
        self._connection.known.remember(session)
        await self._connection.channels.is_alive(session.container_id)  # closes a dead channel
        try:
            if session.status is Status.RUNNING:
                try:
                    return await self._ask(op, args, on_event)
                except NotRunning:
                    logger.debug("session %s stopped after it was looked up", session.name)
            if not start:
                raise SessionStopped(
                    f"The session {session.name!r} is stopped.",
                    hint="The next prompt or command starts it again.",
                )
            await self._start_again()
            try:
                return await self._ask(op, args, on_event)
            except NotRunning as error:
                raise SessionNotReady(
                    f"The session {session.name!r} was started again, but ended at once.",
                    hint="Read its log. If it cannot be mended, create a new one.",
                    steps=(NextStep.READ_LOG, NextStep.CREATE),
                ) from error
        except NoContainer:
            self._connection.known.forget(session)
            raise SessionNotFound(f"The session {session.name!r} no longer exists.") from None

    async def _start_again(self) -> None:
        logger.info("starting the stopped session %s", self.session.name)
        engine = self._connection.engine
        await mounted.check(self.session)
        await quota.check(engine, self.config)
        if self.session.proxy is not None:
            await proxies.ensure(engine, self.session.proxy)
        lifted = await enforcement.restored(engine, self.session.container_id, self.session.egress)
        lost = await self._without_ports()
        await engine.start(self.session.container_id)
        try:
            await mounted.check(self.session)  # the engine has looked the paths up again
            await quota.check_started(engine, self.config, self.session.container_id)
        except (SessionNotReady, TooManySessions):
            await engine.kill(self.session.container_id)
            raise
        self.session = replace(self.session, status=Status.RUNNING)
        self.notes = (RESTARTED, *lifted, *lost)
        self._connection.known.remember(self.session)

    async def _without_ports(self) -> tuple[str, ...]:
        """Start the forwarder to its ports, if it has any; says why if that is impossible."""
        forwarding = self.session.forwarding
        if forwarding is None:
            return ()
        try:
            await forwarders.ensure(self._connection.engine, forwarding)
        except PortInUse as error:
            taken = [each for each in forwarding.ports if each.host_port == error.port]
            what = ", ".join(str(each.port) for each in taken or forwarding.ports)
            return (
                f"The session's published ports cannot be reached: port {error.port} of this host, "
                f"which leads to port {what} of the session, is in use by another program. Stop "
                "that program and the session's container; the next call starts both again.",
            )
        except ClaudeMcpError as error:
            return (f"The session's published ports cannot be reached: {error.message}",)
        return ()


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
                hint=f"Create a new one, with a larger {named('timeoutSeconds')} or "
                f"{named('idleTimeoutSeconds')}.",
            )
        case Status.BROKEN if session.ended:
            return lost(f"The session {session.name!r}", session.ended)
        case Status.REMOVING:
            return SessionNotReady(
                f"The session {session.name!r} is being removed.",
                hint="If it stays so, its removal failed halfway: destroy it again.",
            )
        case Status.CREATING:
            return SessionNotReady(
                f"The session {session.name!r} is still being created.",
                hint="Try again in a moment.",
            )
        case _:
            return SessionNotReady(
                f"The session {session.name!r} is broken: either its creation was interrupted, or "
                "its root file system is read-only and stopping it erased its home.",
                hint="Destroy it and create a new one.",
            )
