"""What every front end shows of an operation's outcome, as values.

A view holds plain data only, and all of it: each field is always present, None if there is
nothing to say. Its JSON form is ``views.wire``'s, its text ``views.text``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from claude_mcp.contract.messages import key
from claude_mcp.contract.numbers import counted
from claude_mcp.sessions.turns.questions import kind_of
from claude_mcp.views.wire import to_json

if TYPE_CHECKING:
    from claude_mcp.sessions.activity import Activity
    from claude_mcp.sessions.command_state import CommandResult, Entry
    from claude_mcp.sessions.create.request import Created
    from claude_mcp.sessions.files.transfer import Transferred
    from claude_mcp.sessions.handover import HandedOver
    from claude_mcp.sessions.pruning import Pruned
    from claude_mcp.sessions.registry import Answers, Destroyed, Listed, Unreachable
    from claude_mcp.sessions.session import Session
    from claude_mcp.sessions.turns.listing import ListedTurn, Listing
    from claude_mcp.sessions.turns.permissions import Decided
    from claude_mcp.sessions.turns.results import Event, Question, TurnResult
    from claude_mcp.sessions.workspaces.applying import Applied
    from claude_mcp.sessions.workspaces.changes import Changes, Discarded

USD_DIGITS = 6
PART_SESSIONS = 50
"""How many sessions one answer lists."""
PART_CHARS = 50_000
"""How much of a turn's result, or of an event, one answer has."""


@dataclass(frozen=True, slots=True)
class Result:
    def wire(self) -> dict[str, Any]:
        """The JSON object: an MCP tool's structured content, a command's ``--json``."""
        wire: dict[str, Any] = to_json(self)
        return wire


@dataclass(frozen=True, slots=True)
class McpServerStatus(Result):
    name: str
    status: str
    error: str | None


@dataclass(frozen=True, slots=True)
class PortEntry(Result):
    """A port of the session, and where it is on the host."""

    port: int
    host_port: int
    url: str


@dataclass(frozen=True, slots=True)
class CreateResult(Result):
    session_id: str
    session_name: str
    container_name: str
    project_path: str
    image: str
    engine: str
    """Its name in the configuration, or else ``docker`` or ``podman``."""
    provider: str
    status: str
    created_at: str
    expires_at: str | None
    network: str
    ports: list[PortEntry]
    mcp_servers: list[McpServerStatus]
    warnings: list[str]
    engine_reason: str | None = None
    """Why this one of several engines, if the caller did not choose it."""

    @classmethod
    def of(cls, created: Created) -> CreateResult:
        session = created.session
        return cls(
            session_id=session.id,
            session_name=session.name,
            container_name=session.container_name,
            project_path=session.project_path,
            image=session.image,
            engine=created.engine,
            provider=session.provider,
            status=session.status.value,
            created_at=session.created_at,
            expires_at=session.expires_at,
            network=session.network,
            ports=_ports(session),
            mcp_servers=[
                McpServerStatus(each.name, each.status, each.error) for each in created.mcp_servers
            ],
            warnings=list(created.warnings),
            engine_reason=created.reason,
        )


def _ports(session: Session) -> list[PortEntry]:
    published = session.forwarding.ports if session.forwarding else ()
    return [PortEntry(each.port, each.host_port or 0, each.url) for each in published]


@dataclass(frozen=True, slots=True)
class PermissionDenial(Result):
    tool_name: str
    tool_input: dict[str, Any]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class QuestionEntry(Result):
    request_id: str
    kind: str
    """``permission``, ``question`` or ``plan``."""
    tool_name: str
    tool_input: dict[str, Any]
    """Of a question: ``questions``, each with its ``options``. Of a plan: ``plan``."""
    description: str | None

    @classmethod
    def of(cls, question: Question) -> QuestionEntry:
        return cls(
            request_id=question.request_id,
            kind=kind_of(question.tool_name),
            tool_name=question.tool_name,
            tool_input=dict(question.tool_input),
            description=question.description,
        )


@dataclass(frozen=True, slots=True)
class EventEntry(Result):
    number: int
    time: str
    kind: str
    text: str
    left_out: int
    """Characters that were cut from ``text``."""

    @classmethod
    def of(cls, event: Event) -> EventEntry:
        return cls(event.number, event.time, event.kind, event.text, event.left_out)


