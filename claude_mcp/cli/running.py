"""Runs one command: configuration, logging, signals, errors and exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from claude_mcp.config import Config, load
from claude_mcp.contract.redaction import redactor
from claude_mcp.credentials import RedactingFormatter
from claude_mcp.errors import ClaudeMcpError, single_cause

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Progress, Sessions

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Interrupted(BaseException):
    """A signal ended the work; all clean-up is done."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def run(arguments: argparse.Namespace) -> int:
    """Perform the command and return the program's exit code."""
    try:
        config = load(
            file=arguments.config,
            engine=arguments.engine,
            debug=True if arguments.debug else None,
        )
        configure_logging(config)
        from claude_mcp.cli.commands import PERFORM

        return PERFORM[arguments.command](arguments, config)
    except BrokenPipeError:
        raise
    except Interrupted as ending:
        return ending.exit_code
    except Exception as error:
        return report(error)


def report(error: Exception) -> int:
    """Say on stderr what went wrong and what to do; returns the exit code."""
    error = single_cause(error)
    if isinstance(error, ClaudeMcpError):
        logger.debug("the error's origin", exc_info=error)
        talk(f"claude-mcp: {error.message}")
        if error.hint:
            talk(error.hint)
        return error.exit_code
    talk(f"claude-mcp: internal error: {type(error).__name__}: {error}")
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("the error's origin", exc_info=error)
    else:
        talk("Run it again with --debug to see where.")
    return 1


def talk(line: str) -> None:
    print(visible(redactor.redact(line)), file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Without characters that steer a terminal: a session's words can hold any."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def configure_logging(config: Config) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # Only our own: what libraries say of a message at this level may hold its secrets.
    logging.getLogger("claude_mcp").setLevel(logging.DEBUG if config.debug else logging.WARNING)


def within(config: Config, work: Callable[[Sessions], Awaitable[T]]) -> T:
    """Do some work with the sessions. SIGINT and SIGTERM cancel it; its clean-up is waited for.

    Raises:
        Interrupted: by a signal. A second signal ends the process at once.
    """
    import anyio

    from claude_mcp.sessions.registry import open_sessions

    async def main() -> T:
        outcome: list[T] = []
        received: list[int] = []

        async def watch(scope: anyio.CancelScope) -> None:
            async for number in signals:
                if received:
                    talk("claude-mcp: stopped before everything was cleaned up")
                    os._exit(128 + number)
                received.append(number)
                logger.info("stopping for %s", signal.Signals(number).name)
                scope.cancel()

        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            # The work alone is cancelled: cancelling something in a session takes its channel.
            async with open_sessions(config) as sessions, anyio.create_task_group() as tasks:
                with anyio.CancelScope() as scope:
                    tasks.start_soon(watch, scope)
                    outcome.append(await work(sessions))
                tasks.cancel_scope.cancel()
        if received and not outcome:
            raise Interrupted(received[0])
        return outcome[0]

    return anyio.run(main)


def follow(arguments: argparse.Namespace) -> Progress:
    """Progress for a person who watches, or asked to be told."""
    told = arguments.verbose or sys.stderr.isatty()

    async def progress(message: str) -> None:
        if told:
            talk(f"  {message}")

    return progress


def watched(arguments: argparse.Namespace) -> bool:
    return bool(arguments.verbose) or sys.stderr.isatty()
