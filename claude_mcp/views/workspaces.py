"""Results about files: what a session changed, what was applied or discarded, transfers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_mcp.views.results import Result

if TYPE_CHECKING:
    from claude_mcp.sessions.files.transfer import Transferred
    from claude_mcp.sessions.workspaces.applying import Applied
    from claude_mcp.sessions.workspaces.changes import Changes, Discarded


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