@dataclass(frozen=True, slots=True)
class PromptResult(Result):
    session_id: str
    turn_id: str
    status: Literal["completed", "running", "queued", "failed", "cancelled", "needs_permission"]
    result: str | None
    error: str | None
    conversation_id: str | None
    num_turns: int
    duration_ms: int
    cost_usd: float
    usage: dict[str, int]
    permission_denials: list[PermissionDenial]
    questions: list[QuestionEntry]
    notes: list[str]
    cursor: int
    model: str | None
    """The model that answered, as far as one has."""
    last_step: str | None
    """While the turn runs: a headline of what Claude did last."""
    retry_at: str | None
    """When the usage limit that stopped the turn ends."""
    needs_new_conversation: bool
    """Whether the model's service refuses what the conversation contains."""
    next_offset: int | None
    """Where the rest of ``result`` begins, if it is longer than one part."""

    @classmethod
    def of(cls, turn: TurnResult) -> PromptResult:
        return cls(**_turn_fields(turn))


@dataclass(frozen=True, slots=True)
class TurnView(PromptResult):
    events: list[EventEntry]

    @classmethod
    def of(cls, turn: TurnResult, offset: int = 0) -> TurnView:
        """With a part of the result that begins at ``offset``, in characters."""
        events = [EventEntry.of(each) for each in turn.events]
        return cls(**_turn_fields(turn, offset), events=events)

    @classmethod
    def of_event(cls, turn: TurnResult, event: Event, offset: int = 0) -> TurnView:
        """With a part of one event's text, and without the result."""
        text, following = _part(event.text, offset)
        entry = replace(
            EventEntry.of(event),
            text=text or "",
            left_out=len(event.text) - following if following else 0,
        )
        view = replace(cls.of(replace(turn, result=None)), events=[entry], next_offset=following)
        return replace(view, notes=list(turn.notes))


def _part(text: str | None, offset: int) -> tuple[str | None, int | None]:
    """What begins at ``offset``, and where the next part does."""
    if text is None:
        return None, None
    end = offset + PART_CHARS
    return text[offset:end], end if end < len(text) else None


def _turn_fields(turn: TurnResult, offset: int = 0) -> dict[str, Any]:
    result, following = _part(turn.result, offset)
    silent = turn.status == "completed" and not turn.result
    ahead = counted(turn.ahead, "prompt is", "prompts are")
    return dict(
        session_id=turn.session.id,
        turn_id=turn.turn_id,
        status=turn.status.value,
        result=result,
        error=turn.error or ("Claude Code gave no reason." if turn.status == "failed" else None),
        conversation_id=turn.conversation_id,
        num_turns=turn.num_turns,
        duration_ms=turn.duration_ms,
        cost_usd=round(turn.cost_usd, USD_DIGITS),
        usage={key(name): count for name, count in turn.usage.items()},
        permission_denials=[
            PermissionDenial(each.tool_name, dict(each.tool_input), each.reason)
            for each in turn.permission_denials
        ],
        questions=[QuestionEntry.of(each) for each in turn.questions],
        notes=[
            *turn.notes,
            *([f"{ahead} ahead of this one."] if turn.ahead else []),
            *(["Claude finished without a final message."] if silent else []),
        ],
        cursor=turn.cursor,
        model=turn.model,
        last_step=turn.last_step,
        retry_at=turn.retry_at,
        needs_new_conversation=turn.needs_new_conversation,
        next_offset=following,
    )


@dataclass(frozen=True, slots=True)
class TurnEntry(Result):
    turn_id: str
    status: str
    at: str | None
    """When the prompt was accepted."""
    prompt: str | None
    """Its first line; None if Claude Code began the turn by itself."""
    cost_usd: float
    duration_ms: int
    error: str | None

    @classmethod
    def of(cls, turn: ListedTurn) -> TurnEntry:
        return cls(
            turn_id=turn.turn_id,
            status=turn.status,
            at=turn.at,
            prompt=turn.prompt,
            cost_usd=round(turn.cost_usd, USD_DIGITS),
            duration_ms=turn.duration_ms,
            error=turn.error,
        )


@dataclass(frozen=True, slots=True)
class TurnsResult(Result):
    session_id: str
    turns: list[TurnEntry]
    cursor: str | None
    """For the older ones; None if there are none."""

    @classmethod
    def of(cls, listing: Listing) -> TurnsResult:
        return cls(
            session_id=listing.session.id,
            turns=[TurnEntry.of(each) for each in listing.turns],
            cursor=listing.cursor,
        )


@dataclass(frozen=True, slots=True)
class CancelResult(Result):
    session_id: str
    turn_id: str | None
    status: str | None

    @classmethod
    def of(cls, session_id: str, turn: TurnResult | None) -> CancelResult:
        if turn is None:
            return cls(session_id, turn_id=None, status=None)
        return cls(session_id, turn.turn_id, turn.status.value)


