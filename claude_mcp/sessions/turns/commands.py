"""Runs a shell command in a session, and reads the session's log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from claude_mcp.contract import operations, places
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import UsageError
from claude_mcp.sessions.channel.answers import read
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.session import Session

OUTPUT_BYTES: Final = 64 * 1024
"""How much of each stream is kept by default: its first and its last half."""
TIMEOUT_SECONDS: Final = 600.0
MAX_COMMAND_BYTES: Final = 8 * 1024 * 1024
MAX_NOTES: Final = 5
NOTE_CHARS: Final = 500
MARK_CHARS: Final = 200
"""More than an honest agent writes where it left output out."""
MAX_TAIL_LINES: Final = 10_000
LOG_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A command that ended; ``truncated`` says how many bytes of output are missing, if any."""

    session: Session
    exit_code: int
    stdout: str
    stderr: str
    truncated: str
    duration_ms: int
    timed_out: bool
    notes: tuple[str, ...] = ()
    """What the session reports about limits that were reached."""


async def run(
    handle: SessionHandle,
    command: str,
    *,
    timeout_seconds: float | None = TIMEOUT_SECONDS,
    workdir: str | None = None,
    output_bytes: int = OUTPUT_BYTES,
) -> CommandResult:
    """Run ``command`` with ``sh -c`` in the session.

    If this is cancelled, the command and all its child processes are killed.

    Raises:
        UsageError: the command or the directory cannot be used.
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    _check(command, timeout_seconds, workdir)
    args = operations.Command(
        command, output_bytes, workdir=workdir, timeout_seconds=timeout_seconds
    )
    answer = await handle.request(operations.COMMAND, to_json(args))
    result = parse_result(handle.session, answer, output_bytes)
    git_notes = handle.git_notes(result.stderr) or handle.git_notes(result.stdout)
    return replace(result, notes=(*handle.notes, *result.notes, *git_notes))


def _check(command: str, timeout_seconds: float | None, workdir: str | None) -> None:
    if not command.strip():
        raise UsageError("The command is empty.")
    if "\0" in command or "\0" in (workdir or ""):
        raise UsageError("A command cannot contain a NUL character.")
    if timeout_seconds is not None and not 0 < timeout_seconds < math.inf:
        raise UsageError("The time limit must be more than 0.")
    try:
        size = len(command.encode())
    except UnicodeEncodeError as error:
        raise UsageError("The command must be valid Unicode.") from error
    if size > MAX_COMMAND_BYTES:
        raise UsageError(f"The command exceeds {MAX_COMMAND_BYTES} bytes; put it in a file.")


def parse_result(session: Session, answer: Mapping[str, Any], output_bytes: int) -> CommandResult:
    """A command's result from the agent's answer, which may be forged.

    Raises:
        AgentError: the answer is unusable.
    """
    result = read(operations.CommandResult, answer)
    return CommandResult(
        session=session,
        exit_code=result.exit_code,
        stdout=redactor.redact(_bounded(result.stdout, output_bytes)),
        stderr=redactor.redact(_bounded(result.stderr, output_bytes)),
        truncated=_left_out(result, output_bytes),
        duration_ms=result.duration_ms,
        timed_out=result.timed_out,
        notes=tuple(redactor.redact(note)[:NOTE_CHARS] for note in result.notes[:MAX_NOTES]),
    )


def _bounded(text: str, output_bytes: int) -> str:
    """A bound for a forged answer; an honest agent has cut the output already."""
    return text[: 2 * output_bytes + MARK_CHARS]  # redaction may have made it longer


def _left_out(result: operations.CommandResult, output_bytes: int) -> str:
    streams = (("stdout", result.stdout_bytes), ("stderr", result.stderr_bytes))
    return "; ".join(
        f"{name}: {total - output_bytes} of {total} bytes left out"
        for name, total in streams
        if total > output_bytes
    )


async def logs(handle: SessionHandle, tail: int = 100) -> tuple[Session, list[str]]:
    """The last lines of a session's log, each beginning with its time.

    Raises:
        UsageError, SessionNotFound, SessionAmbiguous, EngineError
    """
    if not 1 <= tail <= MAX_TAIL_LINES:
        raise UsageError(f"tail must be between 1 and {MAX_TAIL_LINES}.")
    session = (await handle.pinned()).session
    log = await handle.engine.logs(session.container_id, tail, LOG_BYTES)
    lines = [*log.out.splitlines(), *log.err.splitlines()]
    # The engine keeps the two streams apart; sorting by time joins them again.
    lines.sort(key=lambda line: line.partition(" ")[0])
    lines = [line for line in lines if not _is_handshake(line.partition(" ")[2])]
    return session, [redactor.redact(line) for line in lines][-tail:]


def _is_handshake(text: str) -> bool:
    """Whether the agent wrote this only for the session's creator."""
    return text.startswith(places.READY) or text == places.COMMITTED
