"""Claude's own questions: who answers them, in which form, and what it hears if nobody can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.turns import own_questions
from tests.unit.agent.scripted import ask, told, turn_id, until

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Session

QUESTIONS = [{"question": "Which color?", "options": []}, {"question": "Why?", "options": []}]
CHOOSE = f"can_use('AskUserQuestion', questions={QUESTIONS!r})"
PLAN = "can_use('ExitPlanMode', plan='do it')"
TELL = "result(json.dumps(decision()['response']))"
MODES = ["ask", "bypass"]


def asked(caller: Caller, program: str) -> dict[str, Any]:
    prompt = f"begin(); {program}; {TELL}"
    sent = caller.ask("turn", turnId=turn_id(), prompt=prompt, answerable=True)
    answer: dict[str, Any] = sent["ok"]
    assert answer["status"] == "needs_permission"
    return answer


def heard(caller: Caller, answer: dict[str, Any]) -> Any:
    """What Claude was answered, once the turn has ended."""
    return json.loads(caller.ask("follow", turnId=answer["turnId"])["ok"]["result"])


@pytest.mark.parametrize("mode", MODES)
def test_the_answers_reach_claude_by_the_texts_of_its_questions(
    session: Session, mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    caller = session.start(permissionMode=mode)
    answer = asked(caller, CHOOSE)
    [question] = answer["questions"]
    assert question["toolInput"] == {"questions": QUESTIONS}
    request = question["requestId"]
    assert told(answer)[0][2].startswith(f"asks {request}: AskUserQuestion: Which color? Why?")
    given = {"requestId": request, "decision": "allow", "answers": ["red, or blue", " "]}
    assert caller.ask("respond", **given) == {"ok": {"turnId": answer["turnId"]}}
    assert heard(caller, answer) == {
        "behavior": "allow",
        "updatedInput": {"questions": QUESTIONS, "answers": {"Which color?": "red, or blue"}},
    }
    assert f"permission {request} answered: red, or blue" in capfd.readouterr().err


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_is_approved_or_denied_with_a_reason(session: Session, mode: str) -> None:
    caller = session.start(permissionMode=mode)
    for decision, expected in (
        ({"decision": "allow"}, {"behavior": "allow", "updatedInput": {"plan": "do it"}}),
        ({"decision": "deny", "message": "less"}, {"behavior": "deny", "message": "less"}),
    ):
        answer = asked(caller, PLAN)
        caller.ask("respond", requestId=answer["questions"][0]["requestId"], **decision)
        assert heard(caller, answer) == expected


@pytest.mark.parametrize(
    ("program", "answers", "number"), [(CHOOSE, [], "2"), (CHOOSE, ["x"], "2"), (PLAN, ["x"], "0")]
)
def test_another_number_of_answers_is_refused_and_the_question_stays_open(
    session: Session, program: str, answers: list[str], number: str
) -> None:
    caller = session.start()
    answer = asked(caller, program)
    request = answer["questions"][0]["requestId"]
    refused = caller.ask("respond", requestId=request, decision="allow", answers=answers)
    assert refused == {"error": {"code": "bad-answers", "message": number}}
    assert "ok" in caller.ask("respond", requestId=request, decision="deny")


@pytest.mark.parametrize(
    ("mode", "program", "message"),
    [
        ("ask", CHOOSE, own_questions.NOBODY),
        ("bypass", CHOOSE, own_questions.NOBODY),
        ("ask", PLAN, own_questions.NO_APPROVAL),
    ],
)
def test_claude_is_told_at_once_that_nobody_is_there(
    session: Session, mode: str, program: str, message: str
) -> None:
    caller = session.start(permissionMode=mode)
    denial = "permission_denials=[dict(tool_name='X', tool_input={}, tool_use_id='t')]"
    ended = ask(caller, f"begin(); {program}; result(json.dumps(decision()['response']), {denial})")
    assert ended["status"] == "completed"
    assert json.loads(ended["result"]) == {"behavior": "deny", "message": message}
    assert [each["reason"] for each in ended["permissionDenials"]] == [message]


def test_a_plan_that_nobody_can_approve_ends_plan_mode_where_nothing_needs_approval(
    session: Session,
) -> None:
    caller = session.start()
    program = f"begin(); {PLAN}; came = [read(), read()]; result(json.dumps(came))"
    mode, decision = json.loads(ask(caller, program)["result"])
    assert mode["request"] == {"subtype": "set_permission_mode", "mode": "bypassPermissions"}
    assert decision["response"]["response"] == {
        "behavior": "deny", "message": own_questions.PLAN_MODE_OVER
    }  # fmt: skip


def test_a_session_that_asks_for_no_permission_denies_what_claude_code_finds_too_dangerous(
    session: Session,
) -> None:
    caller = session.start()
    request = {
        "subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "rm -rf /x/*"},
        "decision_reason": "Dangerous rm", "tool_use_id": "t",
    }  # fmt: skip
    frame = f"frame(type='control_request', request_id='q', request={request!r})"
    ended = ask(caller, f"begin(); {frame}; {TELL}", answerable=True)
    message = f"Dangerous rm\n{own_questions.NO_PERMISSION}"
    assert json.loads(ended["result"]) == {"behavior": "deny", "message": message}


def test_a_turn_that_claude_began_itself_has_nobody_to_ask(
    session: Session, tmp_path: Path
) -> None:
    caller = session.start()
    heard = tmp_path / "heard"
    program = (
        "begin(); result(); message['uuid'] = 'unasked'; command_lifecycle('started'); init(); "
        f"{CHOOSE}; said = decision()['response']['message']; open({str(heard)!r}, 'x').write(said)"
    )
    assert ask(caller, program, answerable=True)["status"] == "completed"
    assert until(lambda: heard.exists() and heard.read_text()) == own_questions.NOBODY


def test_a_large_question_is_shown_with_its_parts() -> None:
    from claude_mcp.agent.turns.permissions import shown_input

    options = [{"label": "a", "description": "x" * 900, "preview": "y" * 900}] * 4
    shown = shown_input({"questions": [{"question": "Which?", "options": options}] * 4}, 7)
    assert [each["question"] for each in shown["questions"]] == ["Which?"] * 4
    assert shown["questions"][0]["options"][0]["label"] == "a"
    assert len(json.dumps(shown)) <= 8_000
