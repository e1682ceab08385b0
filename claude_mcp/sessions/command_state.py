"""What a session says about its commands, read as hostile input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from claude_mcp.contract import operations
from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import AgentError
from claude_mcp.sessions.channel.answers import line, read
from claude_mcp.sessions.session import Session

MAX_NOTES: Final = 5
NOTE_CHARS: Final = 500
MARK_CHARS: Final = 200
"""More than an honest agent writes where it left output out."""
ID_CHARS: Final = 36
TIME_CHARS: Final = 30
HEADLINE_CHARS: Final = 200
MAX_ENTRIES: Final = 100


class CommandStatus(StrEnum):
    RUNNING = "running"
    LEFT_RUNNING = "left_running"
    """The shell has ended, but processes that it started still hold the command's output open."""
    COMPLETED = "completed"
    """It has ended by itself, with whatever exit code."""
    STOPPED = "stopped"
    LOST = "lost"
    """The session was stopped while it ran."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A command's state and output; ``truncated`` says how much output is missing, if any.

    ``exit_code`` is None while the shell runs, and for a lost command. The output is the first
    and the last part of each stream or, if it was read with a cursor, what came after it; then
    ``more`` says whether there is more already. ``output`` holds both streams if they were asked
    for in the order of their arrival.
    """

    session: Session
    exit_code: int | None
    stdout: str
    stderr: str
    truncated: str
    duration_ms: int
    timed_out: bool
    notes: tuple[str, ...] = ()
    """What the session reports about limits that were reached."""
    command_id: str = ""
    status: CommandStatus = CommandStatus.COMPLETED
    command: str = ""
    """The beginning of its text."""
    background: bool = False
    started_at: str = ""
    ended_at: str | None = None
    cursor: int = 0
    more: bool = False
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list of commands."""

    command_id: str
    command: str
    status: CommandStatus
    background: bool
    started_at: str
    ended_at: str | None
    exit_code: int | None


def parse_result(session: Session, answer: Mapping[str, Any], output_bytes: int) -> CommandResult:
    """A command's result from the agent's answer, which may be forged.

    Raises:
        AgentError: the answer is unusable.
    """
    result = read(operations.CommandResult, answer)
    status = _status(result.status)
    if status in (CommandStatus.COMPLETED, CommandStatus.STOPPED) and result.exit_code is None:
        raise AgentError("The session's agent sent an unusable answer.")
    return CommandResult(
        session=session,
        exit_code=result.exit_code,
        stdout=_bounded(result.stdout, output_bytes),
        stderr=_bounded(result.stderr, output_bytes),
        truncated=_left_out(result, output_bytes),
        duration_ms=result.duration_ms,
        timed_out=result.timed_out,
        notes=tuple(redactor.redact(note)[:NOTE_CHARS] for note in result.notes[:MAX_NOTES]),
        command_id=line(result.command_id, ID_CHARS),
        status=status,
        command=_headline(result.command),
        background=result.background,
        started_at=line(result.started_at, TIME_CHARS),
        ended_at=None if result.ended_at is None else line(result.ended_at, TIME_CHARS),
        cursor=result.cursor,
        more=result.more,
        output=None if result.output is None else _bounded(result.output, output_bytes),
    )


def parse_entries(entries: Iterable[operations.CommandEntry]) -> list[Entry]:
    """At most ``MAX_ENTRIES`` commands from the agent's answer; those that make sense."""
    found = []
    for each in list(entries)[-MAX_ENTRIES:]:
        try:
            status = _status(each.status)
        except AgentError:
            continue
        ended = None if each.ended_at is None else line(each.ended_at, TIME_CHARS)
        found.append(
            Entry(
                line(each.command_id, ID_CHARS),
                _headline(each.command),
                status,
                each.background,
                line(each.started_at, TIME_CHARS),
                ended,
                each.exit_code,
            )
        )
    return found


def _status(status: str) -> CommandStatus:
    try:
        return CommandStatus(status)
    except ValueError:
        raise AgentError("The session's agent sent an unusable answer.") from None


def _headline(command: str) -> str:
    return redactor.redact(line(command, HEADLINE_CHARS))


def _bounded(text: str, output_bytes: int) -> str:
    """Redacted, with a bound for a forged answer; an honest agent has cut the output already."""
    return redactor.redact(text[: 2 * output_bytes + MARK_CHARS])  # redaction may lengthen it


def _left_out(result: operations.CommandResult, output_bytes: int) -> str:
    streams = (("stdout", result.stdout_bytes), ("stderr", result.stderr_bytes))
    missing = [
        f"{name}: {total - output_bytes} of {total} bytes left out"
        for name, total in streams
        if total > output_bytes
    ]
    if result.missing > 0:
        missing.append(f"about {result.missing} bytes before this are no longer kept")
    return "; ".join(missing)
