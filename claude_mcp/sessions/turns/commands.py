"""Shell commands in a session: run one, follow it, stop it, list them. Also the session's log.

A command belongs to the session. A caller that stops waiting does not end it; only ``stop`` and
its own time limit do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio

from claude_mcp.contract import operations, places
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.wording import named
from claude_mcp.errors import AgentError, CommandNotFound, UsageError
from claude_mcp.sessions.channel.answers import read
from claude_mcp.sessions.channel.silence import LinkLost, StoppedMeanwhile, stopped
from claude_mcp.sessions.command_state import (
    CommandResult,
    Entry,
    parse_entries,
    parse_result,
)
from claude_mcp.sessions.handle import SessionHandle, SessionStopped
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import reconnecting
from claude_mcp.sessions.turns.identifiers import canonical

OUTPUT_BYTES: Final = 64 * 1024
"""How much of each stream is kept by default: its first and its last half."""
TIMEOUT_SECONDS: Final = 600.0
MAX_COMMAND_BYTES: Final = 8 * 1024 * 1024
MAX_CELLS: Final = 1000
"""The largest size of a terminal, each way."""
MAX_TAIL_LINES: Final = 10_000
LOG_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Terminal:
    """The size of a command's terminal, in characters."""

    columns: int = 80
    rows: int = 24


async def run(
    handle: SessionHandle,
    command: str,
    *,
    timeout_seconds: float | None = TIMEOUT_SECONDS,
    workdir: str | None = None,
    output_bytes: int = OUTPUT_BYTES,
    command_id: str | None = None,
    durable: bool = True,
    wait_seconds: float | None = None,
    background: bool = False,
    input: str | None = None,
    tty: Terminal | None = None,
) -> CommandResult:
    """Run ``command`` with ``sh -c`` in the session and wait until it ends, or for
    ``wait_seconds``; it then continues.

    Repeating a ``command_id``, a UUID, means the same command and never runs it twice: it is not
    started unless that can be recorded. Only an id that nobody will repeat need not be ``durable``.
    With ``background``, nothing is waited for. ``input`` is written to its stdin, which is then
    closed unless the command is in the background or has a ``tty``. Cancelling this only ends the
    waiting; ``stop`` ends the command.

    Raises:
        UsageError: the command, its id or the directory cannot be used.
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    _check(command, timeout_seconds, workdir, input)
    _check_wait(wait_seconds)
    if tty is not None and not (0 < tty.columns <= MAX_CELLS and 0 < tty.rows <= MAX_CELLS):
        raise UsageError(f"A terminal has 1 to {MAX_CELLS} columns and rows.")
    args = operations.Command(
        command,
        output_bytes,
        workdir=workdir,
        timeout_seconds=timeout_seconds,
        command_id=new_command_id(command_id),
        durable=durable and command_id is not None,
        wait_seconds=wait_seconds,
        background=background,
        input=input,
    )
    if tty is not None:
        args = args._replace(tty=True, columns=tty.columns, rows=tty.rows)
    deadline = math.inf if wait_seconds is None else anyio.current_time() + wait_seconds
    try:
        return await _request(handle, operations.COMMAND, args)
    except StoppedMeanwhile:
        raise
    except (AgentError, LinkLost) as error:
        if not reconnecting.is_lost(error):
            raise

        async def ask() -> dict[str, Any]:
            # The command goes on without the channel, if it was started.
            left = max(0.0, deadline - anyio.current_time())
            follow = operations.FollowCommand(
                output_bytes, args.command_id, wait_seconds=None if left == math.inf else left
            )
            return await handle.request(operations.FOLLOW_COMMAND, to_json(follow), start=False)

        try:
            return _result(handle, await reconnecting.again(handle, ask, deadline), output_bytes)
        except SessionStopped as late:  # the engine said so only now
            raise stopped() from late
        except CommandNotFound:
            raise error from error.__cause__


async def follow(
    handle: SessionHandle,
    command_id: str | None = None,
    *,
    cursor: int | None = None,
    wait_seconds: float | None = None,
    merge: bool = False,
    input: str | None = None,
    end_input: bool = False,
    output_bytes: int = OUTPUT_BYTES,
) -> CommandResult:
    """Wait until a command (default: the latest) ends, or for ``wait_seconds``.

    With a ``cursor`` (0: the beginning), wait only until there is output after it, and return as
    much of it as fits; with ``merge``, both streams in the order of their arrival. Before that,
    ``input`` is written to its stdin, which ``end_input`` closes.

    Raises:
        UsageError: also if nothing can be written to its stdin.
        CommandNotFound, SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    _check_wait(wait_seconds)
    if cursor is not None and cursor < 0:
        raise UsageError("cursor must be at least 0.")
    if merge and cursor is None:
        raise UsageError("merge needs a cursor; 0 is the beginning.")
    _check_text("The input", input)
    args = operations.FollowCommand(
        output_bytes,
        None if command_id is None else new_command_id(command_id),
        cursor=cursor,
        wait_seconds=wait_seconds,
        merge=merge,
        input=input,
        end_input=end_input,
    )
    return await _request(handle, operations.FOLLOW_COMMAND, args)


