"""Ports of this machine that lead to a session on another one.

There, the engine publishes a session's ports on a loopback that is not ours. So this process
listens on our loopback for as long as it runs, and each visitor gets an ``exec`` of its own, in
which a small program connects to the session's port.
"""

from __future__ import annotations

import errno
import logging
from contextlib import suppress
from importlib import resources
from typing import Final

import anyio
from anyio.abc import SocketStream, TaskGroup

from claude_mcp.engine.engine import Engine
from claude_mcp.engine.process import Stream
from claude_mcp.errors import ClaudeMcpError
from claude_mcp.sessions.channel.payload import PYTHON
from claude_mcp.sessions.network.forwarding import Forwarding

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
MOST_VISITORS: Final = 32
"""Visitors of one session at a time; further ones wait."""
EXIT_SECONDS: Final = 2.0
FAR: Final = (
    "The session runs on another machine. Its ports are open on this machine only while a program "
    "that has opened the session runs, such as the server or 'claude-mcp forward'."
)


def visit_command(port: int) -> tuple[str, ...]:
    """The command that connects its stdin and stdout to a port of the session."""
    source = resources.files("claude_mcp.ports").joinpath("visit.py").read_text("utf-8")
    return (*PYTHON, source, str(port))


class Tunnels:
    """Those that this process holds open, by the session's container."""

    def __init__(self, engine: Engine, tasks: TaskGroup) -> None:
        self._engine = engine
        self._tasks = tasks
        self._open: dict[str, anyio.CancelScope] = {}

    def ensure(self, container_id: str, forwarding: Forwarding | None) -> None:
        """Open the ports of a session, unless they are open or its engine publishes them here."""
        if forwarding is None or not self._engine.dialect.over_network:
            return
        if container_id not in self._open:
            scope = self._open[container_id] = anyio.CancelScope()
            self._tasks.start_soon(self._hold, container_id, forwarding, scope)

    def close(self, container_id: str) -> None:
        scope = self._open.pop(container_id, None)
        if scope is not None:
            scope.cancel()

    async def _hold(
        self, container_id: str, forwarding: Forwarding, scope: anyio.CancelScope
    ) -> None:
        slots = anyio.Semaphore(MOST_VISITORS)
        with scope:
            async with anyio.create_task_group() as tasks:
                for each in forwarding.ports:
                    if each.host_port is not None:
                        tasks.start_soon(
                            self._listen, container_id, each.port, each.host_port, slots
                        )

    async def _listen(
        self, container_id: str, port: int, host_port: int, slots: anyio.Semaphore
    ) -> None:
        try:
            listener = await anyio.create_tcp_listener(local_host=LOOPBACK, local_port=host_port)
        except OSError as error:
            # Another process of ours may hold it, or the engine's machine is this one after all.
            level = logging.DEBUG if error.errno == errno.EADDRINUSE else logging.WARNING
            logger.log(level, "port %d of this machine cannot be opened: %s", host_port, error)
            return

        async def serve(visitor: SocketStream) -> None:
            async with visitor, slots:
                try:
                    await self._serve(visitor, container_id, port)
                except (ClaudeMcpError, OSError) as error:
                    logger.debug("a visitor of port %d was lost: %s", host_port, error)

        async with listener:
            await listener.serve(serve)

    async def _serve(self, visitor: SocketStream, container_id: str, port: int) -> None:
        """Pass bytes both ways until the server ends its side, or the visitor is gone."""
        async with (
            self._engine.exec(container_id, visit_command(port), exit_grace=EXIT_SECONDS) as stream,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_pass_in, visitor, stream)
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                while data := await stream.receive():
                    await visitor.send(data)
                await visitor.send_eof()
            tasks.cancel_scope.cancel()


async def _pass_in(visitor: SocketStream, stream: Stream) -> None:
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            await stream.send(await visitor.receive())
    stream.close_stdin()
