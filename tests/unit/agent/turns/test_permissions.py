"""What Claude asks permission for: who decides, when nobody does, and that nothing is lost."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.turns import permissions
from tests.unit.agent import scripted
from tests.unit.agent.scripted import CANCELLED, COMPLETED, SECRETS, ask, told, turn_id, until

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Claude, Gate, Session

pytestmark = pytest.mark.usefixtures("asks")

TOUCH = "can_use('Bash', command='touch x')"
TELL = "result(json.dumps(decision()))"
TIMED_OUT = "nobody answered within 0.05 s"


@pytest.fixture
def asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sessions were created with strict permissions."""
    monkeypatch.setitem(scripted.SETTINGS, "permissionMode", "ask")


def asked(caller: Caller, program: str, **args: Any) -> dict[str, Any]:
    """The answer to a prompt that makes Claude ask for something."""
    answer: dict[str, Any] = caller.ask(
        "turn", turnId=turn_id(), prompt=f"begin(); {program}", **args
    )["ok"]
    assert answer["status"] == "needs_permission"
    return answer


def question(answer: dict[str, Any]) -> str:
    [found] = answer["questions"]
    return str(found["requestId"])


def respond(caller: Caller, request: str, decision: str = "allow", **more: Any) -> Any:
    return caller.ask("respond", requestId=request, decision=decision, **more)


def followed(caller: Caller, answer: dict[str, Any], **args: Any) -> dict[str, Any]:
    found: dict[str, Any] = caller.ask("follow", turnId=answer["turnId"], **args)["ok"]
    return found


def permission_events(caller: Caller, answer: dict[str, Any]) -> list[str]:
    events = told(followed(caller, answer, cursor=0))
    return [text for _, kind, text, _ in events if kind == "permission"]


def test_a_question_ends_the_waiting_and_says_what_is_asked(session: Session) -> None:
    caller = session.start()
    one = turn_id()
    program = f"begin(); can_use('Bash', command='touch x', description='why'); {TELL}"
    number = caller.send("turn", turnId=one, prompt=program)
    progress = caller.receive()["event"]["progress"]
    answer = caller.answer(number)["ok"]
    request = question(answer)
    assert progress == f"asks for permission {request}: Bash: touch x"
    [event] = answer.pop("events")
    assert event["text"] == f'{progress}\n{{"description": "why"}}'
    assert answer.pop("durationMs") >= 0
    assert answer == {
        "status": "needs_permission",
        "turnId": one,
        "ahead": 0,
        "lastStep": progress,
        "notes": [],
        "questions": [
            {
                "requestId": request,
                "toolName": "Bash",
                "toolInput": {"command": "touch x", "description": "why"},
            }
        ],
        "cursor": 1,
    }
    assert followed(caller, answer)["status"] == "needs_permission"
    assert followed(caller, answer, cursor=1, waitSeconds=60)["questions"] == answer["questions"]


def test_a_secret_in_a_question_is_hidden_and_what_is_allowed_is_whole(session: Session) -> None:
    key = "sk-in-a-question-0123"
    caller = session.start({**SECRETS, "secretValues": [key]})
    echo = f"can_use('Bash', command='echo {key[:9]}' + '{key[9:]}', description='{key}')"
    told = "result(str(len(decision()['response']['updatedInput']['command'])))"
    answer = asked(caller, f"{echo}; {told}")
    assert key not in str(answer)
    assert answer["questions"][0]["toolInput"]["command"] == "echo [redacted]"
    respond(caller, question(answer))
    assert followed(caller, answer)["result"] == str(len(f"echo {key}"))


def test_what_is_allowed_is_done_with_the_input_that_was_asked_for(
    session: Session, claude: Claude, capfd: pytest.CaptureFixture[str]
) -> None:
    caller = session.start()
    answer = asked(caller, f"{TOUCH}; {TELL}")
    request = question(answer)
    assert respond(caller, request) == {"ok": {"turnId": answer["turnId"]}}
    ended = followed(caller, answer)
    assert json.loads(ended["result"]) == {
        "subtype": "success",
        "request_id": "q",
        "response": {"behavior": "allow", "updatedInput": {"command": "touch x"}},
    }
    assert ended == {**COMPLETED, "result": ended["result"], "turnId": answer["turnId"],
                     "cursor": 2}  # fmt: skip
    asks = f"asks for permission {request}: Bash: touch x"
    assert permission_events(caller, answer) == [asks, f"permission {request} allowed (answered)"]
    log = capfd.readouterr().err
    assert f"permission {request} asked: Bash: touch x\n" in log
    assert f"permission {request} allowed (answered)\n" in log
    assert len(claude.prompts) == 1


