"""The sessions of several engines, as one front end sees them.

Each engine has a ``Sessions`` of its own, which does the work. A ``Fleet`` asks all of them at
once, and finds the one that a reference means. An engine that does not answer delays the others by
a bounded time, and is named with the reason.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Final, NoReturn, TypeVar

import anyio
from anyio.abc import TaskGroup

from claude_mcp.config import Config
from claude_mcp.contract.wording import named
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import (
    ClaudeMcpError,
    EngineError,
    EngineUnavailable,
    NotASession,
    SessionAmbiguous,
    SessionExists,
    SessionNotFound,
    UsageError,
    ungrouped,
)
from claude_mcp.sessions import capacity, pruning, references
from claude_mcp.sessions.capacity import Capacity
from claude_mcp.sessions.handle import Connection, SessionHandle
from claude_mcp.sessions.outcomes import Answers, Destroyed, Listed, Unreachable
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import ID_CHARS, Session

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 5.0
"""How long the others wait for the first answer of an engine."""
SILENT_SECONDS: Final = 1.0
"""How long engines are waited for of which none answered the last time. If some did, the others are
waited for no longer than those take."""
ANSWER_SECONDS: Final = 15.0
"""How long all that is asked of one engine may take, once it has answered."""
ID: Final = re.compile(rf"[0-9a-f]{{{ID_CHARS},64}}")

T = TypeVar("T")


class Fleet(Sessions):
    """The sessions of several engines; ``config.engines`` names them.

    It has no engine of its own: what needs one says that one must be chosen.
    """

    def __init__(self, config: Config, tasks: TaskGroup) -> None:
        super().__init__(config, tasks)
        self._members = {name: Sessions(config.on(name), tasks) for name in config.engines}
        self._silent: dict[str, str] = {}
        """The engines that did not answer the last time, and what was told of them."""
        self._questions: dict[str, anyio.Event] = {}
        """Questions to silent engines whether they answer again; set when they are over."""
        self._seen: dict[str, Sessions] = {}
        """Where sessions were found, by their ids."""
        self._placing: Counter[str] = Counter()
        """How many sessions this process is creating on each engine."""

    @property
    def members(self) -> Sequence[Sessions]:
        return tuple(self._members.values())

    @property
    def _names(self) -> str:
        return ", ".join(self._members)

    async def engine(self) -> Engine:
        return (await self._connection()).engine

    async def _connection(self) -> Connection:
        raise UsageError(
            f"This needs one engine, and several are configured: {self._names}.",
            hint=f"Choose one of them, with {named('engine')} or CLAUDE_MCP_ENGINE.",
        )

    # Asking them all.

    async def everywhere(
        self,
        work: Callable[[Sessions], Awaitable[T]],
        enough: Callable[[T], bool] = lambda found: False,
    ) -> Answers[T]:
        """Do some work with the sessions of each engine, at once.

        An answer that is ``enough`` ends the wait for the others.

        Raises:
            EngineUnavailable: no engine answers.
        """
        found: dict[str, T] = {}
        problems = dict(self._silent)
        silent = set(problems)

        async def ask(name: str) -> None:
            try:
                if name in silent:
                    await self._awake(name)
                found[name] = await self._ask(name, work)
            except EngineError as error:
                logger.info("engine %s: %s", name, error)
                problems[name] = error.message
                return
            if enough(found[name]):
                tasks.cancel_scope.cancel()

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for name in silent:
                    tasks.start_soon(ask, name)
                if len(silent) == len(self._members):
                    tasks.cancel_scope.deadline = anyio.current_time() + SILENT_SECONDS
                else:
                    async with anyio.create_task_group() as awaited:
                        for name in self._members.keys() - silent:
                            awaited.start_soon(ask, name)
                    tasks.cancel_scope.cancel()
        missing = [name for name in self._members if name not in found and name in problems]
        unreachable = tuple(Unreachable(name, problems[name]) for name in missing)
        if len(unreachable) == len(self._members):
            raise EngineUnavailable(" ".join(map(str, unreachable)))
        return Answers([found[name] for name in self._members if name in found], unreachable)

    async def _ask(self, name: str, work: Callable[[Sessions], Awaitable[T]]) -> T:
        member = self._members[name]
        # An attempt to connect goes on when nobody waits for it any more.
        with self._within(name, CONNECT_SECONDS, "nothing came within"):
            await member.engine()
        began = anyio.current_time()
        try:
            with self._within(name, ANSWER_SECONDS, "it was not done within"):
                return await work(member)
        except EngineUnavailable as error:
            if anyio.current_time() - began > SILENT_SECONDS:
                self._silent[name] = error.message
            raise

    @contextmanager
    def _within(self, name: str, seconds: float, what: str) -> Iterator[None]:
        """Raises EngineUnavailable if the block takes longer: the engine is silent."""
        try:
            with anyio.fail_after(seconds):
                yield
        except TimeoutError:
            self._silent[name] = f"{what} {seconds:g} s."
            raise EngineUnavailable(self._silent[name]) from None

    async def _awake(self, name: str) -> None:
        """Wait until an engine that was silent answers; that is asked in the background.

        Raises:
            EngineUnavailable: it does not.
        """
        over = self._questions.get(name)
        if over is None:
            over = self._questions[name] = anyio.Event()
            self._tasks.start_soon(self._question, name, over)
        await over.wait()
        if name in self._silent:
            raise EngineUnavailable(self._silent[name])

    async def _question(self, name: str, over: anyio.Event) -> None:
        try:
            # The first try may join an attempt that began long ago, and end early with it.
            took = await self._fails(name)
            if took is not None:
                took = await self._fails(name)
            if took is None or took < SILENT_SECONDS:
                del self._silent[name]  # what fails at once is worth waiting for too
        finally:
            del self._questions[name]
            over.set()

    async def _fails(self, name: str) -> float | None:
        """How long an engine takes to fail; None if it answers."""
        asked = anyio.current_time()
        try:
            await (await self._members[name].engine()).check()
        except Exception as error:  # whoever waits is told that it is silent, or asks it again
            logger.info("engine %s: %s", name, error)
            return anyio.current_time() - asked
        return None

    async def prune(self, *, dry_run: bool = False, discard: bool = False) -> list[pruning.Pruned]:
        answers = await self.everywhere(lambda one: one.prune(dry_run=dry_run, discard=discard))
        return [each for part in answers.found for each in part]

    async def list(self, *, ask: bool = True) -> list[Listed]:
        return list((await self.survey(ask=ask)).found)

    async def survey(self, *, ask: bool = True) -> Answers[Listed]:
        async def listed(member: Sessions) -> Sequence[Listed]:
            found = await member.list(ask=ask)
            self._seen = {id: each for id, each in self._seen.items() if each is not member}
            self._seen |= {each.session.id: member for each in found}
            return found

        answers = await self.everywhere(listed)
        # Two names may be those of the same engine; the first one counts.
        all_found = [each for part in answers.found for each in part]
        found = {each.session.container_id: each for each in reversed(all_found)}
        ordered = sorted(
            found.values(), key=lambda each: (each.session.created_at, each.session.name)
        )
        return Answers(ordered, answers.unreachable)

    async def created_by(self, client: str) -> Sequence[Session]:
        answers = await self.everywhere(lambda one: one.created_by(client))
        return [each for part in answers.found for each in part]

    async def finish_sweeping(self) -> None:
        async with anyio.create_task_group() as tasks:
            for member in self.members:
                tasks.start_soon(member.finish_sweeping)

    # Finding one session.

    async def at(self, reference: str) -> tuple[Sessions, str]:
        """The sessions among which a session is, and how it is called there.

        A session that this process has seen costs no engine call.

        Raises:
            UsageError: this cannot be a reference.
            SessionNotFound, SessionAmbiguous: with the sessions it could mean instead.
            EngineUnavailable: it may be on an engine that does not answer.
        """
        member, rest, _ = await self._at(reference)
        return member, rest

    async def _at(
        self, reference: str, *, afresh: bool = False
    ) -> tuple[Sessions, str, Session | None]:
        """As ``at``, with the session if the engine described it just now.

        ``afresh`` makes sure that its name is not that of another session as well.
        """
        references.check(reference)
        name, slash, rest = reference.partition("/")
        if slash and rest and name in self._members:
            return self._members[name], rest, None
        is_id = ID.fullmatch(reference) is not None
        if is_id and (member := self._seen.get(reference[:ID_CHARS])):
            return member, reference, None
        knowing = [each for each in self.members if each.known.get(reference)]
        if len(knowing) == 1 and (is_id or not afresh):
            return knowing[0], reference, None
        member, session = await self._search(reference, is_id=is_id)
        self._seen[session.id] = member
        return member, session.id, session

    async def _search(self, reference: str, *, is_id: bool) -> tuple[Sessions, Session]:
        async def find(member: Sessions) -> tuple[Sessions, Session | ClaudeMcpError]:
            try:
                return member, await member.find(reference)
            except (SessionNotFound, SessionAmbiguous) as error:
                return member, error

        answers = await self.everywhere(find, lambda found: is_id and isinstance(found[1], Session))
        found = [(one, each) for one, each in answers.found if isinstance(each, Session)]
        errors = [each for _, each in answers.found if isinstance(each, ClaudeMcpError)]
        best = min((_rank(reference, each) for _, each in found), default=None)
        if best != 0:
            for error in errors:
                if isinstance(error, SessionAmbiguous):
                    raise error
        matching = [(one, each) for one, each in found if _rank(reference, each) == best]
        # Two names may be those of the same engine.
        if len({each.container_id for _, each in matching}) == 1:
            return matching[0]
        if matching:
            full = [f"{await one.name()}/{each.name} ({each.id})" for one, each in matching]
            raise SessionAmbiguous(
                f"{reference!r} is a session on {len(full)} engines: {', '.join(full)}.",
                hint="Give the engine's name with it, or the id.",
            )
        await self._not_found(reference, errors, answers.unreachable)

    async def _not_found(
        self,
        reference: str,
        errors: Sequence[ClaudeMcpError],
        unreachable: Sequence[Unreachable],
    ) -> NoReturn:
        if unreachable:
            raise EngineUnavailable(
                f"No engine that answers has a session {reference!r}.",
                hint=" ".join(map(str, unreachable)),
            )
        for each in errors:
            if isinstance(each, NotASession):
                raise each
        raise references.not_found(reference, [each.session for each in await self.list(ask=False)])

    async def open(self, reference: str) -> SessionHandle:
        member, rest, session = await self._at(reference)
        if session is None:
            return await member.open(rest)
        return SessionHandle(await member._connection(), rest, session, is_fresh=True)

    async def find(self, reference: str) -> Session:
        member, rest, session = await self._at(reference, afresh=True)
        return await member.find(rest) if session is None else session

    async def look(self, session: Session) -> Listed:
        member, _ = await self.at(session.id)
        return await member.look(session)

    # Removing sessions.

    async def destroy(self, reference: str, *, discard: bool = False) -> Destroyed:
        try:
            member, rest, _ = await self._at(reference, afresh=True)
        except SessionNotFound as error:
            knowing = [each for each in self.members if each.known.get(reference)]
            if not knowing:
                warnings = (str(error),) if isinstance(error, NotASession) else ()
                return Destroyed(reference, None, False, warnings, error)
            member, rest = knowing[0], reference
        return replace(await member.destroy(rest, discard=discard), reference=reference)

    async def destroy_each(
        self, references: Sequence[str], *, discard: bool = False
    ) -> Sequence[Destroyed | ClaudeMcpError]:
        found: dict[str, tuple[Sessions, str]] = {}
        outcomes: dict[str, Destroyed | ClaudeMcpError] = {}

        async def find(reference: str) -> None:
            try:
                member, rest, _ = await self._at(reference, afresh=True)
                found[reference] = member, rest
            except SessionNotFound:
                outcomes[reference] = await self.destroy(reference, discard=discard)
            except ClaudeMcpError as error:
                outcomes[reference] = error

        async def destroy(member: Sessions) -> None:
            own = {each: rest for each, (one, rest) in found.items() if one is member}
            try:
                done = await member.destroy_each(list(own.values()), discard=discard)
            except EngineError as error:
                done = [error] * len(own)
            for reference, outcome in zip(own, done, strict=True):
                outcomes[reference] = (
                    outcome
                    if isinstance(outcome, ClaudeMcpError)
                    else replace(outcome, reference=reference)
                )

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for reference in dict.fromkeys(references):
                    tasks.start_soon(find, reference)
            async with anyio.create_task_group() as tasks:
                for member in self.members:
                    tasks.start_soon(destroy, member)
        return [outcomes[reference] for reference in references]

    # Creating one.

    @asynccontextmanager
    async def placed(
        self, engine: str | None, name: str | None, image: str | None, *, mounting: bool = False
    ) -> AsyncIterator[tuple[Sessions, str | None]]:
        if engine is not None and engine not in self._members:
            raise references.no_engine(engine, tuple(self._members))
        why = None
        if engine is None:
            engine, why = await self._choose(name, image, mounting)
        self._placing[engine] += 1
        try:
            yield self._members[engine], why
        finally:
            self._placing[engine] -= 1

    async def _choose(self, name: str | None, image: str | None, mounting: bool) -> tuple[str, str]:
        """The engine with the most room, and why that one."""

        async def measure(member: Sessions) -> tuple[str, Capacity]:
            engine = await member.engine()
            return await member.name(), await capacity.measure(engine, member.config, image)

        answers = await self.everywhere(measure)
        measured = {one: replace(each, coming=self._placing[one]) for one, each in answers.found}
        for one, each in measured.items():
            if name in each.names:
                raise SessionExists(
                    f"A session named {name!r} already exists: {one}/{name}.",
                    hint="Use it, destroy it first, choose another name, or name the engine.",
                )
        chosen = capacity.roomiest(measured, mounting=mounting)
        if self.config.owner:  # other owners' sessions do not exist for this one
            return chosen, f"{chosen} has the most room."
        return chosen, capacity.reason(chosen, measured, answers.unreachable)


def _rank(reference: str, session: Session) -> int:
    """How well a session's name or id matches: a name counts more than a prefix of an id."""
    if session.name == reference:
        return 0
    return 1 if session.container_id.startswith(reference) else 2


def open_fleet(config: Config) -> AbstractAsyncContextManager[Sessions]:
    """As ``registry.open_sessions``, for several engines."""
    return open_sessions(config, Fleet)
