"""Claude's own questions to its user, which the session's permission mode does not suppress.

Claude Code sends them as permission requests for two tools of its own (measured, 2.1.330). Both
exist only where somebody can be asked: with ``--permission-prompt-tool``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from claude_mcp.claude import fields
from claude_mcp.contract.operations import APPROVE_PLAN, ASK_USER

if TYPE_CHECKING:
    from claude_mcp.agent.turns.turn import Turn

NOBODY = (
    "Nobody is there to answer questions. Decide yourself and go on, or end your turn and say what "
    "you need to know."
)
NO_APPROVAL = "Nobody is there to approve the plan. End your turn with the plan as your answer."
PLAN_MODE_OVER = (
    "Nobody is there to approve the plan, and this session needs no approval: plan mode has ended. "
    "Carry out the plan."
)
NO_PERMISSION = (
    "This needs a permission, and nobody is asked for permissions in this session. Go on without "
    "it; in plan mode, present the plan first."
)


def texts(tool: str, tool_input: Mapping[str, Any]) -> list[str]:
    """The questions that answers are given to, in order."""
    if tool != ASK_USER:
        return []
    return [fields.string(q.get("question")) for q in fields.mappings(tool_input.get("questions"))]


def answered(tool_input: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """The input that tells Claude Code the answers; an empty one counts as not given."""
    pairs = zip(texts(ASK_USER, tool_input), answers)
    return {**tool_input, "answers": {text: answer for text, answer in pairs if answer}}


def refusal(tool: str, reason: str, turn: Turn | None, asks: bool) -> str | None:
    """What Claude is told at once, instead of asking anybody; None to ask.

    ``asks`` says whether the session asks for permissions.
    """
    if tool not in (ASK_USER, APPROVE_PLAN):
        return None if asks else "\n".join(filter(None, (reason, NO_PERMISSION)))
    if turn is not None and turn.answerable:
        return None
    if tool == ASK_USER:
        return NOBODY
    return NO_APPROVAL if asks else PLAN_MODE_OVER
