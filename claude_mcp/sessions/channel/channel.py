"""One held-open ``exec`` to a session's agent, and the requests that travel over it.

A channel is only a pipe: when it is lost, only the outstanding answers are lost with it. A request
is written once the agent has greeted, so one that was not written can safely be sent again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import anyio

from claude_mcp.contract import operations, places
from claude_mcp.contract.codes import Code
from claude_mcp.contract.framing import LineTooLong, Splitter
from claude_mcp.contract.messages import to_json
from claude_mcp.engine import process
from claude_mcp.engine.engine import (
    ContainerNotFound,
    ContainerNotRunning,
    Engine,
    ProcessLimitReached,
)
from claude_mcp.engine.failures import EXEC_FAILED
from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    EngineError,
    SessionNotFound,
    SessionNotReady,
)
from claude_mcp.sessions.channel import answers
from claude_mcp.sessions.channel.payload import connect_command
from claude_mcp.sessions.channel.refusals import AgentRefused, no_room, refused
from claude_mcp.sessions.channel.silence import in_doubt, limit_of

logger = logging.getLogger(__name__)

GREETING_SECONDS: Final = 10.0
"""How long a new channel waits for the agent's greeting."""
QUIET_SECONDS: Final = 3.0
"""After this long without a word, an agent with a request under way is pinged."""
PONG_SECONDS: Final = 6.5
"""How long it may take to answer that ping."""
ENGINE_QUIET_SECONDS: Final = 1.0
"""How long it may take before the engine is asked whether it answers itself."""
LATE_SECONDS: Final = 0.5
"""How long data that waits to be read may take to be read."""
CANCEL_ANSWER_SECONDS: Final = 8.0
"""How long a cancelled request waits until the agent says that the work has ended."""
EXIT_SECONDS: Final = 2.0
"""How long the exec may take to end after its streams have closed."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
MAX_WAITING_EVENTS: Final = 1000
"""Events of a request beyond this many unread ones are dropped."""

NO_CONTAINER: Final = "The session's container no longer exists."
NOT_RUNNING: Final = "The session's container is not running."
MAX_REFUSAL_CHARS: Final = 2000
"""What is kept of the engine's reason for a failed exec."""

TRACEBACK: Final = "Traceback (most recent call last)"
"""The connector's own failure, when the container stops in the midst of connecting."""

OnEvent = Callable[[dict[str, Any]], Awaitable[None]]


class ChannelLost(AgentError):
    """The channel ended before the answer arrived: what was asked may have been carried out."""


class NotReached(AgentError):
    """The channel ended before the request was written, which may be sent again."""


class Silent(AgentError):
    """Nothing came through the channel for ``seconds``, before or after a request was written."""

    def __init__(self, seconds: float, *, written: bool) -> None:
        super().__init__(f"The session has not answered for {seconds:g} s.")
        self.seconds = seconds
        self.written = written


class Unanswered(Silent):
    """A request had no answer within its limit; the channel may still be of use."""


class NoContainer(SessionNotFound):
    """The engine found no container to connect to."""


class NotRunning(SessionNotReady):
    """The container exists but is not running."""


class _Pending:
    """One request that waits for its answer; its messages are delivered in order."""

    def __init__(self, op: str) -> None:
        self.op = op
        send, receive = anyio.create_memory_object_stream[operations.Answer](float("inf"))
        self.send, self.receive = send, receive


