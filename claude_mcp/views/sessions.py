"""Results about sessions as a whole: created, listed, destroyed, pruned, given credentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from claude_mcp.views.commands import CommandLine
from claude_mcp.views.results import USD_DIGITS, Result

if TYPE_CHECKING:
    from claude_mcp.sessions.activity import Activity
    from claude_mcp.sessions.create.request import Created
    from claude_mcp.sessions.handover import HandedOver
    from claude_mcp.sessions.outcomes import Answers, Destroyed, Listed, Unreachable
    from claude_mcp.sessions.pruning import Pruned
    from claude_mcp.sessions.session import Session

PART_SESSIONS = 50
"""How many sessions one answer lists."""


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
    """Why a running session does not say what it is doing, or why another one stopped."""

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
            problem=listed.problem or session.ended or None,
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
