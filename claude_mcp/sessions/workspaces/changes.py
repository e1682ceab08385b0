"""What a session changed in its workspace, and the way back to an earlier state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from claude_mcp.contract import operations
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import UsageError
from claude_mcp.sessions.channel.answers import line, read
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.session import Session

MAX_FILES: Final = 1000
DIFF_CHARS: Final = 60_000
"""Of a part of a diff, as JSON: clients pass on little more."""
PATH_CHARS: Final = 4096


@dataclass(frozen=True, slots=True)
class FileChange:
    """``status`` is one of A, M, D, R and T; line counts are None for a binary file."""

    path: str
    status: str
    old_path: str | None
    added: int | None
    deleted: int | None
    untracked: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """``ahead`` counts commits since the session's creation.

    ``branch``, ``head``, ``ahead`` and ``committed`` are None if the workspace has no repository,
    or if git failed. ``diff`` is a part of the unified diff if it was asked for. ``next_offset``
    and ``until`` are what to ask for next, of the diff or of the files, of which ``more`` follow.
    Without ``complete``, the session stopped counting at a limit.
    """

    session: Session
    files: tuple[FileChange, ...]
    more: int
    left_out: tuple[str, ...]
    branch: str | None
    head: str | None
    ahead: int | None
    committed: bool | None
    diff: str | None = None
    next_offset: int | None = None
    until: str | None = None
    complete: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Discarded:
    """``left`` says of each file that could not be brought back why not."""

    session: Session
    restored: tuple[str, ...]
    removed: tuple[str, ...]
    left: tuple[str, ...]
    branch: str | None
    """The branch of a clone that was reset."""


async def get_changes(
    handle: SessionHandle,
    *,
    turn_id: str | None = None,
    paths: Sequence[str] = (),
    diff: bool = False,
    offset: int = 0,
    until: str | None = None,
) -> Changes:
    """What changed since the session's creation, or by one turn.

    ``paths`` are relative to /workspace. With ``diff``, the text of the changes. ``offset`` and
    ``until`` read on; they are those that the part before named.

    Raises:
        UsageError: it cannot be told, for example of a mounted directory without a repository.
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    args = operations.ReadChanges(turn_id, _relative(paths), diff, offset, until)
    answer = await handle.request(operations.CHANGES, to_json(args))
    found = read(operations.Changes, answer)
    files = tuple(
        FileChange(
            path=_path(each.path),
            status=each.status[:1],
            old_path=None if each.old_path is None else _path(each.old_path),
            added=each.added,
            deleted=each.deleted,
            untracked=each.untracked,
        )
        for each in found.files[:MAX_FILES]
    )
    text, next_offset = found.diff, found.next_offset
    if text is not None:
        part = _part(text)
        if len(part) < len(text):
            text, next_offset = part, offset + len(part)
        text = redactor.redact(text)
    return Changes(
        session=handle.session,
        files=files,
        more=max(0, found.more) + len(found.files) - len(files),
        left_out=tuple(map(_path, found.left_out[:MAX_FILES])),
        branch=None if found.branch is None else line(found.branch, 250),
        head=None if found.head is None else line(found.head, 64),
        ahead=found.ahead,
        committed=found.committed,
        diff=text,
        next_offset=next_offset,
        until=None if found.until is None else line(found.until, 64),
        complete=found.complete,
        notes=handle.notes,
    )


async def discard_changes(
    handle: SessionHandle, *, turn_id: str | None = None, paths: Sequence[str] = ()
) -> Discarded:
    """Bring the workspace, or some paths, back to the state at creation or before a turn.

    The branch of a clone is reset too, unless there are ``paths``; no commit is deleted.

    Raises:
        UsageError: it cannot be done; nothing was changed.
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    args = operations.Discard(turn_id, _relative(paths))
    answer = await handle.request(operations.DISCARD, to_json(args))
    done = read(operations.Discarded, answer)
    return Discarded(
        session=handle.session,
        restored=tuple(map(_path, done.restored[:MAX_FILES])),
        removed=tuple(map(_path, done.removed[:MAX_FILES])),
        left=tuple(map(_path, done.left[:MAX_FILES])),
        branch=None if done.branch is None else line(done.branch, 250),
    )


def _part(text: str) -> str:
    """As much of the beginning as one result may have, up to the end of a line if possible."""
    part = text[:DIFF_CHARS]
    while len(json.dumps(part)) > DIFF_CHARS:
        part = part[: len(part) * 3 // 4]
    end = len(part) if part == text else part.rfind("\n") + 1
    return part[: end or len(part)]


def _relative(paths: Sequence[str]) -> tuple[str, ...]:
    for path in paths:
        if "\0" in path or path.startswith("/") or ".." in path.split("/") or not path:
            raise UsageError(
                f"{path[:200]!r} cannot be a path here: give it relative to /workspace."
            )
    return tuple(paths)


def _path(text: str) -> str:
    return redactor.redact(text[:PATH_CHARS])