@dataclass(frozen=True, slots=True)
class PermissionResult(Result):
    session_id: str
    turn_id: str | None

    @classmethod
    def of(cls, decided: Decided) -> PermissionResult:
        return cls(decided.session.id, decided.turn_id)


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
class SessionEntry(Result):
    session_id: str
    session_name: str
    container_name: str
    project_path: str
    status: str
    provider: str
    image: str
    engine: str
    created_at: str
    expires_at: str | None
    unsaved: bool | None
    """Whether it has expired and holds work that is nowhere else."""
    network: str
    ports: list[PortEntry]
    created_by: str | None
    """The client's name for itself; ``cli`` is the command line."""
    turn_running: bool | None
    last_activity_at: str | None
    cost_usd: float | None
    turn_id: str | None
    """The running turn, or else the latest one."""
    turn_ms: int | None
    """How long the running turn has been running, or waiting."""
    last_step: str | None
    """A headline of what Claude did last."""
    model: str | None
    """The model that answered last, or else the session's own."""
    open_questions: int | None
    background_commands: int | None
    """How many run, of Claude and of others."""
    commands: list[CommandLine]
    """Those of others: commands that run although nobody waits for them."""
    problem: str | None
    """Why a running session does not say what it is doing."""

    @classmethod
    def of(cls, listed: Listed) -> SessionEntry:
        session = listed.session
        return cls(
            session_id=session.id,
            session_name=session.name,
            container_name=session.container_name,
            project_path=session.project_path,
            status=session.status.value,
            provider=session.provider,
            image=session.image,
            engine=listed.engine,
            created_at=session.created_at,
            expires_at=session.expires_at,
            unsaved=session.unsaved,
            network=session.network,
            ports=_ports(session),
            created_by=session.client or None,
            **_activity_fields(listed.activity),
            problem=listed.problem,
        )


def _activity_fields(activity: Activity | None) -> dict[str, Any]:
    return dict(
        turn_running=activity.turn_running if activity else None,
        last_activity_at=activity.last_activity_at if activity else None,
        cost_usd=round(activity.cost_usd, USD_DIGITS) if activity else None,
        turn_id=activity.turn_id if activity else None,
        turn_ms=activity.turn_ms if activity else None,
        last_step=activity.last_step if activity else None,
        model=activity.model if activity else None,
        open_questions=activity.questions if activity else None,
        background_commands=activity.background if activity else None,
        commands=[CommandLine.of(each) for each in activity.commands] if activity else [],
    )


def unreachable_engines(engines: Sequence[Unreachable]) -> dict[str, str]:
    """Why each of them does not answer, by its name."""
    return {each.engine: each.problem for each in engines}


@dataclass(frozen=True, slots=True)
class ListResult(Result):
    sessions: list[SessionEntry]
    cursor: str | None
    """For those that follow; None if there are none."""
    unreachable: dict[str, str] = field(default_factory=dict)
    """Of several engines, those that did not answer, and why; their sessions are not listed."""

    @classmethod
    def of(cls, listed: Sequence[Listed], unreachable: Sequence[Unreachable] = ()) -> ListResult:
        entries = [SessionEntry.of(each) for each in listed]
        return cls(entries, cursor=None, unreachable=unreachable_engines(unreachable))

    @classmethod
    def part_of(cls, answers: Answers[Listed], cursor: str | None) -> ListResult | None:
        """As many as fit after the session ``cursor``; None if that is not among them."""
        whole = cls.of(answers.found, answers.unreachable)
        entries = whole.sessions
        ids = [each.session_id for each in entries]
        if cursor is not None and cursor not in ids:
            return None
        rest = entries[0 if cursor is None else ids.index(cursor) + 1 :]
        part = rest[:PART_SESSIONS]
        following = part[-1].session_id if len(part) < len(rest) else None
        return cls(part, following, whole.unreachable)


@dataclass(frozen=True, slots=True)
class CredentialsResult(Result):
    session_id: str
    session_name: str
    credentials: str | None
    """Whose they are, ``server`` or ``session``; None if the session needs none."""
    mcp_servers: list[str]
    warnings: list[str]

    @classmethod
    def of(cls, handed: HandedOver) -> CredentialsResult:
        return cls(
            session_id=handed.session.id,
            session_name=handed.session.name,
            credentials=handed.credentials.value if handed.credentials else None,
            mcp_servers=list(handed.mcp_servers),
            warnings=list(handed.warnings),
        )


@dataclass(frozen=True, slots=True)
class DestroyEntry(Result):
    """``existed`` is None, and ``error`` says why, if the session could not be destroyed."""

    session_id: str
    session_name: str | None
    existed: bool | None
    error: str | None


