"""What becomes of a turn, in the form that its record keeps."""

from __future__ import annotations

from claude_mcp.agent.store.records import Result
from claude_mcp.agent.turns.live import Live
from claude_mcp.claude import protocol

UNREAD: Result = {"status": "unread"}
"""The outcome of a prompt that Claude Code certainly did not read before it ended."""
TASK_TOOLS = {"Agent", "Task"}
"""One tool, which has a new and an old name."""


def unknown_tools(wanted: list[str] | None, offered: tuple[str, ...]) -> str | None:
    """What is wrong with the tools of a turn: Claude Code leaves out what it does not know."""
    known = set(offered)
    if known & TASK_TOOLS:
        known |= TASK_TOOLS
    unknown = [tool for tool in wanted or () if tool not in known]
    if not unknown:
        return None
    names = ", ".join(repr(tool[:100]) for tool in unknown[:10])
    return (
        f"Claude Code has no tool called {names} here, so the turn was ended at once. Names are "
        "as Claude Code spells them, such as Bash, Read or Edit."
    )


def died(live: Live) -> Result:
    words = live.last_words.splitlines()
    why = live.stopping or (words[-1][:500] if words else "it said nothing")
    return {
        "status": "failed",
        "error": f"Claude Code ended in the middle of the turn, exit code {live.code}: {why}. "
        "The model may have seen the prompt, which is not sent again by itself.",
    }


def answered(result: protocol.Result, cost_usd: float) -> Result:
    return {
        "status": "failed" if result.is_error else "completed",
        "result": result.text or None,
        "error": result.error,
        "conversationId": result.conversation_id,
        "numTurns": result.num_turns,
        "durationMs": result.duration_ms,
        "costUsd": cost_usd,
        "usage": dict(result.usage),
        "permissionDenials": [
            {"toolName": denial.tool_name, "toolInput": dict(denial.tool_input)}
            for denial in result.permission_denials
        ],
    }