@pytest.mark.parametrize(("message", "told_claude"), [
    ("use\nthe other file", "use\nthe other file"), (" ", "The user denied this."),
    (None, "The user denied this."),
])  # fmt: skip
def test_what_is_denied_is_told_to_claude_with_its_reason(
    session: Session, message: str | None, told_claude: str, capfd: pytest.CaptureFixture[str]
) -> None:
    caller = session.start()
    answer = asked(caller, f"{TOUCH}; {TELL}")
    request = question(answer)
    respond(caller, request, "deny", message=message)
    response = json.loads(followed(caller, answer)["result"])["response"]
    assert response == {"behavior": "deny", "message": told_claude}
    said = ": use\nthe other file" if message and message.strip() else ""
    event = f"permission {request} denied (answered)"
    assert permission_events(caller, answer)[1] == event + said
    assert event + said.partition("\n")[0] + "\n" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("message", "reason"), [("not sk-reason-0123", "not [redacted]"), (" ", None)]
)
def test_the_denial_in_the_result_has_the_reason_of_the_person(
    session: Session, message: str, reason: str | None
) -> None:
    caller = session.start({**SECRETS, "secretValues": ["sk-reason-0123"]})
    denial = "{'tool_name': 'Bash', 'tool_use_id': 't', 'tool_input': {}}"
    answer = asked(caller, f"{TOUCH}; decision(); result('no', permission_denials=[{denial}])")
    respond(caller, question(answer), "deny", message=message)
    denied = {"toolName": "Bash", "toolInput": {}}
    expected = denied if reason is None else {**denied, "reason": reason}
    assert followed(caller, answer)["permissionDenials"] == [expected]


