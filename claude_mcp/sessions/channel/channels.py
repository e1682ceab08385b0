"""The held-open ``exec`` to a session's agent, and requests over it.

The first request opens a channel. It carries any number of concurrent requests and closes when it
was idle for a while. It is only a pipe: if it is lost, only the outstanding answers are lost.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

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

IDLE_SECONDS: Final = 30.0
"""How long an unused channel stays open."""
TRUSTED_IDLE_SECONDS: Final = 0.1
"""A channel that was used within this time is not pinged before the next request."""
PING_SECONDS: Final = 2.0
GREETING_SECONDS: Final = 15.0
"""How long a new channel waits for the agent's greeting."""
CANCEL_ANSWER_SECONDS: Final = 8.0
"""How long a cancelled request waits for the agent to confirm that the work has ended."""
EXIT_SECONDS: Final = 2.0
"""How long the exec may take to end after its input or output has ended."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
MAX_WAITING_EVENTS: Final = 1000
"""Upper bound on unread events of one request. Further events are dropped."""
LOG_LINES: Final = 5
LOG_BYTES: Final = 4096

OnEvent = Callable[[dict[str, Any]], Awaitable[None]]


class ChannelLost(AgentError):
    """The channel ended before the answer came."""


class NotRunning(SessionNotReady):
    """The container exists but does not run."""


class _Pending:
    """A request that waits for its answer. It receives its messages in order."""

    def __init__(self) -> None:
        send, receive = anyio.create_memory_object_stream[operations.Answer](float("inf"))
        self.send, self.receive = send, receive


class Channel:
    """One held exec. ``run`` needs a task of its own; ``request`` can be called concurrently."""

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
        """Hold the exec until it ends, has been idle for too long, or ``close`` is called."""
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
        except Exception as error:  # an error in this task must not end other sessions
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
            logger.warning("the agent wrote a malformed answer: %.80r", line)
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
                self.closed = True  # from now on a request needs another channel
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
            return ChannelLost("The connection to the session was lost before its answer came.")
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
        """Send one request and wait for its answer. ``on_event`` gets its events in order.

        If the request is cancelled or ``on_event`` fails, the agent cancels it too. The call then
        waits up to ``CANCEL_ANSWER_SECONDS`` until the agent confirms that the work has ended.

        Raises:
            AgentRefused: the agent refused the request.
            ChannelLost, SessionNotFound, NotRunning, AgentError, EngineError: no answer came.
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
            # The reason is known once the exec has ended. Waiting for the answer raises it.
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


class Channels:
    """The open channels of this process, at most one for each container."""

    def __init__(
        self, engine: Engine, tasks: TaskGroup, *, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._idle_seconds = idle_seconds
        self._open: dict[str, Channel] = {}

    def is_open(self, container_id: str) -> bool:
        channel = self._open.get(container_id)
        return channel is not None and not channel.closed

    async def is_alive(self, container_id: str) -> bool:
        """Whether there is an open channel that still answers.

        This detects a container that was stopped, paused or removed before a request is sent. Once
        a request is sent, nobody could know whether it was carried out.
        """
        channel = self._open.get(container_id)
        if channel is None or channel.closed:
            return False
        if channel.busy or channel.idle_seconds < TRUSTED_IDLE_SECONDS:
            return True
        try:
            with anyio.fail_after(PING_SECONDS):
                await channel.request(operations.PING, {})
        except (ClaudeMcpError, TimeoutError) as error:
            logger.debug("closed an idle channel that does not answer: %r", error)
            self.close(container_id)
            return False
        return True

    def close(self, container_id: str) -> None:
        channel = self._open.pop(container_id, None)
        if channel is not None:
            channel.close()

    async def _hold(self, container_id: str, channel: Channel) -> None:
        try:
            await channel.run()
        finally:
            if self._open.get(container_id) is channel:
                del self._open[container_id]

    async def request(
        self,
        container_id: str,
        op: str,
        args: Mapping[str, Any],
        on_event: OnEvent | None = None,
    ) -> dict[str, Any]:
        """Like ``Channel.request``, over the open channel or a new one.

        If the agent does not answer at all, the error ends with the last lines of its log.
        """
        channel = self._open.get(container_id)
        if channel is None or channel.closed:
            channel = Channel(self._engine, container_id, self._idle_seconds)
            self._open[container_id] = channel
            self._tasks.start_soon(self._hold, container_id, channel)
        try:
            return await channel.request(op, args, on_event)
        except AgentRefused:
            raise
        except AgentError as error:
            raise AgentError(
                f"{error.message} {await self._log_end(container_id)}",
                hint="Look at get_session_logs. If this persists, destroy the session.",
            ) from error

    async def _log_end(self, container_id: str) -> str:
        try:
            log = await self._engine.logs(container_id, LOG_LINES, LOG_BYTES)
        except ClaudeMcpError as error:
            return f"Its log cannot be read: {error.message}"
        lines = [line.partition(" ")[2] for line in log.err.splitlines() if line.strip()]
        return f"Its log ends with: {' | '.join(lines)}" if lines else "Its log is empty."
