"""What the tools return, as pydantic models; the wire names are these in camelCase.

Every string that leaves goes through ``clean``: what comes out of a session can hold our
secrets, and text that is no Unicode and would break the connection.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from claude_mcp.contract.redaction import redactor

if TYPE_CHECKING:
    from claude_mcp.sessions.create.request import Created
    from claude_mcp.sessions.files.transfer import Transferred
    from claude_mcp.sessions.handover import HandedIn
    from claude_mcp.sessions.pruning import Pruned
    from claude_mcp.sessions.registry import Destroyed, Listed
    from claude_mcp.sessions.session import Session
    from claude_mcp.sessions.turns.commands import CommandResult
    from claude_mcp.sessions.turns.permissions import Decided
    from claude_mcp.sessions.turns.results import Event, TurnResult


def clean(text: str) -> str:
    """Without known secrets, and fit to be encoded: lone surrogates become question marks."""
    return redactor.redact(text).encode("utf-8", "replace").decode()


def clean_value(value: Any) -> Any:
    """``clean`` for every string in a JSON value, and null for what JSON has no number for."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case str():
            return clean(value)
        case dict():
            return {clean(str(key)): clean_value(each) for key, each in value.items()}
        case list() | tuple():
            return [clean_value(each) for each in value]
        case _:
            return value


class Result(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    def wire(self) -> dict[str, Any]:
        """Structured content."""
        wire: dict[str, Any] = clean_value(self.model_dump(by_alias=True))
        return wire


class McpServerStatus(Result):
    name: str
    status: str
    error: str | None


class CreateResult(Result):
    session_id: str
    session_name: str
    container_name: str
    project_path: str
    image: str
    engine: str
    provider: str
    status: str
    created_at: str
    expires_at: str | None
    network: str
    mcp_servers: list[McpServerStatus]
    warnings: list[str]

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
            mcp_servers=[
                McpServerStatus(name=each.name, status=each.status, error=each.error)
                for each in created.mcp_servers
            ],
            warnings=list(created.warnings),
        )


class PermissionDenial(Result):
    tool_name: str
    tool_input: dict[str, Any]


class QuestionEntry(Result):
    request_id: str
    tool_name: str
    tool_input: dict[str, Any]
    description: str | None


class EventEntry(Result):
    number: int
    time: str
    kind: str
    text: str
    left_out: int

    @classmethod
    def of(cls, event: Event) -> EventEntry:
        return cls(
            number=event.number,
            time=event.time,
            kind=event.kind,
            text=event.text,
            left_out=event.left_out,
        )


class PromptResult(Result):
    session_id: str
    turn_id: str
    status: Literal["completed", "running", "failed", "cancelled", "needs_permission"]
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

    @classmethod
    def of(cls, turn: TurnResult) -> PromptResult:
        return cls(**cls._fields(turn))

    @staticmethod
    def _fields(turn: TurnResult) -> dict[str, Any]:
        waiting = [f"{turn.ahead} other(s) come first in line."] if turn.ahead else []
        return dict(
            session_id=turn.session.id,
            turn_id=turn.turn_id,
            status=turn.status.value,
            result=turn.result,
            error=turn.error,
            conversation_id=turn.conversation_id,
            num_turns=turn.num_turns,
            duration_ms=turn.duration_ms,
            cost_usd=round(turn.cost_usd, 6),
            usage={to_camel(name): count for name, count in turn.usage.items()},
            permission_denials=[
                PermissionDenial(tool_name=each.tool_name, tool_input=dict(each.tool_input))
                for each in turn.permission_denials
            ],
            questions=[
                QuestionEntry(
                    request_id=each.request_id,
                    tool_name=each.tool_name,
                    tool_input=dict(each.tool_input),
                    description=each.description,
                )
                for each in turn.questions
            ],
            notes=[*turn.notes, *waiting],
            cursor=turn.cursor,
        )


class TurnView(PromptResult):
    events: list[EventEntry]

    @classmethod
    def of(cls, turn: TurnResult) -> TurnView:
        events = [EventEntry.of(each) for each in turn.events]
        return cls(**cls._fields(turn), events=events)


class CancelResult(Result):
    session_id: str
    turn_id: str | None
    status: str | None

    @classmethod
    def of(cls, session_id: str, turn: TurnResult | None) -> CancelResult:
        if turn is None:
            return cls(session_id=session_id, turn_id=None, status=None)
        return cls(session_id=session_id, turn_id=turn.turn_id, status=turn.status.value)


class PermissionResult(Result):
    session_id: str
    turn_id: str | None

    @classmethod
    def of(cls, decided: Decided) -> PermissionResult:
        return cls(session_id=decided.session.id, turn_id=decided.turn_id)


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
    network: str
    turn_running: bool | None
    last_activity_at: str | None
    cost_usd: float | None

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
            network=session.network,
            turn_running=listed.turn_running,
            last_activity_at=listed.last_activity_at,
            cost_usd=None if listed.cost_usd is None else round(listed.cost_usd, 6),
        )


class ListResult(Result):
    sessions: list[SessionEntry]

    @classmethod
    def of(cls, listed: list[Listed]) -> ListResult:
        return cls(sessions=[SessionEntry.of(each) for each in listed])


class CredentialsResult(Result):
    session_id: str
    session_name: str
    credentials: str | None
    mcp_servers: list[str]
    warnings: list[str]

    @classmethod
    def of(cls, handed: HandedIn) -> CredentialsResult:
        return cls(
            session_id=handed.session.id,
            session_name=handed.session.name,
            credentials=handed.credentials.value if handed.credentials else None,
            mcp_servers=list(handed.mcp_servers),
            warnings=list(handed.warnings),
        )


class DestroyResult(Result):
    session_id: str
    session_name: str | None
    existed: bool
    warnings: list[str]

    @classmethod
    def of(cls, destroyed: Destroyed) -> DestroyResult:
        session = destroyed.session
        return cls(
            session_id=session.id if session else destroyed.reference,
            session_name=session.name if session else None,
            existed=destroyed.existed,
            warnings=list(destroyed.warnings),
        )


class PrunedEntry(Result):
    session_id: str
    session_name: str
    reason: str
    removed: bool

    @classmethod
    def of(cls, pruned: Pruned) -> PrunedEntry:
        return cls(
            session_id=pruned.session.id,
            session_name=pruned.session.name,
            reason=pruned.reason,
            removed=pruned.removed,
        )


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


class CommandOutcome(Result):
    session_id: str
    exit_code: int
    stdout: str
    stderr: str
    truncated: str | None
    duration_ms: int
    timed_out: bool
    notes: list[str]

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
        )


class LogsResult(Result):
    session_id: str
    session_name: str
    status: str
    lines: list[str]

    @classmethod
    def of(cls, session: Session, lines: list[str]) -> LogsResult:
        return cls(
            session_id=session.id,
            session_name=session.name,
            status=session.status.value,
            lines=lines,
        )
