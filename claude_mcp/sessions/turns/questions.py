"""What Claude asks, and what was denied, as values and as text for people.

Claude asks for permissions, and it has questions of its own: a choice between options, or whether
its plan is approved. All of them arrive as the call of a tool, whose input may be forged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from claude_mcp.contract.operations import APPROVE_PLAN, ASK_USER
from claude_mcp.sessions.channel.answers import line

MAX_ASKED: Final = 10
MAX_CHOICES: Final = 20
MAX_LABEL_CHARS: Final = 200
MAX_TEXT_CHARS: Final = 2_000

Kind = Literal["permission", "question", "plan"]
KINDS: Final[Mapping[str, Kind]] = {ASK_USER: "question", APPROVE_PLAN: "plan"}
LEADS: Final[Mapping[Kind, str]] = {
    "permission": "Claude asks for permission",
    "question": "Claude asks",
    "plan": "Claude asks to approve its plan",
}


@dataclass(frozen=True, slots=True)
class Choice:
    label: str
    description: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One of the questions in one request; an answer may also be a text of one's own.

    With ``several``, the answer may name several choices, separated by commas.
    """

    text: str
    header: str
    choices: tuple[Choice, ...]
    several: bool


def kind_of(tool: str) -> Kind:
    return KINDS.get(tool, "permission")


def asked(tool: str, tool_input: Mapping[str, Any]) -> tuple[Asked, ...]:
    """The questions that one request puts, in the order of their answers; () for other kinds."""
    if tool != ASK_USER:
        return ()
    return tuple(
        Asked(
            text=line(_text(each, "question"), MAX_TEXT_CHARS),
            header=line(_text(each, "header"), MAX_LABEL_CHARS),
            choices=tuple(
                Choice(
                    line(_text(choice, "label"), MAX_LABEL_CHARS),
                    line(_text(choice, "description"), MAX_TEXT_CHARS),
                )
                for choice in _objects(each, "options")[:MAX_CHOICES]
                if _text(choice, "label")
            ),
            several=each.get("multiSelect") is True,
        )
        for each in _objects(tool_input, "questions")[:MAX_ASKED]
    )


def request_text(tool: str, tool_input: Mapping[str, Any], description: str | None) -> str:
    """What Claude wants to know, as a sentence and what belongs to it."""
    text = question_text(tool, tool_input, description)
    return f"{LEADS[kind_of(tool)]}:{'' if text.startswith(chr(10)) else ' '}{text}"


def question_text(tool: str, tool_input: Mapping[str, Any], description: str | None) -> str:
    """The questions with their choices, the plan, or the tool with each of its arguments."""
    questions = asked(tool, tool_input)
    if questions:
        many = len(questions) > 1
        texts = [
            asked_text(each, number if many else 0) for number, each in enumerate(questions, 1)
        ]
        return "\n".join(texts)
    plan = tool_input.get("plan")
    if kind_of(tool) == "plan":
        return f"\n    {_indented(plan if isinstance(plan, str) and plan else '(it is empty)')}"
    lines = [tool, *(f"  {name}: {_indented(value)}" for name, value in tool_input.items())]
    if description and description not in tool_input.values():
        lines.append(f"  ({description})")
    return "\n".join(lines)


def asked_text(question: Asked, number: int = 0, *, numbered: bool = False) -> str:
    """One question and its choices, with its number if there is one; choices may have theirs."""
    several = " (several are possible)" if question.several else ""
    lines = [f"{number}. {question.text}{several}" if number else f"{question.text}{several}"]
    for position, choice in enumerate(question.choices, 1):
        mark = f"{position})" if numbered else "-"
        described = f": {choice.description}" if choice.description else ""
        lines.append(f"  {mark} {choice.label}{described}")
    return "\n".join(lines)


def denial_text(tool: str, tool_input: Mapping[str, Any], reason: str | None) -> str:
    """What was denied, and why if somebody said so."""
    denied = question_text(tool, tool_input, None)
    match kind_of(tool):
        case "question":
            head = f"Not answered: {denied}"
        case "plan":
            head = f"Plan not approved: {denied}"
        case _ if reason is None:
            return f"Denied for lack of permission: {denied}"
        case _:
            head = f"Denied: {denied}"
    return head if reason is None else f"{head}\n  (reason: {_indented(reason)})"


def _indented(value: Any) -> str:
    """A value indented so that it cannot be mistaken for a line of ours."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "\n    ".join(text.splitlines())


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _objects(values: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = values.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
