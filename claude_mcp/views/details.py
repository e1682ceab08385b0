"""All that is known of one session, as data and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from claude_mcp.contract.numbers import counted
from claude_mcp.sessions.turns.questions import request_text
from claude_mcp.views.commands import CommandLine
from claude_mcp.views.figures import size, usd
from claude_mcp.views.results import Result
from claude_mcp.views.sessions import SessionEntry
from claude_mcp.views.text import changed, doing
from claude_mcp.views.turns import QuestionEntry, TurnEntry
from claude_mcp.views.workspaces import ChangesResult

if TYPE_CHECKING:
    from claude_mcp.sessions.details import Details

FILES = 20
"""How many changed files the text names."""


@dataclass(frozen=True, slots=True)
class LimitsEntry(Result):
    """None is no limit. That of the disk is not known."""

    memory_bytes: int | None
    cpus: float | None
    pids: int | None


@dataclass(frozen=True, slots=True)
class SessionDetails(SessionEntry):
    workspace: str
    base_commit: str | None
    """What a clone began with."""
    limits: LimitsEntry
    conversation_id: str | None
    turns: list[TurnEntry] | None
    """The latest ones, newest first."""
    latest_commands: list[CommandLine] | None
    """Newest first, also those that have ended; ``commands`` has those that nobody waits for."""
    questions: list[QuestionEntry] | None
    """What Claude asks in the latest turn."""
    changes: ChangesResult | None
    problems: dict[str, str]
    """Why something is not known, by its name."""

    @classmethod
    def of_details(cls, found: Details) -> SessionDetails:
        entry, session, latest = SessionEntry.of(found.listed), found.listed.session, found.latest
        return cls(
            **{each.name: getattr(entry, each.name) for each in fields(entry)},
            workspace=session.workspace,
            base_commit=session.base,
            limits=LimitsEntry(session.memory_bytes, session.cpus, session.pids),
            conversation_id=latest.conversation_id if latest else None,
            turns=[TurnEntry.of(each) for each in found.turns.turns] if found.turns else None,
            latest_commands=[CommandLine.of(each) for each in found.commands]
            if found.commands is not None
            else None,
            questions=[QuestionEntry.of(each) for each in latest.questions] if latest else None,
            changes=ChangesResult.of(found.changes) if found.changes else None,
            problems=found.problems,
        )


def rows(shown: SessionDetails) -> Iterator[tuple[str, str]]:
    """Names and texts, in order; a text may have several lines."""
    yield "session", f"{shown.session_name} ({shown.session_id}), {shown.status}"
    yield "doing", ", ".join(doing(shown))
    base = f", from {shown.base_commit[:10]}" if shown.base_commit else ""
    yield "project", f"{shown.project_path} ({shown.workspace}{base})"
    yield "container", f"{shown.container_name} on {shown.engine}, image {shown.image}"
    yield "created", shown.created_at + (f" by {shown.created_by}" if shown.created_by else "")
    yield "expires", shown.expires_at or ""
    yield "provider", shown.provider + (f", model {shown.model}" if shown.model else "")
    yield "cost", usd(shown.cost_usd) if shown.cost_usd else ""
    yield "network", shown.network
    yield "ports", "\n".join(f"{each.port} at {each.url}" for each in shown.ports)
    yield "limits", _limits(shown.limits)
    yield "conversation", shown.conversation_id or ""
    yield "turns", "\n".join(map(_turn, shown.turns or ()))
    yield "commands", "\n".join(map(_command, shown.latest_commands or ()))
    yield (
        "questions",
        "\n".join(
            f"{each.request_id} {request_text(each.tool_name, each.tool_input, each.description)}"
            for each in shown.questions or ()
        ),
    )
    yield "changes", "" if shown.changes is None else _changes(shown.changes)
    for name, problem in shown.problems.items():
        yield "not known", f"{name}: {problem}"


def _limits(limits: LimitsEntry) -> str:
    parts = [
        f"memory {size(limits.memory_bytes)}" if limits.memory_bytes else "",
        f"{limits.cpus:g} CPU{'' if limits.cpus == 1 else 's'}" if limits.cpus else "",
        f"{limits.pids} processes" if limits.pids else "",
    ]
    return ", ".join(filter(None, parts)) or "none"


def _turn(turn: TurnEntry) -> str:
    cost = f", {usd(turn.cost_usd)}" if turn.cost_usd else ""
    return f"{turn.turn_id} {turn.status}{cost}: {turn.prompt or '(begun by Claude Code itself)'}"


def _command(command: CommandLine) -> str:
    code = "" if command.exit_code is None else f", exit code {command.exit_code}"
    return f"{command.command_id} {command.status}{code}: {command.command}"


def _changes(changes: ChangesResult) -> str:
    lines = changed(changes)
    names = len(changes.files)
    if names <= FILES:
        return "\n".join(lines)
    more = counted(names - FILES, "more file")
    return "\n".join([*lines[:FILES], f"... and {more}", *lines[names:]])
