"""What Claude Code begins by itself: it is busy then, and never mistaken for a turn of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.agent.scripted import CANCELLED, COMPLETED, ask, told, turn_id, until

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Claude, Gate, Session

PID = "result(str(os.getpid()))"
UNASKED = "user_message_uuids=[]"
BEGUN = "begin(); result(); init(); text('by itself'); "


def begun(caller: Caller) -> str:
    """Wait until something runs, and return its id."""

    def running() -> str | None:
        status = caller.ask("status")["ok"]
        return status["turnId"] if status["turnRunning"] else None

    return until(running)


def test_an_unasked_turn_is_busy_and_has_events_a_result_and_a_cost_of_its_own(
    session: Session, claude: Claude, gate: Gate
) -> None:
    caller = session.start()
    wait = f"wait_at({gate.path!r})"
    program = f"begin(); result(); {wait}; init(); text('by itself'); {wait}; "
    over = f"result('over', total_cost_usd=0.75, {UNASKED})"
    assert ask(caller, program + over) == COMPLETED
    gate.open()
    unasked = begun(caller)
    assert ask(caller, "result()") == {"error": {"code": "busy", "message": unasked}}
    number = caller.send("follow", turnId=unasked)
    gate.open()
    ended = {**COMPLETED, "result": "over", "costUsd": 0.5, "turnId": unasked, "cursor": 2}
    assert caller.answer(number) == {"ok": ended}
    assert caller.ask("follow") == {"ok": ended}  # it is the latest one
    events = [(1, "message", "by itself", 0), (2, "unasked", "over", 0)]
    assert told(caller.ask("follow", cursor=0)["ok"]) == events
    assert len(claude.prompts) == 1
    status = caller.ask("status")["ok"]
    assert (status["turnRunning"], status["costUsd"]) == (False, 0.75)


def test_an_unasked_turn_can_be_asked_for_after_a_restart_but_not_sent(session: Session) -> None:
    caller = session.start()
    ask(caller, f"{BEGUN}result('over', {UNASKED})")
    assert ask(caller, "result()", whenBusy="wait")["status"] == "completed"
    again = session.start()
    (unasked,) = (
        path.stem
        for path in (session.directory / "turns").iterdir()
        if again.ask("follow", turnId=path.stem)["ok"]["result"] == "over"
    )
    refused = {"error": {"code": "other-prompt", "message": unasked}}
    assert ask(again, "", turnId=unasked) == refused
    assert ask(again, "result()", turnId=unasked) == refused


def test_a_prompt_waits_until_an_unasked_turn_is_over(
    session: Session, claude: Claude, gate: Gate
) -> None:
    caller = session.start()
    ask(
        caller, f"{BEGUN}wait_at({gate.path!r}); note('prompts', 'over'); result('over', {UNASKED})"
    )
    begun(caller)
    one = turn_id()
    running = ask(caller, "begin(); result('mine')", turnId=one, whenBusy="wait", waitSeconds=0)
    assert running["ahead"] == 1
    gate.open()
    assert caller.ask("follow", turnId=one)["ok"]["result"] == "mine"
    assert caller.ask("follow")["ok"]["turnId"] == one
    assert claude.prompts[1:] == ["over", one]


def test_a_prompt_that_is_overtaken_by_an_unasked_turn_has_its_own_result(
    session: Session,
) -> None:
    program = (
        "command_lifecycle('queued'); init(); text('theirs'); "
        f"result('theirs', total_cost_usd=1.0, {UNASKED}); "
        "command_lifecycle('started'); init(); text('mine'); result('mine', total_cost_usd=1.25)"
    )
    caller = session.start()
    one = turn_id()
    mine = {**COMPLETED, "result": "mine", "cursor": 3}
    assert ask(caller, program, turnId=one) == mine
    events = told(caller.ask("follow", turnId=one, cursor=0)["ok"])
    assert events == [(3, "message", "mine", 0)]
    assert caller.ask("follow") == {"ok": {**mine, "turnId": one}}
    assert caller.ask("status")["ok"]["costUsd"] == 1.25


def test_a_prompt_that_an_unasked_turn_takes_up_has_its_result(session: Session) -> None:
    program = (
        "command_lifecycle('queued'); init(); text('theirs'); "
        "result('both', user_message_uuids=['x', message['uuid']])"
    )
    caller = session.start()
    answer = ask(caller, program)
    assert (answer["status"], answer["result"], answer["costUsd"]) == ("completed", "both", 0.25)
    assert caller.ask("status")["ok"]["turnRunning"] is False
    assert ask(caller, "begin(); result()")["status"] == "completed"


def test_an_older_claude_begins_turns_unasked_too(session: Session, gate: Gate) -> None:
    untold = "user_message_uuids=None"
    caller = session.start()
    wait = f"wait_at({gate.path!r})"
    program = f"init(); replay(); result({untold}); {wait}; init(); text('more'); {wait}; "
    assert ask(caller, program + f"result('over', {untold})") == COMPLETED
    gate.open()
    number = caller.send("follow", turnId=begun(caller))
    gate.open()
    answer = caller.answer(number)["ok"]
    assert (answer["status"], answer["result"]) == ("completed", "over")
    assert ask(caller, f"init(); replay(); result('mine', {untold})")["result"] == "mine"


def test_an_unasked_turn_can_be_interrupted(session: Session) -> None:
    caller = session.start()
    ask(caller, f"{BEGUN}wait_for_interrupt(); aborted({UNASKED})")
    unasked = begun(caller)
    caller.ask("follow", turnId=unasked, cursor=0)  # until its first event
    answer = caller.ask("interrupt", turnId=unasked)["ok"]
    assert answer == {**CANCELLED, "costUsd": 0.0, "turnId": unasked, "cursor": 3}
    events = ["by itself", "interrupted", "interrupted"]
    assert [text for _, _, text, _ in told(caller.ask("follow", cursor=0)["ok"])] == events
    assert ask(caller, "result()")["notes"] == []


@pytest.mark.usefixtures("impatient")
def test_an_unasked_turn_that_does_not_react_is_killed_and_the_next_turn_works(
    session: Session, claude: Claude
) -> None:
    caller = session.start()
    ask(caller, f"{BEGUN}signal.pause()")
    unasked = begun(caller)
    session.wait_until_at_rest()
    answer = caller.ask("interrupt")["ok"]
    assert (answer["turnId"], answer["status"]) == (unasked, "cancelled")
    notes = ["Claude Code was restarted: it did not respond to an interrupt."]
    assert ask(caller, "result()")["notes"] == notes
    assert claude.resumed == [None, "c-1"]


def test_a_prompt_behind_an_unasked_turn_can_be_interrupted(session: Session) -> None:
    program = (
        "command_lifecycle('queued'); text('in line'); init(); wait_for_interrupt(); "
        f"aborted({UNASKED}); "
        "command_lifecycle('started'); init(); wait_for_interrupt(); aborted()"
    )
    caller = session.start()
    pid = ask(caller, PID)["result"]
    one = turn_id()
    number = caller.send("turn", turnId=one, prompt=program)
    assert caller.receive() == {"id": number, "event": {"progress": "in line"}}
    assert caller.ask("interrupt", turnId=one)["ok"]["status"] == "cancelled"
    assert ask(caller, PID)["result"] == pid


def test_a_claude_that_dies_ends_its_unasked_turn(session: Session, gate: Gate) -> None:
    caller = session.start()
    ask(caller, f"{BEGUN}wait_at({gate.path!r}); sys.exit(3)")
    unasked = begun(caller)
    session.wait_until_at_rest()
    gate.open()
    answer = caller.ask("follow", turnId=unasked)["ok"]
    assert answer["status"] == "failed"
    assert answer["error"].startswith(
        "Claude Code ended in the middle of the turn, exit code 3: it gave no reason."
    )
    notes = ["Claude Code was restarted: it had ended with exit code 3."]
    assert ask(caller, "result()")["notes"] == notes


def test_an_unasked_turn_in_which_nothing_happens_is_no_turn(session: Session, gate: Gate) -> None:
    caller = session.start()
    one = turn_id()
    nothing = f"init(); wait_at({gate.path!r}); result('', num_turns=0, {UNASKED})"
    ask(caller, f"begin(); result(); {nothing}", turnId=one)
    unasked = begun(caller)
    number = caller.send("follow", turnId=unasked)
    gate.open()
    assert caller.answer(number) == {"error": {"code": "no-turn", "message": unasked}}
    assert caller.ask("follow") == {"ok": {**COMPLETED, "turnId": one}}
