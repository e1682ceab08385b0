"""Prompts and their turns: what is sent, what comes back, and that it can be asked for again."""

from __future__ import annotations

import io
import json
import resource
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.turns import following
from claude_mcp.agent.turns import queue as turns_module
from claude_mcp.agent.turns.listing import LOST, NOT_SENT
from tests.unit.agent.scripted import COMPLETED, SECRETS, ask, complete, told, turn_id

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Claude, Gate, Session

UNCONFIGURED = {"error": {"code": "unconfigured", "message": "the session has no credentials"}}


def held(caller: Caller, gate: Gate, after: str = "result()", **args: Any) -> tuple[int, str]:
    """The request and the id of a turn that runs, and goes on when the gate is opened."""
    one = turn_id()
    program = f"begin(); text('working'); wait_at({gate.path!r}); {after}"
    number = caller.send("turn", **{"turnId": one, "prompt": program, **args})
    assert caller.receive() == {"id": number, "event": {"progress": "working"}}
    return number, one


# One prompt.


def test_a_turn_ends_with_its_result(session: Session) -> None:
    assert ask(session.start(), "begin(); result()") == COMPLETED


def test_the_workspace_is_looked_after_before_and_after_each_turn(
    session: Session, gate: Gate
) -> None:
    caller = session.start()
    number, one = held(caller, gate)
    two = turn_id()
    later = caller.send("turn", turnId=two, prompt="begin(); result()", whenBusy="wait")
    assert session.around_turns == [one]
    gate.open()
    answers = [caller.answer(each)["ok"] for each in (number, later)]
    assert [each["status"] for each in answers] == ["completed", "completed"]
    assert session.around_turns == [one, "after", two, "after"]


def test_a_caller_is_told_what_claude_does(session: Session) -> None:
    caller = session.start()
    program = (
        "begin()\n"
        "text('I look\\nhere')\n"
        "tool('Bash', command='ls')\n"
        "tool_result('a file')\n"
        "frame(type='system', subtype='api_retry', attempt=1, max_retries=10)\n"
        "result()"
    )
    one = turn_id()
    caller.send("turn", turnId=one, prompt=program)
    assert [caller.receive() for _ in range(4)] == [
        {"id": 1, "event": {"progress": "I look"}},
        {"id": 1, "event": {"progress": "Bash: ls"}},
        {"id": 1, "event": {"progress": "API retry 1 of 10"}},
        {"id": 1, "ok": {**COMPLETED, "turnId": one, "cursor": 4}},
    ]


def test_a_prompt_arrives_as_it_is(session: Session) -> None:
    program = (
        "result(json.dumps(message['message']['content']))\n"
        "# --x /compact @file 'single' \"double\" `id` $HOME \\n \u2028 \U0001f600 é\n"
        + "#"
        * 200_000
    )
    answer = ask(session.start(), program)
    assert json.loads(answer["result"]) == [
        {"type": "text", "text": program},
        {"type": "text", "text": ""},
    ]


def test_a_result_that_is_an_error_fails_the_turn(session: Session) -> None:
    answer = ask(session.start(), "result('API Error: 401', is_error=True, api_error_status=401)")
    assert answer == {
        **COMPLETED,
        "status": "failed",
        "result": "API Error: 401",
        "error": "API Error: 401",
    }


def test_what_was_refused_to_claude_is_told(session: Session) -> None:
    denial = {"tool_name": "Bash", "tool_use_id": "t", "tool_input": {"command": "ls"}}
    assert ask(session.start(), f"result(permission_denials=[{denial}])") == {
        **COMPLETED,
        "permissionDenials": [{"toolName": "Bash", "toolInput": {"command": "ls"}}],
    }


UUID = "1739a960-accf-4788-b675-e4d61a275a29"


