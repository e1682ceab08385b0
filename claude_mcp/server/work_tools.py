"""The tool for file transfers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from claude_mcp.server.arguments import Arguments, SessionId
from claude_mcp.server.tool import Call, Declaration, changes
from claude_mcp.views import text
from claude_mcp.views.workspaces import TransferResult

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions


class TransferArguments(Arguments):
    session_id: SessionId
    direction: Literal["to_container", "from_container"]
    source_path: Annotated[str, Field(description="File or directory; host paths are absolute.")]
    dest_path: Annotated[
        str,
        Field(description="New path; a directory, or path ending in /, takes the source inside."),
    ]
    overwrite: Annotated[bool, Field(description="Replace files.")] = False
    create_parents: Annotated[bool, Field(description="Create parents.")] = False


async def _transfer(sessions: Sessions, arguments: TransferArguments, call: Call) -> TransferResult:
    from claude_mcp.sessions.files.transfer import Direction, transfer

    transferred = await transfer(
        await sessions.open(arguments.session_id),
        Direction(arguments.direction),
        arguments.source_path,
        arguments.dest_path,
        overwrite=arguments.overwrite,
        create_parents=arguments.create_parents,
        progress=call.progress,
    )
    return TransferResult.of(transferred)


TRANSFER_FILES: Final = Declaration(
    name="transfer_files",
    title="Copy files into or out of a session",
    description=(
        "Copies a file or directory between the host and a session. Project files are already in "
        "/workspace."
    ),
    arguments=TransferArguments,
    result=TransferResult,
    text=text.transfer,
    call=_transfer,
    hints=changes(destructive=True, idempotent=False, open_world=False),
)
