"""What sessions take of their host, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from claude_mcp.views.figures import silent, size
from claude_mcp.views.results import Result
from claude_mcp.views.sessions import unreachable_engines

if TYPE_CHECKING:
    from claude_mcp.sessions.outcomes import Answers
    from claude_mcp.sessions.usage import Usage

HEAD = ("NAME", "STATUS", "CPU", "MEMORY", "OF", "PROCESSES", "DISK R/W", "NETWORK IN/OUT")


@dataclass(frozen=True, slots=True)
class UsageEntry(Result):
    session_id: str
    session_name: str
    status: str
    cpu_percent: float | None
    """100 is one processor."""
    memory_bytes: int | None
    memory_limit_bytes: int | None
    pids: int | None
    disk_read_bytes: int | None
    disk_written_bytes: int | None
    network_in_bytes: int | None
    network_out_bytes: int | None
    engine: str

    @classmethod
    def of(cls, usage: Usage) -> UsageEntry:
        session, measured = usage.session, usage.stats
        numbers: dict[str, Any] = {name: getattr(measured, name, None) for name in NUMBERS}
        return cls(session.id, session.name, session.status.value, **numbers, engine=usage.engine)


NUMBERS: Final = tuple(each.name for each in fields(UsageEntry))[3:-1]
"""The fields that are those of ``Stats``."""


@dataclass(frozen=True, slots=True)
class StatsResult(Result):
    sessions: list[UsageEntry]
    unreachable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, answers: Answers[Usage]) -> StatsResult:
        entries = [UsageEntry.of(each) for each in answers.found]
        return cls(entries, unreachable_engines(answers.unreachable))


def rows(result: StatsResult) -> list[tuple[str, ...]]:
    """Under ``HEAD``; what is not known is a dash. Names are full if there are several engines."""
    several = bool(result.unreachable) or len({each.engine for each in result.sessions}) > 1
    return [
        _cells(each, f"{each.engine}/{each.session_name}" if several else each.session_name)
        for each in result.sessions
    ]


def _cells(entry: UsageEntry, name: str) -> tuple[str, ...]:
    return (
        name,
        entry.status,
        "-" if entry.cpu_percent is None else f"{entry.cpu_percent:.1f}%",
        _size(entry.memory_bytes),
        _size(entry.memory_limit_bytes),
        "-" if entry.pids is None else str(entry.pids),
        f"{_size(entry.disk_read_bytes)} / {_size(entry.disk_written_bytes)}",
        f"{_size(entry.network_in_bytes)} / {_size(entry.network_out_bytes)}",
    )


def _size(count: int | None) -> str:
    return "-" if count is None else size(count)


def stats(result: StatsResult) -> str:
    """One line for each session, for a model."""
    names = [each.lower() for each in HEAD[1:]]
    lines = [
        f"{name}: "
        + ", ".join(f"{what} {value}" for what, value in zip(names, values, strict=True))
        for name, *values in rows(result)
    ]
    lines += silent(result.unreachable)
    return "\n".join(lines) or "There are no sessions."
