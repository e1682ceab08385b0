"""Results about commands, and the session's log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from claude_mcp.views.results import PART_CHARS, Result

if TYPE_CHECKING:
    from claude_mcp.sessions.command_state import CommandResult, Entry
    from claude_mcp.sessions.session import Session


@dataclass(frozen=True, slots=True)
class CommandLine(Result):
    """One command in a list."""

    command_id: str
    command: str
    status: str
    background: bool
    started_at: str
    ended_at: str | None
    exit_code: int | None

    @classmethod
    def of(cls, entry: Entry) -> CommandLine:
        return cls(
            entry.command_id,
            entry.command,
            entry.status.value,
            entry.background,
            entry.started_at,
            entry.ended_at,
            entry.exit_code,
        )


@dataclass(frozen=True, slots=True)
class CommandOutcome(Result):
    session_id: str
    exit_code: int | None
    """None while it runs, and if it ended with the session."""
    stdout: str
    stderr: str
    truncated: str | None
    """What was left out of the output."""
    duration_ms: int
    timed_out: bool
    notes: list[str]
    command_id: str
    command: str
    """The beginning of its text; empty for the caller that gave it."""
    status: Literal["running", "left_running", "completed", "stopped", "lost"]
    background: bool
    started_at: str
    ended_at: str | None
    cursor: int
    """To read on after this output."""
    more: bool
    """Whether there is output after the cursor already."""
    output: str | None
    """Both streams in the order of their arrival, if asked for."""

    @classmethod
    def of(cls, command: CommandResult) -> CommandOutcome:
        return cls(
            session_id=command.session.id,
            exit_code=command.exit_code,
            stdout=command.stdout,
            stderr=command.stderr,
            truncated=command.truncated or None,
            duration_ms=command.duration_ms,
            timed_out=command.timed_out,
            notes=list(command.notes),
            command_id=command.command_id,
            command=command.command,
            status=command.status.value,
            background=command.background,
            started_at=command.started_at,
            ended_at=command.ended_at,
            cursor=command.cursor,
            more=command.more,
            output=command.output,
        )


@dataclass(frozen=True, slots=True)
class LogsResult(Result):
    session_id: str
    session_name: str
    status: str
    lines: list[str]
    before: str | None
    """To read the lines before these; None if there are none."""

    @classmethod
    def of(cls, session: Session, lines: list[str]) -> LogsResult:
        return cls(session.id, session.name, session.status.value, lines, before=None)

    @classmethod
    def part_of(cls, session: Session, lines: list[str], tail: int) -> LogsResult:
        """The last of the lines that fit; there may be more before them if there are ``tail``."""
        kept: list[str] = []
        left = PART_CHARS
        for each in reversed(lines):
            if len(each) > left and kept:
                break
            kept.insert(0, each[:PART_CHARS])
            left -= len(each)
        more = bool(kept) and (len(kept) < len(lines) or len(lines) >= tail)
        part = cls.of(session, kept)
        return replace(part, before=kept[0].partition(" ")[0]) if more else part
