"""The tools for what a session changed, and for taking it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from claude_mcp.server.arguments import FROM_TEXT, Arguments, SessionId
from claude_mcp.server.tool import READS, Call, Declaration, changes
from claude_mcp.views import text
from claude_mcp.views.workspaces import ApplyResult, ChangesResult, DiscardResult

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions

Paths = Annotated[list[str], FROM_TEXT, Field(description="Relative to /workspace; default: all.")]


class ChangesArguments(Arguments):
    session_id: SessionId
    turn_id: Annotated[str | None, Field(description="Only what this turn changed.")] = None
    paths: Paths | None = None
    full: Annotated[bool, Field(description="The diff itself, in parts.")] = False
    offset: Annotated[int, Field(ge=0, description="nextOffset of the part before.")] = 0
    until: str | None = None


async def _changes(sessions: Sessions, arguments: ChangesArguments, call: Call) -> ChangesResult:
    from claude_mcp.sessions.workspaces.changes import get_changes

    return ChangesResult.of(
        await get_changes(
            await sessions.open(arguments.session_id),
            turn_id=arguments.turn_id,
            paths=arguments.paths or (),
            diff=arguments.full,
            offset=arguments.offset,
            until=arguments.until,
        )
    )


GET_CHANGES: Final = Declaration(
    name="get_changes",
    title="What a session changed",
    description=(
        "Lists the files that changed in a session since its creation, or in one turn, with the "
        "branch and its new commits; with full, the diff."
    ),
    arguments=ChangesArguments,
    result=ChangesResult,
    text=text.changes,
    call=_changes,
    hints=READS,
)


class ApplyArguments(Arguments):
    session_id: SessionId
    mode: Annotated[
        Literal["branch", "merge", "patch", "files"],
        Field(
            description="branch: a branch of the host's repository; merge: into its current "
            "branch; patch: a file; files: paths into the working tree."
        ),
    ] = "branch"
    branch: Annotated[str | None, Field(description="Default: claude/NAME.")] = None
    paths: Paths | None = None
    commit: Annotated[
        str | None, Field(description="Message: first commit all that is uncommitted.")
    ] = None
    patch: Annotated[str | None, Field(description="Absolute path on the host.")] = None
    overwrite: Annotated[
        bool, Field(description="Replace the patch, or files changed on the host.")
    ] = False


async def _apply(sessions: Sessions, arguments: ApplyArguments, call: Call) -> ApplyResult:
    from claude_mcp.sessions.workspaces.applying import apply_changes

    return ApplyResult.of(
        await apply_changes(
            await sessions.open(arguments.session_id),
            arguments.mode,
            branch=arguments.branch,
            paths=arguments.paths or (),
            commit=arguments.commit,
            patch=arguments.patch,
            overwrite=arguments.overwrite,
            progress=call.progress,
        )
    )


APPLY_CHANGES: Final = Declaration(
    name="apply_changes",
    title="Take a session's work",
    description=(
        "Brings a session's work to the host, after checking it: a clone's commits (with commit, "
        "what is uncommitted too), or a copy's files (modes files and patch). A merge with "
        "conflicts changes nothing and lists them."
    ),
    arguments=ApplyArguments,
    result=ApplyResult,
    text=text.apply,
    call=_apply,
    hints=changes(destructive=True, idempotent=True, open_world=False),
)


class DiscardArguments(Arguments):
    session_id: SessionId
    turn_id: Annotated[
        str | None, Field(description="Back to before this turn; default: to the creation.")
    ] = None
    paths: Paths | None = None


async def _discard(sessions: Sessions, arguments: DiscardArguments, call: Call) -> DiscardResult:
    from claude_mcp.sessions.workspaces.changes import discard_changes

    return DiscardResult.of(
        await discard_changes(
            await sessions.open(arguments.session_id),
            turn_id=arguments.turn_id,
            paths=arguments.paths or (),
        )
    )


DISCARD_CHANGES: Final = Declaration(
    name="discard_changes",
    title="Undo a session's changes",
    description=(
        "Brings the files of a session back to their state at its creation or before a turn. In a "
        "clone the branch is reset too, unless there are paths."
    ),
    arguments=DiscardArguments,
    result=DiscardResult,
    text=text.discard,
    call=_discard,
    hints=changes(destructive=True, idempotent=True, open_world=False),
)
