"""A question of Claude's as a form for the client's user, and the form's content as the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from mcp.types import ElicitRequestFormParams, ElicitResult

from claude_mcp.sessions.turns.questions import Asked, asked, request_text
from claude_mcp.views.wire import clean

if TYPE_CHECKING:
    from claude_mcp.sessions.turns.permissions import Answer
    from claude_mcp.sessions.turns.results import Question

DECISION: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "decision": {"type": "string", "title": "Decision", "enum": ["allow", "deny"]},
        "message": {
            "type": "string",
            "title": "Message",
            "description": "For a denial: the reason, for Claude.",
        },
    },
    "required": ["decision"],
}
"""For a permission, or the approval of a plan."""


def form(question: Question) -> ElicitRequestFormParams:
    """The form for one question; ``answer`` reads what comes back."""
    message = request_text(question.tool_name, question.tool_input, question.description)
    return ElicitRequestFormParams(message=clean(message), requested_schema=_schema(question))


def _schema(question: Question) -> dict[str, Any]:
    questions = asked(question.tool_name, question.tool_input)
    if not questions:
        return DECISION
    properties: dict[str, Any] = {}
    for number, each in enumerate(questions, 1):
        if each.choices:
            properties[f"answer{number}"] = _choice(each)
        properties[f"own{number}"] = {
            "type": "string",
            "title": "Or another answer" if each.choices else clean(each.header or each.text),
        }
    return {"type": "object", "properties": properties}


def _choice(question: Asked) -> dict[str, Any]:
    labels = [clean(choice.label) for choice in question.choices]
    about = {"title": clean(question.header or question.text), "description": clean(question.text)}
    if question.several:
        return {"type": "array", **about, "items": {"type": "string", "enum": labels}}
    return {"type": "string", **about, "enum": labels}


def answer(question: Question, result: ElicitResult) -> Answer | None:
    """None if the form was dismissed, or sent empty."""
    from claude_mcp.sessions.turns.permissions import Answer, Decision

    if result.action == "decline":
        return Answer(Decision.DENY)
    content = result.content or {}
    questions = asked(question.tool_name, question.tool_input)
    if result.action != "accept":
        return None
    if questions:
        answers = tuple(_answer_to(number, content) for number in range(1, len(questions) + 1))
        return Answer(Decision.ALLOW, answers=answers) if any(answers) else None
    decision, message = content.get("decision"), content.get("message")
    if decision not in tuple(Decision):
        return None
    return Answer(Decision(decision), message if isinstance(message, str) and message else None)


def _answer_to(number: int, content: Mapping[str, Any]) -> str:
    """The chosen labels, separated by commas, and what the user wrote; empty if there is none."""
    chosen, own = content.get(f"answer{number}"), content.get(f"own{number}")
    parts = [*(chosen if isinstance(chosen, list) else [chosen]), own]
    return ", ".join(part.strip() for part in parts if isinstance(part, str) and part.strip())