@dataclass(frozen=True, slots=True)
class DestroyResult(Result):
    """Of several sessions, ``sessions`` has the outcomes; ``session_id`` is empty then."""

    session_id: str
    session_name: str | None
    existed: bool
    warnings: list[str]
    sessions: list[DestroyEntry]

    @classmethod
    def of(cls, destroyed: Destroyed) -> DestroyResult:
        entry = _destroyed(destroyed.reference, destroyed)
        return cls(
            session_id=entry.session_id,
            session_name=entry.session_name,
            existed=destroyed.existed,
            warnings=list(destroyed.warnings),
            sessions=[entry],
        )

    @classmethod
    def of_several(
        cls, outcomes: list[tuple[str, Destroyed | str]], warnings: Sequence[str] = ()
    ) -> DestroyResult:
        """From each reference and what became of it, or why it could not be destroyed."""
        entries = [_destroyed(reference, outcome) for reference, outcome in outcomes]
        return cls(
            session_id="",
            session_name=None,
            existed=any(each.existed for each in entries),
            warnings=[*warnings]
            + [
                f"{outcome.session.name}: {warning}" if outcome.session else warning
                for _, outcome in outcomes
                if not isinstance(outcome, str)
                for warning in outcome.warnings
            ],
            sessions=entries,
        )


def _destroyed(reference: str, outcome: Destroyed | str) -> DestroyEntry:
    if isinstance(outcome, str):
        return DestroyEntry(reference, None, None, outcome)
    session = outcome.session
    if session is None:
        return DestroyEntry(reference, None, outcome.existed, None)
    return DestroyEntry(session.id, session.name, outcome.existed, None)


@dataclass(frozen=True, slots=True)
class FileEntry(Result):
    path: str
    status: str
    old_path: str | None
    added: int | None
    deleted: int | None
    untracked: bool


@dataclass(frozen=True, slots=True)
class ChangesResult(Result):
    session_id: str
    files: list[FileEntry]
    more: int
    """Files that are not listed."""
    branch: str | None
    head: str | None
    ahead: int | None
    committed: bool | None
    left_out: list[str]
    diff: str | None
    next_offset: int | None
    until: str | None
    complete: bool
    """False: counting stopped at a limit, so ``more`` is too small."""
    notes: list[str]

    @classmethod
    def of(cls, changes: Changes) -> ChangesResult:
        return cls(
            session_id=changes.session.id,
            files=[
                FileEntry(
                    each.path, each.status, each.old_path, each.added, each.deleted, each.untracked
                )
                for each in changes.files
            ],
            more=changes.more,
            branch=changes.branch,
            head=changes.head,
            ahead=changes.ahead,
            committed=changes.committed,
            left_out=list(changes.left_out),
            diff=changes.diff,
            next_offset=changes.next_offset,
            until=changes.until,
            complete=changes.complete,
            notes=list(changes.notes),
        )


@dataclass(frozen=True, slots=True)
class ApplyResult(Result):
    session_id: str
    mode: str
    outcome: str
    branch: str | None
    commit: str
    commits: int
    subjects: list[str]
    files: list[str]
    left: list[str]
    """Files that were not taken, with the reason."""
    path: str | None
    warnings: list[str]

    @classmethod
    def of(cls, applied: Applied) -> ApplyResult:
        return cls(
            session_id=applied.session.id,
            mode=applied.mode,
            outcome=applied.outcome,
            branch=applied.branch,
            commit=applied.commit,
            commits=applied.commits,
            subjects=list(applied.subjects),
            files=list(applied.files),
            left=list(applied.left),
            path=applied.path,
            warnings=list(applied.warnings),
        )


@dataclass(frozen=True, slots=True)
class DiscardResult(Result):
    session_id: str
    restored: list[str]
    removed: list[str]
    left: list[str]
    """Files that could not be brought back, with the reason."""
    branch: str | None

    @classmethod
    def of(cls, discarded: Discarded) -> DiscardResult:
        return cls(
            session_id=discarded.session.id,
            restored=list(discarded.restored),
            removed=list(discarded.removed),
            left=list(discarded.left),
            branch=discarded.branch,
        )


@dataclass(frozen=True, slots=True)
class PrunedEntry(Result):
    session_id: str
    session_name: str
    reason: str
    removed: bool
    kept: str | None
    """Why it was not removed, if it holds work."""

    @classmethod
    def of(cls, pruned: Pruned) -> PrunedEntry:
        session = pruned.session
        return cls(session.id, session.name, pruned.reason, pruned.removed, pruned.kept or None)


@dataclass(frozen=True, slots=True)
class TransferResult(Result):
    session_id: str
    direction: str
    path: str
    files: int
    bytes: int
    warnings: list[str]

    @classmethod
    def of(cls, transferred: Transferred) -> TransferResult:
        return cls(
            session_id=transferred.session.id,
            direction=transferred.direction.value,
            path=transferred.path,
            files=transferred.files,
            bytes=transferred.size,
            warnings=list(transferred.warnings),
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
