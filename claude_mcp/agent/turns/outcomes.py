"""The outcomes of turns, as JSON that their records keep: part of a ``TurnState``."""

from __future__ import annotations

from collections.abc import Mapping

from claude_mcp.agent.store.records import Result
from claude_mcp.agent.turns.live import Live
from claude_mcp.claude import protocol
from claude_mcp.contract.wording import named

CANCELLED_UNSENT: Result = {"status": "cancelled", "error": "Cancelled before it was sent."}
INTERRUPTED: Result = {
    "status": "cancelled",
    "error": "The turn was interrupted; the conversation is kept.",
}
UNREAD: Result = {"status": "unread"}
"""Claude Code certainly did not read the prompt before it ended."""
REFUSED = {
    "conversation": "The model's service refuses what the conversation contains, so further "
    f"prompts would probably fail as well. Send the next one with {named('newConversation')}.",
    "request": "If other prompts fail in the same way, the conversation is the reason: send the "
    f"next one with {named('newConversation')}.",
}
UNFINISHED = (
    "Claude Code is done with the prompt, but its final message never came, so the cost is not "
    "known. What it said last is the result."
)
TASK_TOOLS = {"Agent", "Task"}
"""The new and the old name of one tool."""


def unknown_tools(wanted: tuple[str, ...] | None, offered: tuple[str, ...]) -> str | None:
    """An error for tools that do not exist, which Claude Code silently leaves out."""
    known = set(offered)
    if known & TASK_TOOLS:
        known |= TASK_TOOLS
    unknown = [tool for tool in wanted or () if tool not in known]
    if not unknown:
        return None
    names = ", ".join(repr(tool[:100]) for tool in unknown[:10])
    return (
        f"Claude Code has no tool named {names} here, so the turn was ended at once. Spell tools "
        "as Claude Code does, such as Bash, Read or Edit."
    )


def died(live: Live) -> Result:
    words = live.last_words.splitlines()
    why = live.stopping or (words[-1][:500] if words else "it gave no reason")
    return {
        "status": "failed",
        "error": f"Claude Code ended in the middle of the turn, exit code {live.code}: {why}. "
        "The model may have seen the prompt, so it is not sent again automatically.",
    }


def unfinished(said: str) -> Result:
    return {"status": "failed", "result": said or None, "error": UNFINISHED}


def answered(result: protocol.Result, cost_usd: float, denied: Mapping[str, str]) -> Result:
    """``denied`` says why tool uses were denied, by their ids."""
    return {
        "status": "failed" if result.is_error else "completed",
        "result": result.text or None,
        "error": "\n".join(filter(None, (result.error, REFUSED.get(result.refused)))) or None,
        **({"needsNewConversation": True} if result.refused == "conversation" else {}),
        "conversationId": result.conversation_id,
        "numTurns": result.num_turns,
        "durationMs": result.duration_ms,
        "costUsd": cost_usd,
        "usage": dict(result.usage),
        "permissionDenials": [
            {
                "toolName": denial.tool_name,
                "toolInput": dict(denial.tool_input),
                **_reason(denied.get(denial.tool_use_id)),
            }
            for denial in result.permission_denials
        ],
    }


def unstructured(outcome: Result) -> Result:
    """The outcome of a turn whose schema the answer does not follow."""
    if outcome["status"] != "completed":
        return outcome
    return {**outcome, "status": "failed", "error": "Claude's answer does not follow the schema."}


def _reason(why: str | None) -> Result:
    return {} if why is None else {"reason": why}
