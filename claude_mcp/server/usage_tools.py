"""The tool that measures what sessions take of their host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from claude_mcp.config_names import Toolset
from claude_mcp.server.arguments import Arguments
from claude_mcp.server.tool import READS, Call, Declaration
from claude_mcp.views import usage as view

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions


class StatsArguments(Arguments):
    session_id: Annotated[
        str | None, Field(description="Session id, prefix or name; default: all sessions.")
    ] = None


async def _stats(sessions: Sessions, arguments: StatsArguments, call: Call) -> view.StatsResult:
    from claude_mcp.sessions.usage import usage

    references = [] if arguments.session_id is None else [arguments.session_id]
    return view.StatsResult.of(await usage(sessions, references))


GET_STATS: Final = Declaration(
    name="get_stats",
    title="Measure sessions",
    description="Measures CPU, memory, processes, disk and network of sessions at this moment.",
    arguments=StatsArguments,
    result=view.StatsResult,
    text=view.stats,
    call=_stats,
    hints=READS,
    toolset=Toolset.STATS,
)
