"""A turn is ended on request: by Claude Code itself, else with it; nothing of it stays behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.agent.scripted import CANCELLED, COMPLETED, INTERRUPTED, ask, told, turn_id, until

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Claude, Gate, Session
    from tests.unit.conftest import Lifeline

PID = "result(str(os.getpid()))"
WORKING = "begin(); text('working'); wait_for_interrupt(); "
UNSENT = "Cancelled before it was sent."


def working(caller: Caller, program: str, **args: Any) -> tuple[int, str]:
    """The request and the id of a turn whose program has said a first word."""
    one = turn_id()
    number = caller.send("turn", **{"turnId": one, "prompt": program, **args})
    assert "progress" in caller.receive()["event"]
    return number, one


def interrupted(caller: Caller, one: str | None = None) -> dict[str, Any]:
    """What is left of a turn that was interrupted."""
    answer: dict[str, Any] = caller.ask("interrupt", turnId=one)["ok"]
    return answer


def test_an_interrupted_turn_is_cancelled_and_its_claude_goes_on(session: Session) -> None:
    caller = session.start()
    pid = ask(caller, PID)["result"]
    number, one = working(caller, WORKING + "aborted()")
    cancelled = {**CANCELLED, "costUsd": 0.0, "turnId": one, "cursor": 2}
    assert interrupted(caller, one) == cancelled
    assert caller.answer(number) == {"ok": cancelled}
    events = [(1, "message", "working", 0), (2, "note", "interrupted", 0)]
    assert told(caller.ask("follow", turnId=one, cursor=0)["ok"]) == events
    assert ask(caller, PID)["result"] == pid


def test_without_an_id_the_turn_that_runs_is_interrupted(session: Session) -> None:
    caller = session.start()
    assert caller.ask("interrupt") == {"error": {"code": "not-running", "message": ""}}
    _, one = working(caller, WORKING + "aborted()")
    assert interrupted(caller) == {**CANCELLED, "turnId": one, "cursor": 2}
    assert caller.ask("interrupt") == {"error": {"code": "not-running", "message": ""}}


def test_an_interrupt_of_a_turn_that_is_over_changes_nothing(session: Session) -> None:
    caller = session.start()
    one, unknown = turn_id(), turn_id()
    ask(caller, "result()", turnId=one)
    assert interrupted(caller, one) == {**COMPLETED, "turnId": one}
    assert caller.ask("interrupt", turnId=unknown) == {
        "error": {"code": "no-turn", "message": unknown}
    }


def test_a_turn_is_interrupted_only_once(session: Session, gate: Gate) -> None:
    caller = session.start()
    program = f"{WORKING}text('ending'); wait_at({gate.path!r}); aborted()"
    number, one = working(caller, program)
    first = caller.send("interrupt", turnId=one)
    second = caller.send("interrupt", turnId=one)
    while caller.receive() != {"id": number, "event": {"progress": "ending"}}:
        pass
    gate.open()
    assert caller.answer(first) == caller.answer(second) == caller.answer(number)
    notes = [
        text for _, kind, text, _ in told(caller.ask("follow", cursor=0)["ok"]) if kind == "note"
    ]
    assert notes == ["interrupted"]


def test_what_claude_had_said_when_it_was_interrupted_is_kept(session: Session) -> None:
    caller = session.start()
    _, one = working(caller, WORKING + "result('all but done')")
    cancelled = {**CANCELLED, "result": "all but done"}
    assert interrupted(caller) == {**cancelled, "turnId": one, "cursor": 2}


def test_an_interrupt_that_came_before_the_turn_had_begun_is_repeated(session: Session) -> None:
    program = (
        "command_lifecycle('queued'); text('in line'); wait_for_interrupt(); "
        "command_lifecycle('started'); init(); wait_for_interrupt(); aborted()"
    )
    caller = session.start()
    pid = ask(caller, PID)["result"]
    _, one = working(caller, program)
    assert interrupted(caller, one) == {**CANCELLED, "costUsd": 0.0, "turnId": one, "cursor": 2}
    assert ask(caller, PID)["result"] == pid


@pytest.mark.usefixtures("impatient")
def test_a_claude_that_does_not_react_is_killed_and_the_next_turn_works(
    session: Session, claude: Claude, lifeline: Lifeline
) -> None:
    caller = session.start()
    program = f"held = open('{lifeline.path}', 'w'); begin(); text('working'); signal.pause()"
    number, one = working(caller, program)
    answer = interrupted(caller)
    assert caller.answer(number) == {"ok": answer}
    assert answer.pop("durationMs") >= 0
    assert answer == {
        "status": "cancelled",
        "error": INTERRUPTED,
        "conversationId": "c-1",
        "notes": [],
        "turnId": one,
        "events": [],
        "cursor": 2,
    }
    assert lifeline.end() == ""
    assert ask(caller, "result()") == {**COMPLETED, "cursor": 2}
    assert claude.resumed == [None, "c-1"]


@pytest.mark.usefixtures("impatient")
def test_a_claude_that_does_not_read_its_prompt_can_be_interrupted(
    session: Session, gate: Gate
) -> None:
    caller = session.start()
    ask(caller, f"begin(); result(); wait_at({gate.path!r})")
    one = turn_id()
    ask(caller, "#" * 1_000_000, turnId=one, waitSeconds=0)
    record = session.directory / "turns" / f"{one}.json"
    until(lambda: json.loads(record.read_text())["sent"])
    assert interrupted(caller, one)["status"] == "cancelled"
    gate.open()
    assert ask(caller, "result()") == {**COMPLETED, "cursor": 1}


# What a turn leaves.


def test_an_interrupted_turn_takes_along_what_it_started_and_nothing_else(
    session: Session, lifeline: Lifeline
) -> None:
    before = type(lifeline)(lifeline.path.with_name("before"))
    holds = [each.hold.replace("'", '"') for each in (before, lifeline)]
    caller = session.start()
    pid = ask(caller, f"shell('{holds[0]}; echo ready >&9; setsid sleep 1000'); {PID}")["result"]
    assert before.line() == "ready"
    hidden = "setsid sleep 1000 & env -i sleep 1000 & nohup sleep 1000 >/dev/null 2>&1 &"
    shell = f"shell('{holds[1]}; trap \"\" TERM; {hidden} echo ready >&9; wait')"
    _, one = working(caller, f"begin(); {shell}; text('working'); wait_for_interrupt(); aborted()")
    assert lifeline.line() == "ready"
    assert interrupted(caller, one)["status"] == "cancelled"
    assert lifeline.end() == ""
    assert before.held
    assert ask(caller, PID)["result"] == pid
    before.close()


@pytest.mark.usefixtures("impatient")
def test_what_a_turn_started_is_gone_also_when_its_claude_is_killed(
    session: Session, lifeline: Lifeline
) -> None:
    hold = lifeline.hold.replace("'", '"')
    caller = session.start()
    shell = f"shell('{hold}; setsid sleep 1000 & env -i sleep 1000 & echo ready >&9; wait')"
    _, one = working(caller, f"begin(); {shell}; text('working'); signal.pause()")
    assert lifeline.line() == "ready"
    assert interrupted(caller, one)["status"] == "cancelled"
    assert lifeline.end() == ""


def test_claude_is_told_to_end_the_background_commands_of_the_turn_alone(session: Session) -> None:
    caller = session.start()
    ask(caller, "begin(); task_started('old'); background_tasks_changed('old'); result()")
    program = (
        "begin(); task_started('new'); task_started('over'); "
        "background_tasks_changed('old', 'new'); text('working'); wait_for_interrupt(); aborted()"
    )
    _, one = working(caller, program)
    assert interrupted(caller, one)["status"] == "cancelled"
    assert ask(caller, "result(' '.join(tasks))")["result"] == "old"


def test_a_turn_with_options_of_its_own_can_be_interrupted(
    session: Session, claude: Claude
) -> None:
    caller = session.start()
    _, one = working(caller, WORKING + "aborted()", maxTurns=3)
    assert interrupted(caller, one) == {**CANCELLED, "turnId": one, "cursor": 2}
    assert ask(caller, "result()") == {**COMPLETED, "costUsd": 0.0, "cursor": 2}
    assert ["--max-turns=3" in call for call in claude.calls] == [False, True, False]


# Before it is sent.


def test_a_turn_that_waits_in_line_is_cancelled_without_being_sent(
    session: Session, claude: Claude, gate: Gate
) -> None:
    caller = session.start()
    number, first = working(caller, f"begin(); text('1'); wait_at({gate.path!r}); result()")
    second, third = turn_id(), turn_id()
    for each in (second, third):
        ask(caller, "result()", turnId=each, whenBusy="wait", waitSeconds=0)
    answer = interrupted(caller, second)
    assert answer.pop("durationMs") >= 0
    assert answer == {
        "status": "cancelled",
        "error": UNSENT,
        "conversationId": "c-1",
        "notes": [],
        "turnId": second,
        "events": [],
        "cursor": 2,
    }
    assert caller.ask("follow", turnId=third, waitSeconds=0)["ok"]["ahead"] == 1
    gate.open()
    assert caller.answer(number)["ok"]["status"] == "completed"
    assert caller.ask("follow", turnId=third)["ok"]["status"] == "completed"
    assert claude.prompts == [first, third]


def test_a_turn_is_cancelled_while_claude_starts_for_it(
    session: Session, claude: Claude, gate: Gate
) -> None:
    claude.at_start(f"wait_at({gate.path!r})")
    caller = session.start()
    one = turn_id()
    ask(caller, "result()", turnId=one, waitSeconds=0)
    number = caller.send("interrupt", turnId=one)
    events = told(caller.ask("follow", turnId=one, cursor=0)["ok"])
    assert events == [(1, "note", "interrupted", 0)]
    gate.open()
    answer = caller.answer(number)["ok"]
    assert (answer["status"], answer["error"]) == ("cancelled", UNSENT)
    assert ask(caller, "result()") == {**COMPLETED, "cursor": 1}
    assert one not in claude.prompts


def test_a_turn_that_waits_for_claude_to_start_is_the_running_one(
    session: Session, claude: Claude, gate: Gate
) -> None:
    claude.at_start(f"os.read(os.open({gate.path!r}, os.O_RDONLY), 1)")
    caller = session.start()
    one = turn_id()
    caller.ask("turn", turnId=one, prompt="result()", waitSeconds=0)
    try:
        interrupted = caller.ask("interrupt")["ok"]
    finally:
        gate.open()
    assert (interrupted["turnId"], interrupted["status"]) == (one, "cancelled")
    assert interrupted["error"] == "Cancelled before it was sent."
    assert ask(caller, "result()")["status"] == "completed"
    assert one not in claude.prompts
