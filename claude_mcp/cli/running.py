"""Runs a command's work: signals, progress, and errors as exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from claude_mcp.cli.drawing import fit
from claude_mcp.cli.here import named
from claude_mcp.cli.line import FRAME_SECONDS, LINE
from claude_mcp.cli.terminal import step, talk
from claude_mcp.config import Config
from claude_mcp.errors import ClaudeMcpError, NextStep, told
from claude_mcp.signals import stopping

if TYPE_CHECKING:
    from claude_mcp.sessions.handle import SessionHandle
    from claude_mcp.sessions.progress import Amount, Progress
    from claude_mcp.sessions.registry import Sessions

logger = logging.getLogger(__name__)

T = TypeVar("T")

STEPS: Final = {
    NextStep.READ_TURN: "'claude-mcp turn'",
    NextStep.STOP_COMMAND: "'claude-mcp stop-command'",
    NextStep.CANCEL_TURN: "'claude-mcp cancel'",
    NextStep.QUEUE_PROMPT: "'claude-mcp prompt --queue'",
    NextStep.GIVE_CREDENTIALS: "'claude-mcp credentials'",
    NextStep.READ_LOG: "'claude-mcp logs'",
    NextStep.RUN_COMMAND: "'claude-mcp exec'",
    NextStep.DESTROY: "'claude-mcp destroy'",
    NextStep.OVERWRITE: "--force",
    NextStep.APPLY: "'claude-mcp apply'",
    NextStep.DISCARD_WORK: "--force",
    NextStep.CREATE_PARENTS: "--parents",
    NextStep.CREATE: "'claude-mcp create'",
}
"""The command, or its option, for each step."""


STOPPING: Final = "Stopping; Ctrl-C again stops waiting for that."


class Interrupted(BaseException):
    """A signal ended the work; clean-up is complete."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def report(error: Exception) -> int:
    """Print on stderr what went wrong and what to do; returns the exit code."""
    error = told(error)
    if isinstance(error, ClaudeMcpError):
        logger.debug("the error's origin", exc_info=error)
        talk(f"claude-mcp: {error.message}")
        advice = error.advice(STEPS)
        if advice:
            talk(advice)
        return error.exit_code
    talk(f"claude-mcp: internal error: {type(error).__name__}: {error}")
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("the error's origin", exc_info=error)
    else:
        talk("Run it again with --debug to see the traceback.")
    return 1


def within(config: Config, work: Callable[[Sessions], Awaitable[T]], *, interrupted: str = "") -> T:
    """Do some work with the sessions. Signals cancel it and wait for its clean-up.

    ``interrupted`` is what to say then.

    Raises:
        Interrupted: by a signal. A second signal ends the process immediately.
    """
    from claude_mcp.sessions import glance

    for each in [config.on(name) for name in config.engines] or [config]:
        glance.begin(each)  # the engine answers while the rest is imported
    try:
        return _within(config, work, interrupted)
    finally:
        glance.end()


def _within(config: Config, work: Callable[[Sessions], Awaitable[T]], interrupted: str) -> T:
    import anyio

    if config.engines:
        from claude_mcp.sessions.fleet import open_fleet as open_sessions
    else:
        from claude_mcp.sessions.registry import open_sessions

    async def main() -> T:
        outcome: list[T] = []
        received: list[int] = []

        async def watch(scope: anyio.CancelScope) -> None:
            async for number in signals:
                if received:
                    talk("claude-mcp: stopped before clean-up was complete")
                    os._exit(128 + number)
                received.append(number)
                logger.info("stopping on %s", signal.Signals(number).name)
                LINE.show(lambda columns: [fit(STOPPING, columns - 1)])
                scope.cancel()

        async def draw() -> None:
            while True:
                await anyio.sleep(FRAME_SECONDS)
                LINE.redraw()

        with anyio.open_signal_receiver(*stopping()) as signals:
            # Only the work is cancelled: its clean-up needs the channels to the sessions.
            async with open_sessions(config) as sessions, anyio.create_task_group() as tasks:
                with anyio.CancelScope() as scope:
                    tasks.start_soon(watch, scope)
                    if LINE.possible():
                        tasks.start_soon(draw)
                    outcome.append(await work(sessions))
                tasks.cancel_scope.cancel()
        if received and not outcome:
            if interrupted:
                talk(f"claude-mcp: {interrupted}")
            raise Interrupted(received[0])
        return outcome[0]

    try:
        return anyio.run(main)
    finally:
        LINE.end()


def within_session(
    config: Config,
    reference: str,
    work: Callable[[SessionHandle], Awaitable[T]],
    *,
    interrupted: str = "",
) -> T:
    """As ``within``, with one session; ``here.HERE`` is that of this directory."""

    async def open_it(sessions: Sessions) -> T:
        return await work(await sessions.open(await named(sessions, reference)))

    return within(config, open_it, interrupted=interrupted)


def follow(arguments: argparse.Namespace) -> Progress:
    """Reports progress on stderr, if somebody watches."""
    from claude_mcp.views.figures import reported

    shown = watched(arguments)
    if shown and LINE.possible() and not arguments.verbose:
        from claude_mcp.cli.live import Work

        return Work()

    async def progress(message: str, amount: Amount | None = None, /) -> None:
        if shown:
            step(reported(message, amount))

    return progress


def watched(arguments: argparse.Namespace) -> bool:
    """Whether a person sees stderr, or asked for progress."""
    return not arguments.quiet and (arguments.verbose or sys.stderr.isatty())
