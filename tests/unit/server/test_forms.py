"""Forms for the client's user: choices, own answers, decisions, and what comes back."""

from __future__ import annotations

from typing import Any

import pytest
from mcp.types import ElicitResult

from claude_mcp.server import forms
from claude_mcp.sessions.turns.permissions import Answer, Decision
from claude_mcp.sessions.turns.results import Question
from tests.unit.sessions.fake_turns import CHOICE

CHOICES = Question("q1", CHOICE["toolName"], CHOICE["toolInput"])
PLAN = Question("q2", "ExitPlanMode", {"plan": "# Plan\nfirst this"})


def accepted(**content: Any) -> ElicitResult:
    return ElicitResult(action="accept", content=content)


def test_questions_become_a_form_with_choices_and_room_for_other_answers() -> None:
    form = forms.form(CHOICES)
    assert form.message == (
        "Claude asks: 1. Which color?\n  - Red: warm\n  - Blue: cold\n"
        "2. Which fruits? (several are possible)\n  - Apple\n  - Pear"
    )
    assert form.requested_schema == {
        "type": "object",
        "properties": {
            "answer1": {
                "type": "string", "title": "Color", "description": "Which color?",
                "enum": ["Red", "Blue"],
            },
            "own1": {"type": "string", "title": "Or another answer"},
            "answer2": {
                "type": "array", "title": "Fruit", "description": "Which fruits?",
                "items": {"type": "string", "enum": ["Apple", "Pear"]},
            },
            "own2": {"type": "string", "title": "Or another answer"},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("result", "answers"),
    [
        (accepted(answer1="Blue", answer2=["Apple", "Pear"]), ("Blue", "Apple, Pear")),
        (accepted(own1=" green ", answer2=["Pear"], own2="a fig"), ("green", "Pear, a fig")),
        (accepted(answer1="Red", own1="", answer2=[]), ("Red", "")),
        (accepted(answer1="Red", answer2=3, own2=None), ("Red", "")),
    ],
)
def test_what_is_chosen_or_written_is_the_answer(
    result: ElicitResult, answers: tuple[str, ...]
) -> None:
    assert forms.answer(CHOICES, result) == Answer(Decision.ALLOW, answers=answers)


@pytest.mark.parametrize("result", [accepted(), accepted(own1=" "), ElicitResult(action="cancel")])
def test_an_empty_or_dismissed_form_is_no_answer(result: ElicitResult) -> None:
    assert forms.answer(CHOICES, result) is None


def test_declining_is_a_denial() -> None:
    assert forms.answer(CHOICES, ElicitResult(action="decline")) == Answer(Decision.DENY)


def test_a_plan_is_shown_whole_and_decided() -> None:
    form = forms.form(PLAN)
    assert form.message == "Claude asks to approve its plan:\n    # Plan\n    first this"
    assert form.requested_schema == forms.DECISION
    assert forms.answer(PLAN, accepted(decision="deny", message="test first")) == Answer(
        Decision.DENY, "test first"
    )


def test_questions_without_sense_are_asked_as_a_permission() -> None:
    odd = Question("q", "AskUserQuestion", {"questions": [3, "x"], "json": "{..."})
    assert forms.form(odd).requested_schema == forms.DECISION


def test_a_question_without_choices_has_room_for_an_answer() -> None:
    asked = Question("q", "AskUserQuestion", {"questions": [{"question": "Why?", "options": 3}]})
    assert forms.form(asked).requested_schema["properties"] == {
        "own1": {"type": "string", "title": "Why?"}
    }
    assert forms.answer(asked, accepted(own1="so")) == Answer(Decision.ALLOW, answers=("so",))