async def stop(handle: SessionHandle, command_id: str) -> CommandResult:
    """Kill a command and all it started, and wait until that is done.

    Succeeds if it had ended already; what it left behind is killed all the same.

    Raises:
        UsageError, CommandNotFound, SessionNotFound, SessionAmbiguous, SessionNotReady,
        AgentError, EngineError
    """
    args = operations.StopCommand(OUTPUT_BYTES, new_command_id(command_id))
    return await _request(handle, operations.STOP_COMMAND, args, start=False)


async def listed(handle: SessionHandle) -> list[Entry]:
    """The latest commands that the session still knows, oldest first.

    Raises:
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    answer = await handle.request(operations.COMMANDS, {}, start=False)
    return parse_entries(read(operations.CommandList, answer).commands)


def new_command_id(given: str | None = None) -> str:
    """The caller's own UUID in its canonical form, or a new one.

    Raises:
        UsageError: the caller's is not a UUID.
    """
    return canonical(given, "command")


async def _request(
    handle: SessionHandle,
    op: str,
    args: operations.Command | operations.FollowCommand | operations.StopCommand,
    *,
    start: bool = True,
) -> CommandResult:
    return _result(handle, await handle.request(op, to_json(args), start=start), args.limit_bytes)


def _result(handle: SessionHandle, answer: dict[str, Any], limit_bytes: int) -> CommandResult:
    result = parse_result(handle.session, answer, limit_bytes)
    git_notes = handle.git_notes(result.stderr) or handle.git_notes(result.stdout)
    return replace(result, notes=(*handle.notes, *result.notes, *git_notes))


def _check_wait(seconds: float | None) -> None:
    if seconds is not None and not 0 <= seconds < math.inf:
        raise UsageError(f"{named('waitSeconds')} must be at least 0.")


def _check(
    command: str, timeout_seconds: float | None, workdir: str | None, input: str | None
) -> None:
    if not command.strip():
        raise UsageError("The command is empty.")
    if "\0" in command or "\0" in (workdir or ""):
        raise UsageError("A command cannot contain a NUL character.")
    if timeout_seconds is not None and not 0 < timeout_seconds < math.inf:
        raise UsageError("The time limit must be more than 0.")
    _check_text("The command", command)
    _check_text("The input", input)


def _check_text(what: str, text: str | None) -> None:
    try:
        # Surrogates stand for bytes that are not UTF-8, as they do in the program's arguments.
        size = len((text or "").encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} must be valid Unicode.") from error
    if size > MAX_COMMAND_BYTES:
        raise UsageError(f"{what} exceeds {MAX_COMMAND_BYTES} bytes; put it in a file.")


async def logs(
    handle: SessionHandle, tail: int = 100, *, before: str | None = None
) -> tuple[Session, list[str]]:
    """The last lines of a session's log, or the last ones before a time; each begins with its own.

    Raises:
        UsageError, SessionNotFound, SessionAmbiguous, EngineError
    """
    if not 1 <= tail <= MAX_TAIL_LINES:
        raise UsageError(f"tail must be between 1 and {MAX_TAIL_LINES}.")
    session = (await handle.pinned()).session
    wanted = tail if before is None else MAX_TAIL_LINES
    log = await handle.engine.logs(session.container_id, wanted, LOG_BYTES)
    lines = [*log.out.splitlines(), *log.err.splitlines()]
    # The engine keeps the two streams apart; sorting by time joins them again.
    lines.sort(key=lambda line: line.partition(" ")[0])
    lines = [line for line in lines if not _is_handshake(line.partition(" ")[2])]
    if before is not None:
        lines = [line for line in lines if line.partition(" ")[0] < before]
    return session, [redactor.redact(line) for line in lines][-tail:]


async def follow_logs(
    handle: SessionHandle, on_line: Callable[[str], None], tail: int = 100
) -> None:
    """As ``logs``, and then each further line as it is written, until the session stops.

    Raises:
        UsageError, SessionNotFound, SessionAmbiguous, EngineError
    """
    if not 1 <= tail <= MAX_TAIL_LINES:
        raise UsageError(f"tail must be between 1 and {MAX_TAIL_LINES}.")
    container = (await handle.pinned()).session.container_id
    async with handle.engine.follow_logs(container, tail) as stream:
        async for each in stream.lines():
            if not _is_handshake(each.partition(" ")[2]):
                on_line(redactor.redact(each))


def _is_handshake(text: str) -> bool:
    """Whether the agent wrote this only for the session's creator."""
    return text.startswith(places.READY) or text == places.COMMITTED