def test_what_nobody_decides_is_denied_after_a_time_and_the_turn_says_so(
    session: Session, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = threading.Event()

    class Timer(threading.Timer):
        """Its time begins when the question has been seen."""

        def run(self) -> None:
            seen.wait()
            super().run()

    monkeypatch.setattr(threading, "Timer", Timer)
    caller = session.start(permissionSeconds=0.05)
    answer = asked(caller, f"{TOUCH}; {TELL}")
    request = question(answer)
    seen.set()
    until(lambda: followed(caller, answer)["status"] == "completed")
    ended = followed(caller, answer)
    response = json.loads(ended["result"])["response"]
    assert response == {"behavior": "deny", "message": f"Denied: {TIMED_OUT}."}
    assert ended["notes"] == [f"Permission for Bash was denied: {TIMED_OUT}."]
    how = f"denied ({TIMED_OUT})"
    assert permission_events(caller, answer)[1] == f"permission {request} {how}"
    assert f"permission {request} {how}\n" in capfd.readouterr().err
    assert respond(caller, request) == {"error": {"code": "decided", "message": how}}


def test_a_time_without_end_is_no_error(session: Session) -> None:
    caller = session.start(permissionSeconds=1e300)
    answer = asked(caller, f"{TOUCH}; {TELL}")
    respond(caller, question(answer))
    assert followed(caller, answer)["status"] == "completed"


def test_a_question_is_decided_once(session: Session) -> None:
    caller = session.start()
    answer = asked(caller, f"{TOUCH}; {TELL}")
    request = question(answer)
    respond(caller, request, "deny")
    decided = {"error": {"code": "decided", "message": "denied (answered)"}}
    assert respond(caller, request) == decided
    assert respond(caller, request, "deny") == decided
    unknown = {"error": {"code": "no-question", "message": "nosuch"}}
    assert respond(caller, "nosuch") == unknown


def test_only_the_latest_decisions_are_remembered(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permissions, "KEPT_DECISIONS", 1)
    caller = session.start()
    requests = []
    for _ in range(2):
        answer = asked(caller, f"{TOUCH}; {TELL}")
        requests.append(question(answer))
        respond(caller, requests[-1])
        followed(caller, answer)
    codes = [respond(caller, each)["error"]["code"] for each in requests]
    assert codes == ["no-question", "decided"]


def test_a_question_outlives_whoever_waited_for_it(session: Session) -> None:
    caller = session.start()
    answer = asked(caller, f"{TOUCH}; {TELL}")
    caller.hang_up()
    other = session.connect()
    assert followed(other, answer)["questions"] == answer["questions"]
    respond(other, question(answer))
    assert followed(other, answer)["status"] == "completed"


def test_several_questions_are_decided_each_by_itself(session: Session) -> None:
    caller = session.start()
    program = (
        "can_use('Write', 'a', file_path='/workspace/a'); can_use('Write', 'b', file_path='/b')\n"
        "answers = [decision() for _ in range(2)]\n"
        "result(json.dumps([[a['request_id'], a['response']['behavior']] for a in answers]))"
    )
    first = asked(caller, program)
    both = until(lambda: (found := followed(caller, first))["questions"][1:] and found)
    one, two = (each["requestId"] for each in both["questions"])
    respond(caller, two, "deny")
    left = followed(caller, first)
    assert (left["status"], question(left)) == ("needs_permission", one)
    respond(caller, one)
    ended = followed(caller, first)
    assert json.loads(ended["result"]) == [["b", "deny"], ["a", "allow"]]


def test_the_same_question_again_is_the_same_question(session: Session) -> None:
    caller = session.start()
    answer = asked(caller, f"{TOUCH}; {TOUCH}; text('asked'); {TELL}")
    until(lambda: "asked" in str(followed(caller, answer, cursor=0)))
    respond(caller, question(followed(caller, answer)))
    assert followed(caller, answer)["status"] == "completed"


def test_questions_of_an_interrupted_turn_are_closed(
    session: Session, capfd: pytest.CaptureFixture[str]
) -> None:
    caller = session.start()
    answer = asked(caller, f"{TOUCH}; wait_for_interrupt(); withdraw(); aborted()")
    request = question(answer)
    ended = caller.ask("interrupt", turnId=answer["turnId"])["ok"]
    assert ended == {**CANCELLED, "turnId": answer["turnId"], "cursor": 3}
    how = "closed (the turn was interrupted)"
    assert respond(caller, request) == {"error": {"code": "decided", "message": how}}
    assert f"permission {request} {how}\n" in capfd.readouterr().err
    assert ask(caller, "result()")["status"] == "completed"


def test_a_question_that_comes_while_the_turn_is_interrupted_is_not_asked(
    session: Session,
) -> None:
    caller = session.start()
    one = turn_id()
    program = f"begin(); text('working'); wait_for_interrupt(); {TOUCH}; aborted()"
    number = caller.send("turn", turnId=one, prompt=program)
    assert caller.receive() == {"id": number, "event": {"progress": "working"}}
    ended = caller.ask("interrupt", turnId=one)["ok"]
    assert ended["status"] == "cancelled"
    assert "questions" not in ended
    assert caller.answer(number)["ok"]["status"] == "cancelled"


def test_a_question_that_claude_withdraws_is_closed(session: Session, gate: Gate) -> None:
    caller = session.start()
    program = f"{TOUCH}; wait_at({gate.path!r}); withdraw('other'); withdraw(); result()"
    answer = asked(caller, program)
    gate.open()
    until(lambda: followed(caller, answer)["status"] == "completed")
    how = "closed (Claude Code withdrew it)"
    refused = {"error": {"code": "decided", "message": how}}
    assert respond(caller, question(answer)) == refused


def test_a_question_that_the_turns_end_leaves_open_is_closed(session: Session, gate: Gate) -> None:
    caller = session.start()
    answer = asked(caller, f"{TOUCH}; wait_at({gate.path!r}); result()")
    gate.open()
    until(lambda: followed(caller, answer)["status"] == "completed")
    refused = {"error": {"code": "decided", "message": "closed (the turn ended)"}}
    assert respond(caller, question(answer)) == refused


def test_questions_of_a_claude_that_died_are_closed(session: Session, gate: Gate) -> None:
    caller = session.start()
    answer = asked(caller, f"{TOUCH}; wait_at({gate.path!r}); os.kill(os.getpid(), 9)")
    gate.open()
    assert until(lambda: followed(caller, answer)["status"] == "failed")
    refused = {"error": {"code": "decided", "message": "closed (Claude Code ended)"}}
    assert respond(caller, question(answer)) == refused


def test_a_subagents_question_outlives_its_turn_and_shows_in_every_later_one(
    session: Session, gate: Gate
) -> None:
    caller = session.start()
    program = (
        f"can_use('Write', agent_id='a1', content='x'); wait_at({gate.path!r})\n"
        "result()\n"
        "came = decision()"
    )
    answer = asked(caller, program)
    gate.open()
    until(lambda: followed(caller, answer)["status"] == "completed")
    ended = followed(caller, answer)
    assert ended["questions"] == answer["questions"]
    respond(caller, question(ended))
    assert "questions" not in followed(caller, answer)
    assert ask(caller, "result(came['response']['behavior'])")["result"] == "allow"


def test_a_subagents_question_is_denied_when_its_turn_is_interrupted(session: Session) -> None:
    caller = session.start()
    program = (
        "can_use('Write', agent_id='a1'); came = decision(); wait_for_interrupt()\n"
        "aborted(result=came['response']['message'])"
    )
    answer = asked(caller, program)
    ended = caller.ask("interrupt", turnId=answer["turnId"])["ok"]
    assert ended["result"] == "Denied: the turn was interrupted."


# Questions are hostile input.


def test_more_questions_than_can_be_open_are_denied_at_once(
    session: Session, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(permissions, "MAX_OPEN", 1)
    caller = session.start()
    program = (
        f"{TOUCH}; can_use('Write', 'b'); came = decision(); text('denied'); decision()\n"
        "result(came['request_id'] + came['response']['message'])"
    )
    answer = asked(caller, program)
    until(lambda: "denied" in str(followed(caller, answer, cursor=0)["events"]))
    respond(caller, question(answer))
    why = "1 questions are already open"
    assert followed(caller, answer)["result"] == f"bThe user could not be asked: {why}."
    assert f"permission for Write denied at once: {why}\n" in capfd.readouterr().err


def test_a_question_that_is_too_large_is_denied_at_once(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permissions, "MAX_INPUT_CHARACTERS", 100)
    program = "can_use('Write', content='x' * 101); result(decision()['response']['message'])"
    answer = ask(session.start(), f"begin(); {program}")
    assert (
        answer["result"] == "The user could not be asked: its input has more than 100 characters."
    )


def test_a_long_input_is_shown_cut_and_allowed_whole(session: Session) -> None:
    caller = session.start()
    program = "can_use('Write', content='x' * 9000); result(str(decision()))"
    answer = asked(caller, program)
    [shown] = answer["questions"]
    note = " [... 7000 characters more: event 1]"
    assert shown["toolInput"] == {"content": "x" * 2000 + note}
    whole = caller.ask("event", number=1)["ok"]["event"]["text"]
    assert "x" * 9000 in whole
    respond(caller, shown["requestId"])
    assert "x" * 9000 in followed(caller, answer)["result"]


def test_an_input_of_many_parts_is_shown_as_the_beginning_of_its_json() -> None:
    many = {str(number): "x" * 1000 for number in range(200)}
    shown = permissions.shown_input(many, 7)
    text = json.dumps(many)
    note = f" [... {len(text) - 2000} characters more: event 7]"
    assert shown == {"json": text[:2000] + note}


@pytest.mark.parametrize("request_", [
    "{'subtype': 'can_use_tool'}",
    "{'subtype': 'can_use_tool', 'tool_name': ['x'], 'input': 'x', 'description': 3}",
    "{'subtype': 'can_use_tool', 'tool_name': 'x' * 100000, 'agent_id': {}}",
])  # fmt: skip
def test_a_question_without_sense_can_be_decided_all_the_same(
    session: Session, request_: str
) -> None:
    caller = session.start()
    frame = f"frame(type='control_request', request_id='q', request={request_})"
    answer = asked(caller, f"{frame}; {TELL}")
    assert len(json.dumps(answer["questions"])) < 1000
    respond(caller, question(answer))
    assert followed(caller, answer)["status"] == "completed"


def test_what_claude_says_about_a_question_is_shown(session: Session) -> None:
    caller = session.start()
    request = {"subtype": "can_use_tool", "description": "why", "decision_reason": " outside "}
    frame = f"frame(type='control_request', request_id='q', request={request})"
    [shown] = asked(caller, f"{frame}; {TELL}")["questions"]
    assert shown["description"] == "why\noutside"
    respond(caller, shown["requestId"])


def test_what_is_asked_in_a_turn_that_nobody_began_shows_in_the_others(session: Session) -> None:
    caller = session.start()
    one = turn_id()
    ask(caller, f"begin(); result(); init(); {TOUCH}; came = decision(); result()", turnId=one)
    shown = until(lambda: caller.ask("follow", turnId=one)["ok"].get("questions"))
    later = caller.send(
        "turn", turnId=turn_id(), prompt="result(came['response']['behavior'])", whenBusy="wait"
    )
    waiting = caller.answer(later)["ok"]
    assert (waiting["status"], waiting["questions"]) == ("needs_permission", shown)
    respond(caller, shown[0]["requestId"])
    assert followed(caller, waiting)["result"] == "allow"
