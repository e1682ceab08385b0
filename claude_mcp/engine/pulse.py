"""Whether an engine answers at all, asked while one of its calls takes long.

A call may take long for a good reason, or because its daemon hangs or has been stopped. What tells
the two apart is a question that needs no container. So a call that is merely slow goes on, and one
whose engine is silent ends after ``QUIET_SECONDS`` and ``ANSWER_SECONDS`` or ``SLOW_SECONDS``.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import anyio

from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.errors import EngineError, EngineUnavailable, ungrouped

QUIET_SECONDS: Final = 2.5
"""How long a call runs before its engine is asked whether it answers."""
ANSWER_SECONDS: Final = 5.0
"""How long the answer of a daemon may take."""
SLOW_SECONDS: Final = 15.0
"""The same for an engine whose commands wait for each other's locks, and for one that is reached
over a network: a handshake with a busy machine takes its time."""
KNOWN_SECONDS: Final = 1.0
"""The same for a daemon of this machine that was silent the last time: its next call is not waited
for as long."""


class _Question:
    """One question to the engine, shared by all who want to know at the same time."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.failure: EngineError | None = None
        self.answered = False


class Pulse:
    """``ask`` puts the question to the engine; it may raise EngineError."""

    def __init__(
        self,
        title: str,
        ask: Callable[[], Awaitable[None]],
        *,
        daemon: bool = True,
        locks_storage: bool = False,
        over_network: bool = False,
    ) -> None:
        self._title = title
        self._over_network = over_network
        self._ask = ask
        self._daemon = daemon
        self._locks_storage = locks_storage
        self._question: _Question | None = None
        self._silent = False

    @property
    def _patience(self) -> float:
        if self._over_network or self._locks_storage:
            return SLOW_SECONDS
        return KNOWN_SECONDS if self._silent else ANSWER_SECONDS

    async def check(self) -> None:
        """Raises EngineUnavailable if the engine does not answer in time."""
        while (question := self._question) is not None:
            await question.over.wait()
            if question.failure is not None:
                raise copy.copy(question.failure)
            if question.answered:
                return
            # Whoever asked no longer wants to know.
        question = self._question = _Question()
        try:
            with anyio.fail_after(self._patience):
                await self._ask()
            question.answered = True
            self._silent = False
        except TimeoutError:
            self._silent = True
            question.failure = self.silence()
            raise question.failure from None
        except EngineError as error:
            question.failure = error
            raise
        finally:
            self._question = None
            question.over.set()

    @asynccontextmanager
    async def watching(self, quiet_seconds: float | None = None) -> AsyncIterator[None]:
        """End the block with EngineUnavailable once the engine does not answer any more."""
        quiet = QUIET_SECONDS if quiet_seconds is None else quiet_seconds
        failures: list[EngineError] = []
        done = False

        async def watch() -> None:
            await anyio.sleep(0.0 if self._silent else quiet)
            try:
                while True:
                    await self.check()
                    await anyio.sleep(QUIET_SECONDS)
            except EngineError as error:
                # Not raised here: the block may be about to fail for the same reason.
                failures.append(error)
                tasks.cancel_scope.cancel()

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                yield
                done = True
                tasks.cancel_scope.cancel()
        if failures and not done:
            raise failures[0]
        self._silent = False

    def silence(self) -> EngineUnavailable:
        hint = "Its daemon may hang: look at the engine's own log, or restart it."
        if self._locks_storage:
            hint = (
                f"Another {self._title} command has locked its storage, such as a pull or a build "
                "of an image. Try again when that has ended."
            )
            if self._daemon:
                hint += " Otherwise its service may hang: restart it."
        elif self._over_network:
            hint = "What may hang: the connection, a program that logs in, or the engine itself."
        return EngineUnavailable(f"{self._title} does not answer.", hint=hint)


class Watched:
    """An engine with one ``Pulse`` for all its calls. ``pulses`` holds it, once a call was watched:
    engines are frozen."""

    __slots__ = ()
    dialect: Dialect
    pulses: list[Pulse]

    async def _ask(self) -> None:
        """Put the question to the engine; raises EngineError if it cannot answer any."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        return self.dialect.title

    @property
    def _pulse(self) -> Pulse:
        if not self.pulses:
            dialect = self.dialect
            pulse = Pulse(
                self.title,
                self._ask,
                daemon=dialect.daemon,
                locks_storage=dialect.locks_storage,
                over_network=dialect.over_network,
            )
            self.pulses.append(pulse)
        return self.pulses[0]

    async def check(self) -> None:
        await self._pulse.check()

    def watching(self, quiet_seconds: float | None = None) -> AbstractAsyncContextManager[None]:
        return self._pulse.watching(quiet_seconds)
