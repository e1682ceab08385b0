"""The tool that finds the turns of a session again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from claude_mcp.config_names import Toolset
from claude_mcp.server.arguments import Arguments, SessionId
from claude_mcp.server.tool import READS, Call, Declaration
from claude_mcp.views import text
from claude_mcp.views.turns import TurnsResult

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions


class TurnsArguments(Arguments):
    session_id: SessionId
    cursor: Annotated[
        str | None, Field(description="The cursor of the answer before: older turns.")
    ] = None
    limit: Annotated[int, Field(ge=1, le=100, description="How many at most.")] = 20


async def _turns(sessions: Sessions, arguments: TurnsArguments, call: Call) -> TurnsResult:
    from claude_mcp.sessions.turns import listing

    handle = await sessions.open(arguments.session_id)
    return TurnsResult.of(
        await listing.turns(handle, cursor=arguments.cursor, limit=arguments.limit)
    )


LIST_TURNS: Final = Declaration(
    name="list_turns",
    title="List a session's prompts",
    description=(
        "Lists the turns of a session, newest first: id, time, first line of the prompt, status, "
        "cost. get_turn with a turnId returns the result, and its events with cursor 0."
    ),
    arguments=TurnsArguments,
    result=TurnsResult,
    text=text.turns,
    call=_turns,
    hints=READS,
    toolset=Toolset.HISTORY,
)
