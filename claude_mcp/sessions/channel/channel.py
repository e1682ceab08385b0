"""One held-open ``exec`` to a session's agent, and the requests that travel over it.

A channel is only a pipe: when it is lost, only the outstanding answers are lost with it.
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
from claude_mcp.errors import AgentError, ClaudeMcpError, SessionNotFound, SessionNotReady
from claude_mcp.sessions.channel import answers
from claude_mcp.sessions.channel.payload import connect_command
from claude_mcp.sessions.channel.refusals import AgentRefused, no_room, refused

logger = logging.getLogger(__name__)

GREETING_SECONDS: Final = 15.0
"""How long a new channel waits for the agent's greeting."""
CANCEL_ANSWER_SECONDS: Final = 8.0
"""How long a cancelled request waits until the agent says that the work has ended."""
EXIT_SECONDS: Final = 2.0
"""How long the exec may take to end after its streams have closed."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
MAX_WAITING_EVENTS: Final = 1000
"""Events of a request beyond this many unread ones are dropped."""

OnEvent = Callable[[dict[str, Any]], Awaitable[None]]


class ChannelLost(AgentError):
    """The channel ended before the answer arrived."""


class NotRunning(SessionNotReady):
    """The container exists but is not running."""


class _Pending:
    """One request that waits for its answer; its messages are delivered in order."""

    def __init__(self) -> None:
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
        self._opened = anyio.Event()
        self._idle_since = anyio.current_time()
        self._stream: process.Stream | None = None
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
                    self._opened.set()
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._close_when_idle, stream)
                        await self._receive(stream)
                        tasks.cancel_scope.cancel()
                    with anyio.move_on_after(EXIT_SECONDS):
                        await stream.wait()
                    self.failure = self._explain(stream.returncode, stream.stderr_tail)
        except Exception as error:  # this task must not end the other sessions' channels
            logger.debug("a channel could not be held", exc_info=True)
            self.failure = self._engine.failed("reach the session", str(error))
        finally:
            self.closed = True
            self._opened.set()
            for pending in self._pending.values():
                pending.send.close()

    async def _receive(self, stream: process.Stream) -> None:
        lines = Splitter(MAX_ANSWER_BYTES)
        data = b""
        with anyio.move_on_after(GREETING_SECONDS):
            data = await stream.receive()
        while data:
            try:
                for line in lines.feed(data):
                    self._dispatch(line)
            except LineTooLong:
                logger.warning("closed a channel: an answer exceeds %d bytes", MAX_ANSWER_BYTES)
                return
            data = await stream.receive()

    def _dispatch(self, line: bytes) -> None:
        try:
            answer = answers.read(operations.Answer, json.loads(line))
        except (AgentError, ValueError, RecursionError):
            logger.warning("the agent wrote a line that is not an answer: %.80r", line)
            return
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
        error = self._engine.failed("reach the session", stderr)
        if isinstance(error, ContainerNotFound):
            return SessionNotFound("The session's container no longer exists.")
        if isinstance(error, ContainerNotRunning):
            return NotRunning("The session's container is not running.")
        if returncode == places.NO_AGENT_EXIT_CODE:
            return AgentError("The session's agent does not answer.")
        if returncode == places.NO_ROOM_EXIT_CODE or (
            returncode and isinstance(error, ProcessLimitReached)
        ):
            return no_room()
        if returncode == 0 or not stderr:
            return ChannelLost("The connection to the session was lost before it answered.")
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
            ChannelLost, SessionNotFound, NotRunning, AgentError, EngineError: no answer arrived.
        """
        self._numbers += 1
        number = self._numbers
        pending = self._pending[number] = _Pending()
        try:
            await self._opened.wait()
            await self._send(operations.Request(number, op, args))
            try:
                return await self._answer(pending, on_event)
            except (AgentRefused, ChannelLost):
                raise
            except BaseException:  # cancelled, or ``on_event`` failed
                with anyio.move_on_after(CANCEL_ANSWER_SECONDS, shield=True):
                    await self._cancel(number, pending)
                raise
        finally:
            del self._pending[number]
            pending.send.close()
            pending.receive.close()
            self._idle_since = anyio.current_time()

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
            raise self.failure or ChannelLost("The connection to the session is closed.")
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