@pytest.mark.parametrize("bad", ["", "t-1", "../../etc/passwd", UUID.upper(), UUID + "\n"])
def test_a_turns_id_must_be_a_uuid(session: Session, claude: Claude, bad: str) -> None:
    caller = session.start()
    refusal = {"error": {"code": "bad-turn", "message": "a turn's id must be a UUID"}}
    assert ask(caller, "result()", turnId=bad) == refusal
    assert ask(caller, "result()", turnId=UUID) == COMPLETED
    assert claude.prompts == [UUID]


# Credentials.


def test_a_key_goes_through_a_pipe_and_not_through_the_environment(session: Session) -> None:
    program = (
        "descriptor = int(os.environ['CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR'])\n"
        "with open(descriptor, 'rb') as pipe: key = pipe.read().decode()\n"
        "leaks = [value for value in os.environ.values() if 'sk-turns' in value]\n"
        "result(json.dumps([key, leaks, os.environ.get('ANTHROPIC_API_KEY')]))"
    )
    assert json.loads(ask(session.start(), program)["result"]) == ["sk-turns-0123", [], None]


def test_what_was_handed_over_reaches_claude(session: Session) -> None:
    servers = {"mcpServers": {"x": {"command": "y", "env": {"TOKEN": "secret"}}}}
    secrets = {
        "credential": {"kind": "authToken", "value": "token-0123"},
        "baseUrl": "http://gateway:1",
        "proxies": {"HTTPS_PROXY": "http://proxy:2"},
        "mcpConfig": servers,
    }
    names = ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "HTTPS_PROXY", "HOME", "ANTHROPIC_MODEL"]
    program = f"result(json.dumps([[os.environ.get(n) for n in {names}], arguments[-1]]))"
    home = session.home
    assert json.loads(ask(session.start(secrets), program)["result"]) == [
        ["token-0123", "http://gateway:1", "http://proxy:2", str(home), None],
        f"--mcp-config={home}/mcp.json",
    ]
    assert json.loads((home / "mcp.json").read_text()) == servers
    assert (home / "mcp.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("secrets", [None, {}, {"credential": None, "baseUrl": None}])
def test_without_credentials_nothing_is_started_until_they_are_handed_in(
    session: Session, claude: Claude, secrets: dict[str, Any] | None
) -> None:
    caller = session.start(secrets)
    one = turn_id()
    assert ask(caller, "result()", turnId=one) == UNCONFIGURED
    assert claude.calls == []
    assert caller.ask("configure", secrets=SECRETS) == {"ok": {}}
    assert ask(caller, "result()", turnId=one) == COMPLETED


def test_new_credentials_come_with_the_proxies_that_they_need(session: Session) -> None:
    caller = session.start({"proxies": {"HTTPS_PROXY": "http://proxy:1"}})
    credential = {"kind": "authToken", "value": "token-0123"}
    secrets = complete({"credential": credential, "proxies": {"HTTPS_PROXY": "http://proxy:2"}})
    caller.ask("configure", secrets=secrets)
    names = ["ANTHROPIC_AUTH_TOKEN", "HTTPS_PROXY"]
    answer = ask(caller, f"result(json.dumps([os.environ.get(n) for n in {names}]))")
    assert json.loads(answer["result"]) == ["token-0123", "http://proxy:2"]


def test_new_mcp_servers_leave_the_credentials_as_they_are(session: Session) -> None:
    caller = session.start({"credential": {"kind": "authToken", "value": "token-0123"}})
    caller.ask("configure", secrets=complete({"mcpConfig": {"mcpServers": {}}}))
    answer = ask(caller, "result(os.environ['ANTHROPIC_AUTH_TOKEN'])")
    assert answer["result"] == "token-0123"


# The same turn again.


def test_a_turn_asked_for_again_while_it_runs_is_the_same_turn(
    session: Session, claude: Claude, gate: Gate
) -> None:
    caller = session.start()
    number, one = held(caller, gate)
    program = f"begin(); text('working'); wait_at({gate.path!r}); result()"
    again = caller.send("turn", turnId=one, prompt=program)
    other = caller.ask("turn", turnId=one, prompt="result()")
    assert other == {"error": {"code": "other-prompt", "message": one}}
    gate.open()
    answer = {"ok": {**COMPLETED, "turnId": one, "cursor": 1}}
    assert [caller.answer(number), caller.answer(again)] == [answer, answer]
    assert claude.prompts == [one]


def test_a_turn_asked_for_again_when_it_is_over_has_the_same_result(
    session: Session, claude: Claude
) -> None:
    caller = session.start()
    one = turn_id()
    assert ask(caller, "result('\\ud800 \\u2028 é')", turnId=one) == {
        **COMPLETED,
        "result": "? \u2028 é",
    }
    for again in (caller, session.start()):  # the second after a restart of the agent
        assert ask(again, "result('\\ud800 \\u2028 é')", turnId=one) == {
            **COMPLETED,
            "result": "? \u2028 é",
        }
        assert ask(again, "result('another')", turnId=one) == {
            "error": {"code": "other-prompt", "message": one}
        }
    assert claude.prompts == [one]


def test_a_result_is_kept_however_many_come_after_it(session: Session, claude: Claude) -> None:
    caller = session.start()
    ids = [turn_id() for _ in range(12)]
    for number, each in enumerate(ids):
        ask(caller, f"result('{number}')", turnId=each)
    results = [ask(caller, f"result('{n}')", turnId=each) for n, each in enumerate(ids)]
    assert [each["result"] for each in results] == [str(number) for number in range(12)]
    assert claude.prompts == ids


def test_a_turn_names_the_model_that_answered_it(session: Session, gate: Gate) -> None:
    caller = session.start()
    said = "frame(type='assistant', message={{'model': {model!r}, 'content': []}}, {more})"
    of_subagent = said.format(model="small", more="parent_tool_use_id='t'")
    own_words = said.format(model="<synthetic>", more="")
    program = "begin(); {}; {}; {}; text('working'); wait_at({!r}); result()".format(
        said.format(model="large", more=""), of_subagent, own_words, gate.path
    )
    one = turn_id()
    number = caller.send("turn", turnId=one, prompt=program)
    assert caller.receive()["event"] == {"progress": "working"}
    running = caller.ask("follow", turnId=one, waitSeconds=0)["ok"]
    assert (running["model"], running["lastStep"]) == ("large", "working")
    gate.open()
    answer = caller.answer(number)["ok"]
    assert (answer["model"], "lastStep" in answer) == ("large", False)
    assert caller.ask("status")["ok"]["model"] == "large"


def test_the_status_counts_questions_and_commands_in_the_background(session: Session) -> None:
    caller = session.start(permissionMode="ask")
    tasks = "frame(type='system', subtype='background_tasks_changed', tasks=[{'task_id': 'a'}])"
    program = f"begin(); {tasks}; can_use('Bash', command='ls'); decision()"
    answer = ask(caller, program)
    assert answer["status"] == "needs_permission"
    status = caller.ask("status")["ok"]
    assert (status["questions"], status["background"]) == (1, 1)


# Waiting, or not.


def test_a_turn_goes_on_when_the_time_to_wait_for_it_is_over(session: Session, gate: Gate) -> None:
    caller = session.start()
    one = turn_id()
    program = f"begin(); wait_at({gate.path!r}); result()"
    running = {"status": "running", "ahead": 0, "notes": [], "events": [], "cursor": 0}
    first = ask(caller, program, turnId=one, waitSeconds=0)
    elapsed = first.pop("durationMs")
    assert first == running
    second = caller.ask("follow", turnId=one, waitSeconds=0)["ok"]
    assert second.pop("durationMs") >= elapsed
    assert second == {**running, "turnId": one}
    gate.open()
    completed = {"ok": {**COMPLETED, "turnId": one}}
    assert caller.ask("follow", turnId=one) == completed
    assert caller.ask("follow") == completed  # the latest one
    assert caller.ask("follow", turnId=one, waitSeconds=0) == completed
    assert session.start().ask("follow") == completed  # after a restart of the agent


def test_there_is_nothing_to_follow_without_a_turn(session: Session) -> None:
    caller = session.start()
    unknown = turn_id()
    assert caller.ask("follow") == {"error": {"code": "no-turn", "message": ""}}
    ask(caller, "result()")
    for each in (unknown, "../../state"):
        none = {"error": {"code": "no-turn", "message": each}}
        assert caller.ask("follow", turnId=each) == none


def test_a_turn_goes_on_when_its_caller_vanishes(session: Session, gate: Gate) -> None:
    first = session.start()
    _, one = held(first, gate)
    first.hang_up()
    second = session.connect()
    assert second.ask("status")["ok"]["turnRunning"] is True
    number = second.send("follow", turnId=one)
    gate.open()
    assert second.answer(number) == {"ok": {**COMPLETED, "turnId": one, "cursor": 1}}


def test_a_turn_goes_on_when_its_request_is_cancelled(session: Session, gate: Gate) -> None:
    caller = session.start()
    number, one = held(caller, gate)
    caller.send("cancel", id=number)
    assert caller.answer(number) == {"ok": {}}
    number = caller.send("follow", turnId=one)
    gate.open()
    assert caller.answer(number) == {"ok": {**COMPLETED, "turnId": one, "cursor": 1}}


def test_the_status_tells_what_runs(session: Session, gate: Gate) -> None:
    caller = session.start()
    status = caller.ask("status")["ok"]
    assert status.pop("lastActivityAt").endswith("Z")
    assert status == {
        "turnRunning": False,
        "costUsd": 0.0,
    }
    number, one = held(caller, gate)
    status = caller.ask("status")["ok"]
    assert (status["turnRunning"], status["turnId"]) == (True, one)
    assert (status["turnMs"] >= 0, status["lastStep"]) == (True, "working")
    gate.open()
    caller.answer(number)
    status = caller.ask("status")["ok"]
    del status["lastActivityAt"]
    assert status == {
        "turnRunning": False,
        "turnId": one,
        "lastStep": "working",
        "costUsd": 0.25,
    }


# Events.


def test_events_are_read_from_a_cursor(session: Session, gate: Gate) -> None:
    caller = session.start()
    one = turn_id()
    step = f"wait_at({gate.path!r})"
    program = f"begin(); {step}; text('1'); tool_result('2'); {step}; text('3'); {step}; result()"
    caller.ask("turn", turnId=one, prompt=program, waitSeconds=0)
    nothing = caller.ask("follow", turnId=one, cursor=0, waitSeconds=0)["ok"]
    assert (nothing["status"], told(nothing), nothing["cursor"]) == ("running", [], 0)
    first = caller.send("follow", turnId=one, cursor=0)  # waits for an event, not for the end
    gate.open()
    answer = caller.answer(first)["ok"]
    events = [(1, "message", "1", 0), (2, "tool_result", "2", 0)]
    # The second may have come a moment later; it is found from where the first answer ended.
    more = caller.ask("follow", turnId=one, cursor=1)["ok"]
    assert told(answer) in (events[:1], events)
    assert (told(more), more["cursor"], more["status"]) == (events[1:], 2, "running")
    gate.open()
    third = caller.ask("follow", turnId=one, cursor=2)["ok"]
    assert (told(third), third["cursor"]) == ([(3, "message", "3", 0)], 3)
    last = caller.send("follow", turnId=one, cursor=3)  # nothing comes any more but the end
    gate.open()
    assert caller.answer(last) == {"ok": {**COMPLETED, "turnId": one, "cursor": 3}}
    whole = caller.ask("follow", turnId=one, cursor=0)["ok"]
    assert told(whole) == [*events, (3, "message", "3", 0)]
    assert {event["turnId"] for event in whole["events"]} == {one}


def test_only_so_many_events_come_at_once_and_the_cursor_says_where_to_go_on(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MAX_EVENTS", 3)
    caller = session.start()
    ask(caller, "begin(); [text(str(n)) for n in range(7)]; result()")
    cursor, pages = 0, []
    for _ in range(4):
        answer = caller.ask("follow", cursor=cursor)["ok"]
        assert answer["status"] == "completed"
        cursor = answer["cursor"]
        pages.append([text for _, _, text, _ in told(answer)])
    assert (pages, cursor) == ([["0", "1", "2"], ["3", "4", "5"], ["6"], []], 7)


def test_a_turn_that_runs_is_told_with_its_last_events(
    session: Session, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "TAIL_EVENTS", 2)
    caller = session.start()
    ask(caller, "begin(); text('of another turn'); result()")
    program = f"begin(); [text(n) for n in '12345']; wait_at({gate.path!r}); result()"
    number = caller.send("turn", turnId=turn_id(), prompt=program)
    progress = [caller.receive()["event"]["progress"] for _ in range(5)]
    assert progress == ["1", "2", "3", "4", "5"]
    answer = caller.ask("follow", waitSeconds=0)["ok"]
    assert told(answer) == [(5, "message", "4", 0), (6, "message", "5", 0)]
    assert answer["cursor"] == 6
    gate.open()
    assert caller.answer(number)["ok"]["events"] == []  # it is over: the result tells all


def test_a_turn_has_its_own_events_alone(session: Session) -> None:
    caller = session.start()
    first, second = turn_id(), turn_id()
    ask(caller, "begin(); text('1'); result()", turnId=first)
    ask(caller, "begin(); text('2'); result()", turnId=second)
    of_first = caller.ask("follow", turnId=first, cursor=0)["ok"]
    of_second = caller.ask("follow", turnId=second, cursor=0)["ok"]
    assert (told(of_first), told(of_second)) == (
        [(1, "message", "1", 0)],
        [(2, "message", "2", 0)],
    )


def test_a_long_text_is_cut_and_can_be_had_whole(session: Session) -> None:
    caller = session.start()
    answer = ask(caller, "begin(); tool_result('é' * 2_500_000); result('x' * 5_000_000)")
    assert answer == {**COMPLETED, "result": "x" * 5_000_000, "cursor": 1}
    (event,) = caller.ask("follow", cursor=0)["ok"]["events"]
    assert (event["text"], event["leftOut"]) == ("é" * 1000, 2_499_000)
    whole = caller.ask("event", number=1)["ok"]["event"]
    assert whole == {**event, "text": "é" * 2_500_000, "leftOut": 0}
    for number in (0, 2):
        none = {"error": {"code": "no-event", "message": str(number)}}
        assert caller.ask("event", number=number) == none


# In line.


def test_only_one_turn_runs_at_a_time(session: Session, claude: Claude, gate: Gate) -> None:
    caller = session.start()
    number, one = held(caller, gate)
    assert ask(caller, "result()") == {"error": {"code": "busy", "message": one}}
    assert ask(caller, "result()", whenBusy="refuse")["error"]["code"] == "busy"
    gate.open()
    assert caller.answer(number)["ok"]["status"] == "completed"
    assert ask(caller, "result()", whenBusy="refuse")["status"] == "completed"
    assert len(claude.prompts) == 2


def test_prompts_wait_in_line_and_run_in_order(
    session: Session, claude: Claude, gate: Gate
) -> None:
    caller = session.start()
    _, first = held(caller, gate)
    second, third = turn_id(), turn_id()
    ahead = [
        ask(caller, f"result('{each}')", turnId=each, whenBusy="wait", waitSeconds=0)["ahead"]
        for each in (second, third)
    ]
    assert ahead == [1, 2]
    assert caller.ask("follow", turnId=third, waitSeconds=0)["ok"]["ahead"] == 2
    assert ask(caller, f"result('{third}')", turnId=third, waitSeconds=0)["ahead"] == 2
    number = caller.send("follow", turnId=third)
    gate.open()
    assert caller.answer(number)["ok"]["result"] == third
    assert caller.ask("follow", turnId=second)["ok"]["result"] == second
    assert claude.prompts == [first, second, third]


def test_only_so_many_prompts_wait(
    session: Session, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "MAX_WAITING", 2)
    caller = session.start()
    held(caller, gate)
    waiting = [ask(caller, "result()", whenBusy="wait", waitSeconds=0) for _ in range(3)]
    full = {"error": {"code": "full", "message": "2"}}
    assert [waiting[0]["status"], waiting[1]["status"], waiting[2]] == ["running", "running", full]
    gate.open()
    assert caller.ask("follow")["ok"]["status"] == "completed"
    assert ask(caller, "result()", whenBusy="wait")["status"] == "completed"


# What the agent remembers.


def test_a_turn_that_ran_when_the_agent_ended_has_failed(
    session: Session, claude: Claude, gate: Gate
) -> None:
    caller = session.start()
    _, one = held(caller, gate)
    two = turn_id()
    ask(caller, "result()", turnId=two, whenBusy="wait", waitSeconds=0)
    again = session.start()
    failed = {"status": "failed", "events": [], "cursor": 0}
    assert again.ask("follow", turnId=one) == {"ok": {**failed, "turnId": one, "error": LOST}}
    not_sent = {"ok": {**failed, "turnId": two, "error": NOT_SENT, "cursor": 1}}
    assert again.ask("follow", turnId=two) == not_sent
    assert again.ask("turn", turnId=two, prompt="result()") == not_sent
    assert told(again.ask("follow", turnId=one, cursor=0)["ok"]) == [(1, "message", "working", 0)]
    assert claude.prompts == [one]


def test_events_are_numbered_on_after_a_restart(session: Session) -> None:
    ask(session.start(), "begin(); text('before'); result()")
    caller = session.start()
    assert ask(caller, "begin(); text('after'); result()")["cursor"] == 2
    assert told(caller.ask("follow", cursor=0)["ok"]) == [(2, "message", "after", 0)]


def test_a_record_that_is_damaged_is_as_if_absent(session: Session, claude: Claude) -> None:
    one = turn_id()
    ask(session.start(), "result()", turnId=one)
    (session.directory / "turns" / f"{one}.json").write_text("[" * 100_000)
    caller = session.start()
    assert caller.ask("follow", turnId=one) == {"error": {"code": "no-turn", "message": one}}
    assert ask(caller, "result()", turnId=one) == COMPLETED
    assert claude.prompts == [one, one]


@pytest.mark.parametrize("result", [[], "done", 3, {}, {"status": []}, {"notes": 3}])
def test_a_record_whose_result_was_forged_does_no_harm(session: Session, result: object) -> None:
    one = turn_id()
    ask(session.start(), "result()", turnId=one)
    path = session.directory / "turns" / f"{one}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "result": result}))
    caller = session.start()
    for cursor in (None, 0):
        answer = caller.ask("follow", turnId=one, cursor=cursor)
        assert answer.get("error", {"code": "no-turn"})["code"] == "no-turn"
    assert ask(caller, "result()") == COMPLETED


def test_a_result_is_not_lost_when_it_cannot_be_written(session: Session, claude: Claude) -> None:
    caller = session.start()
    one = turn_id()
    in_the_way = str(session.directory / "turns" / f"{one}.json.new")
    program = f"begin(); os.mkdir({in_the_way!r}); text('told'); result()"
    answer = ask(caller, program, turnId=one)
    assert answer["status"] == "completed"
    for _ in range(2):
        assert ask(caller, program, turnId=one) == answer
    assert caller.ask("status")["ok"]["costUsd"] == 0.25
    assert claude.prompts == [one]


def test_what_cannot_be_recorded_is_not_sent(
    session: Session, claude: Claude, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())  # else the log would go into a file, too
    caller = session.start()
    assert ask(caller, "result()") == COMPLETED
    sent = list(claude.prompts)
    one = turn_id()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # no file can grow
    try:
        refused = caller.ask("turn", turnId=one, prompt="result()")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused["error"]["code"] == "not-recorded"
    assert claude.prompts == sent
    assert caller.ask("follow", turnId=one)["error"]["code"] == "no-turn"
    assert ask(caller, "result()", turnId=one)["status"] == "completed"
    assert claude.prompts == [*sent, one]