class Channel:
    """One held exec. ``run`` has a task of its own; any number of tasks may call ``request``."""

    def __init__(self, engine: Engine, container_id: str, close_after_seconds: float) -> None:
        self._engine = engine
        self._container_id = container_id
        self._close_after_seconds = close_after_seconds
        self._pending: dict[int, _Pending] = {}
        self._numbers = 0
        self.greeted = False
        self._opened = anyio.Event()
        """Set once the agent has greeted, or the channel has failed."""
        self._heard = anyio.current_time()
        self._word = anyio.Event()
        self._idle_since = anyio.current_time()
        self._stream: process.Stream | None = None
        self._refusal = ""
        """Why the exec failed, if the engine said so on its stdout."""
        self._scope = anyio.CancelScope()
        self.closed = False
        self.failure: ClaudeMcpError | None = None

    async def run(self) -> None:
        """Hold the exec until it ends, stays idle for too long, or ``close`` is called."""
        try:
            with self._scope:
                async with self._engine.exec(
                    self._container_id, connect_command(), exit_grace=EXIT_SECONDS
                ) as stream:
                    self._stream = stream
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._close_when_idle, stream)
                        tasks.start_soon(self._watch)
                        await self._receive(stream)
                        tasks.cancel_scope.cancel()
                    with anyio.move_on_after(EXIT_SECONDS):
                        await stream.wait()
                    self.failure = self._explain(stream.returncode, stream.stderr_tail)
        except Exception as error:  # this task must not end the other sessions' channels
            logger.debug("a channel could not be held", exc_info=True)
            self.failure = self._engine.failed("reach the session", str(error))
        finally:
            self._end()

    def _end(self) -> None:
        self.closed = True
        self._opened.set()
        for pending in self._pending.values():
            pending.send.close()

    async def _watch(self) -> None:
        """Give the channel up when the other side says nothing although a request waits."""
        try:
            with anyio.move_on_after(GREETING_SECONDS):
                async with self._engine.watching():
                    await self._opened.wait()
            if not self._opened.is_set():
                self._give_up(Silent(round(GREETING_SECONDS), written=False))
            while True:
                await anyio.sleep(max(QUIET_SECONDS - self.quiet_seconds, LATE_SECONDS))
                if not self.closed and self.busy and self.quiet_seconds >= QUIET_SECONDS:
                    await self._ping()
        except EngineError as error:
            self._give_up(in_doubt(error) if self.greeted else error)

    async def _ping(self) -> None:
        self._word = anyio.Event()
        with anyio.move_on_after(PONG_SECONDS):
            async with self._engine.watching(ENGINE_QUIET_SECONDS):
                await self._send(operations.Request(self._next_number(), operations.PING, {}))
                await self._word.wait()
        await anyio.sleep(LATE_SECONDS)  # this process itself may have been stopped
        if not self._word.is_set() and self.busy:
            self._give_up(Silent(round(self.quiet_seconds), written=self.greeted))

    @property
    def quiet_seconds(self) -> float:
        """Since the agent's last word, or since the request that ended the channel's rest."""
        return anyio.current_time() - self._heard

    def _give_up(self, failure: ClaudeMcpError) -> None:
        self.failure = failure
        self._end()
        self._scope.cancel()

    async def _receive(self, stream: process.Stream) -> None:
        lines = Splitter(MAX_ANSWER_BYTES)
        while data := await stream.receive():
            self._heard = anyio.current_time()
            self._word.set()
            try:
                for line in lines.feed(data):
                    self._dispatch(line)
            except LineTooLong:
                logger.warning("closed a channel: an answer exceeds %d bytes", MAX_ANSWER_BYTES)
                return

    def _dispatch(self, line: bytes) -> None:
        try:
            answer = answers.read(operations.Answer, json.loads(line))
        except (AgentError, ValueError, RecursionError):
            text = line.decode("utf-8", "replace")
            if EXEC_FAILED.match(text) and not self.greeted:
                self._refusal = text.strip()[:MAX_REFUSAL_CHARS]
            else:
                logger.warning("the agent wrote a line that is not an answer: %.80r", line)
            return
        self.greeted = True
        self._opened.set()
        pending = None if answer.id is None else self._pending.get(answer.id)
        if pending is None:
            return
        waiting = pending.send.statistics().current_buffer_used
        if answer.event is None or waiting < MAX_WAITING_EVENTS:
            pending.send.send_nowait(answer)

    async def _close_when_idle(self, stream: process.Stream) -> None:
        while True:
            idle = 0.0 if self.busy else self.idle_seconds
            if idle >= self._close_after_seconds:
                self.closed = True  # new requests need a new channel
                stream.close_stdin()
                return
            await anyio.sleep(self._close_after_seconds - idle)

    def _explain(self, returncode: int | None, stderr: str) -> ClaudeMcpError:
        if self.greeted:  # whatever the engine says, the requests have been written
            return ChannelLost("The connection to the session was lost before it answered.")
        error = self._engine.failed("reach the session", stderr or self._refusal)
        if isinstance(error, ContainerNotFound):
            return NoContainer(NO_CONTAINER)
        if isinstance(error, ContainerNotRunning):
            return NotRunning(NOT_RUNNING)
        if returncode == places.NO_AGENT_EXIT_CODE:
            return AgentError("The session's agent does not answer.")
        if returncode == places.NO_ROOM_EXIT_CODE or (
            returncode and isinstance(error, ProcessLimitReached)
        ):
            return no_room()
        # A container that is ending fails an exec in many words, and they may be on stdout.
        if returncode == 0 or TRACEBACK in stderr or (not stderr and type(error) is EngineError):
            return NotReached("The connection to the session was lost before it was used.")
        return error

    def close(self) -> None:
        self._scope.cancel()

    @property
    def busy(self) -> bool:
        return bool(self._pending)

    @property
    def idle_seconds(self) -> float:
        return anyio.current_time() - self._idle_since

    async def request(
        self, op: str, args: Mapping[str, Any], on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        """Send one request and wait for its answer; events are delivered in order.

        A request that is cancelled, or whose ``on_event`` fails, is also cancelled in the agent.
        It then waits, for a limited time, until the agent says that the work has ended.

        Raises:
            AgentRefused: the agent refused.
            NotReached, NoContainer, NotRunning, AgentError, EngineError: it was not written.
            ChannelLost, Silent, Unanswered: no answer arrived.
        """
        number = self._next_number()
        if not self.busy:
            self._heard = anyio.current_time()
        pending = self._pending[number] = _Pending(op)
        limit = limit_of(op, args)
        try:
            await self._opened.wait()
            await self._send(operations.Request(number, op, args))
            with anyio.move_on_after(limit) as late:
                return await self._answer_or_cancel(number, pending, on_event, late)
            raise Unanswered(round(limit), written=True)
        finally:
            del self._pending[number]
            pending.send.close()
            pending.receive.close()
            self._idle_since = anyio.current_time()

    async def _answer_or_cancel(
        self, number: int, pending: _Pending, on_event: OnEvent | None, late: anyio.CancelScope
    ) -> dict[str, Any]:
        try:
            return await self._answer(pending, on_event)
        except (AgentRefused, ChannelLost, Silent):
            raise
        except BaseException:  # cancelled, late, or ``on_event`` failed
            if pending.op != operations.PING:
                seconds = LATE_SECONDS if late.cancel_called else CANCEL_ANSWER_SECONDS
                with anyio.move_on_after(seconds, shield=True):
                    await self._cancel(number, pending)
            raise

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    async def _cancel(self, number: int, pending: _Pending) -> None:
        try:
            await self._send(
                operations.Request(0, operations.CANCEL, to_json(operations.Cancel(number)))
            )
            await self._answer(pending, None)
        except ClaudeMcpError as error:
            logger.debug("a cancelled request ended with: %s", error)

    async def _send(self, request: operations.Request) -> None:
        if self._stream is None or self.closed:
            if self.failure is None or isinstance(self.failure, ChannelLost):
                raise NotReached("The connection to the session is closed.")
            raise self.failure
        line = json.dumps(to_json(request), separators=(",", ":")).encode() + b"\n"
        try:
            await self._stream.send(line)
        except anyio.BrokenResourceError:
            # The reason is known once the exec has ended; ``_answer`` raises it.
            logger.debug("the channel broke while a request was sent")

    async def _answer(self, pending: _Pending, on_event: OnEvent | None) -> dict[str, Any]:
        async for answer in pending.receive:
            if answer.event is not None:
                if on_event is not None and isinstance(answer.event, dict):
                    await on_event(answer.event)
            elif answer.ok is not None:
                return dict(answer.ok)
            elif answer.error is not None:
                raise refused(answer.error.code, answer.error.message)
            else:
                raise refused(Code.FAILED, "its answer is malformed")
        raise self.failure or ChannelLost("The connection to the session was closed.")
