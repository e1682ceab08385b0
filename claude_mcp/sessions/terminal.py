"""A program of a session on this process's terminal: a shell, or Claude Code itself."""

from __future__ import annotations

import secrets
from typing import Any

import anyio

from claude_mcp.contract import operations
from claude_mcp.contract.codes import Code
from claude_mcp.contract.messages import to_json
from claude_mcp.errors import SessionNotReady, ungrouped
from claude_mcp.sessions import handover
from claude_mcp.sessions.channel.payload import terminal_command
from claude_mcp.sessions.channel.refusals import code_of
from claude_mcp.sessions.handle import SessionHandle


async def shell(handle: SessionHandle) -> int:
    """An interactive shell in the session; returns its exit code.

    Raises:
        SessionNotFound, SessionAmbiguous, SessionNotReady, AgentError, EngineError
    """
    return await _on_terminal(handle, operations.SHELL)


async def claude(handle: SessionHandle) -> int:
    """Claude Code with the session's conversation, for a person; returns its exit code.

    Prompts are refused meanwhile. At the end, the conversation goes on where it was left.

    Raises:
        SessionNotReady: a turn is running, or somebody else is attached.
        SessionNotFound, SessionAmbiguous, AgentError, EngineError
    """
    try:
        return await _on_terminal(handle, operations.CLAUDE)
    except SessionNotReady as error:
        if code_of(error) is not Code.UNCONFIGURED:
            raise
    await handover.restore(handle)
    return await _on_terminal(handle, operations.CLAUDE)


async def _on_terminal(handle: SessionHandle, kind: str) -> int:
    token = secrets.token_hex(16)
    ready = anyio.Event()

    async def on_event(event: dict[str, Any]) -> None:
        if event == operations.READY_FOR_TERMINAL:
            ready.set()

    async def hold() -> None:
        # Held until the program has ended. If this process dies, the session ends the program.
        args = operations.Terminal(token, kind)
        await handle.request(operations.TERMINAL, to_json(args), on_event)

    with ungrouped():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await ready.wait()
            ours = handle.config.environment
            code = await handle.engine.exec_on_terminal(
                handle.session.container_id,
                terminal_command(token),
                {name: ours[name] for name in operations.TERMINAL_VARIABLES if name in ours},
            )
            tasks.cancel_scope.cancel()
    return code
