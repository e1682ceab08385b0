"""Run a shell command in a session, and read its log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from claude_mcp.contract import places as contract
from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import AgentError, UsageError
from claude_mcp.sessions.channel.channels import AgentRefused
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session

OUTPUT_BYTES: Final = 64 * 1024
"""Kept of each stream by default: its first and its last half."""
TIMEOUT_SECONDS: Final = 600.0
MAX_COMMAND_BYTES: Final = 8 * 1024 * 1024
MAX_NOTES: Final = 5
NOTE_CHARS: Final = 500
MAX_TAIL_LINES: Final = 10_000
LOG_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A command that ended; ``truncated`` says what was left out, and is empty if nothing was."""

    session: Session
    exit_code: int
    stdout: str
    stderr: str
    truncated: str
    duration_ms: int
    timed_out: bool
    notes: tuple[str, ...] = ()
    """What the session says of limits that were reached."""


async def execute(
    sessions: Sessions,
    reference: str,
    command: str,
    *,
    timeout_seconds: float | None = TIMEOUT_SECONDS,
    workdir: str | None = None,
    output_bytes: int = OUTPUT_BYTES,
) -> CommandResult:
    """Run ``command`` by ``sh -c`` in the session. When cancelled, it is killed whole.

    Raises:
        UsageError: the command or the directory cannot be used.
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    if not command.strip():
        raise UsageError("The command is empty.")
    if "\0" in command or "\0" in (workdir or ""):
        raise UsageError("A command cannot hold a NUL character.")
    if timeout_seconds is not None and not 0 < timeout_seconds < math.inf:
        raise UsageError("The time limit must be more than 0.")
    try:
        size = len(command.encode())
    except UnicodeEncodeError as error:
        raise UsageError("The command must be valid Unicode.") from error
    if size > MAX_COMMAND_BYTES:
        raise UsageError(f"The command has more than {MAX_COMMAND_BYTES} bytes; use a file.")
    args = {
        "command": command,
        "workdir": workdir,
        "timeoutSeconds": timeout_seconds,
        "limitBytes": output_bytes,
    }
    try:
        session, answer = await sessions.request(reference, "command", args)
    except AgentRefused as error:
        if error.code == "bad-workdir":
            raise UsageError(f"The session cannot use this workdir: {error.message}.") from error
        raise
    return parse_result(session, answer, output_bytes)


def parse_result(session: Session, answer: Mapping[str, Any], output_bytes: int) -> CommandResult:
    """Read the agent's answer as what it is: input that the session may have forged.

    Raises:
        AgentError: it makes no sense.
    """
    try:
        return CommandResult(
            session=session,
            exit_code=int(answer["exitCode"]),
            stdout=redactor.redact(str(answer["stdout"])),
            stderr=redactor.redact(str(answer["stderr"])),
            truncated=_left_out(answer, output_bytes),
            duration_ms=int(answer["durationMs"]),
            timed_out=bool(answer["timedOut"]),
            notes=_notes(answer.get("notes")),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise AgentError("The session's agent gave an answer that makes no sense.") from error


def _notes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(redactor.redact(str(note))[:NOTE_CHARS] for note in value[:MAX_NOTES])


def _left_out(answer: Mapping[str, Any], output_bytes: int) -> str:
    parts = [
        f"{name}: {int(answer[key]) - output_bytes} of {int(answer[key])} bytes left out"
        for name, key in (("stdout", "stdoutBytes"), ("stderr", "stderrBytes"))
        if int(answer[key]) > output_bytes
    ]
    return "; ".join(parts)


async def logs(sessions: Sessions, reference: str, tail: int = 100) -> tuple[Session, list[str]]:
    """The last lines of a session's log, each beginning with its time.

    Raises:
        UsageError, SessionNotFound, SessionAmbiguous, EngineError
    """
    if not 1 <= tail <= MAX_TAIL_LINES:
        raise UsageError(f"tail must be between 1 and {MAX_TAIL_LINES}.")
    session = await sessions.find(reference)
    engine = await sessions.engine()
    completed = await engine.logs(session.container_id, tail, LOG_BYTES)
    lines = [*completed.out.splitlines(), *completed.err.splitlines()]
    # The engine gives the two streams apart; the time at the head of each line joins them.
    lines.sort(key=lambda line: line.partition(" ")[0])
    lines = [line for line in lines if not _is_handshake(line.partition(" ")[2])]
    return session, [redactor.redact(line) for line in lines][-tail:]


def _is_handshake(text: str) -> bool:
    """What the agent says to the creator of the session is of no use to anybody else."""
    return text.startswith(contract.READY) or text == contract.COMMITTED
