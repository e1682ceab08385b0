"""The life of Claude Code behind the turns: started ahead, kept, resumed, ended, paid for."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.processes import cgroup_events, killing
from claude_mcp.agent.store.state import State
from claude_mcp.agent.turns import driver, live, mcp_servers, stderr
from claude_mcp.agent.turns import queue as turns_module
from tests.unit.agent.scripted import COMPLETED, SECRETS, ask, complete, told, turn_id, until
from tests.unit.conftest import open_files

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Claude, Gate, Session
    from tests.unit.conftest import Lifeline

PID = "result(str(os.getpid()))"
AGAIN = "Claude Code was restarted: "
GONE = "The earlier conversation was never saved and is lost; this is a new one."
MAY_HAVE_SEEN = " The model may have seen the prompt, so it is not sent again automatically."


def died(code: int, why: str) -> str:
    return f"Claude Code ended in the middle of the turn, exit code {code}: {why}.{MAY_HAVE_SEEN}"


# Started ahead, and kept.


def test_claude_is_started_before_the_first_prompt(
    session: Session, claude: Claude, lifeline: Lifeline
) -> None:
    claude.at_start(f"tell('{lifeline.path}', str(os.getpid()))")
    caller = session.start()
    pid = lifeline.line()
    assert ask(caller, PID)["result"] == pid
    assert claude.prompts != []


def test_one_claude_takes_all_prompts(session: Session, claude: Claude) -> None:
    caller = session.start()
    pids = {ask(caller, f"begin(); {PID}")["result"] for _ in range(3)}
    assert len(pids) == 1
    assert len(claude.calls) == 1


def test_a_claude_that_was_killed_is_started_again_and_resumes(
    session: Session, claude: Claude
) -> None:
    caller = session.start()
    ask(caller, "begin('c-1'); result()")
    claude.kill()
    answer = ask(caller, "result()")
    assert answer == {**COMPLETED, "notes": [f"{AGAIN}it had ended with exit code 137."]}
    assert ask(caller, "result()")["notes"] == []
    assert claude.resumed == [None, "c-1"]


def test_an_agent_that_is_started_again_resumes_the_latest_conversation(
    session: Session, claude: Claude
) -> None:
    caller = session.start()
    ask(caller, "begin('c-1'); result()")
    ask(caller, "begin('c-2'); result()")
    assert ask(session.start(), "result()")["notes"] == []
    assert claude.resumed == [None, "c-2"]


def test_a_conversation_without_an_id_is_not_remembered(session: Session, claude: Claude) -> None:
    ask(session.start(), "init(None); result()")
    ask(session.start(), "result()")
    assert claude.resumed == [None, None]


def test_a_conversation_that_is_gone_is_given_up_and_the_prompt_sent_once(
    session: Session, claude: Claude
) -> None:
    claude.at_start(
        "if any(each.startswith('--resume=') for each in arguments):\n"
        "    sys.exit('No conversation found with session ID: c-1')"
    )
    caller = session.start()
    ask(caller, "begin('c-1'); result()")
    claude.kill()
    one = turn_id()
    answer = ask(caller, "begin('c-2'); result(session_id='c-2')", turnId=one)
    notes = [f"{AGAIN}it had ended with exit code 137.", GONE]
    assert answer == {**COMPLETED, "conversationId": "c-2", "notes": notes}
    assert claude.resumed == [None, "c-1", None]
    assert claude.prompts.count(one) == 1
    assert State(str(session.directory)).conversation_id == "c-2"


def test_a_new_conversation_begins_in_a_claude_of_its_own(session: Session, claude: Claude) -> None:
    caller = session.start()
    ask(caller, "begin('c-1'); result()")
    new = ask(caller, "begin('c-2'); result(session_id='c-2')", newConversation=True)
    assert new == {**COMPLETED, "conversationId": "c-2"}
    ask(caller, "result()")
    assert claude.resumed == [None, None]
    ask(session.start(), "result()")
    assert claude.resumed == [None, None, "c-2"]


def test_a_turn_has_its_own_options_and_the_next_one_those_of_the_session(
    session: Session, claude: Claude
) -> None:
    caller = session.start(permissionMode="ask", model="big")
    ask(caller, "begin(); result()")
    options = {"model": "small", "tools": [], "maxTurns": 3, "maxBudgetUsd": 0.5}
    assert ask(caller, "result()", **options) == {**COMPLETED, "costUsd": 0.0}
    assert ask(caller, "result()") == {**COMPLETED, "costUsd": 0.0}
    plain, own, after = claude.calls
    assert "--permission-mode=default" in plain
    assert "--model=big" in plain
    assert [each for each in own if each not in plain] == [
        "--resume=c-1",
        "--model=small",
        "--tools=",
        "--max-turns=3",
        "--max-budget-usd=0.5",
    ]
    assert after == [*plain[:-1], "--resume=c-1", "--model=big"]


def test_a_conversation_gives_up_the_model_of_one_turn(session: Session, claude: Claude) -> None:
    caller = session.start()
    ask(caller, "begin(); result()")
    ask(caller, "result()", model="small")
    ask(caller, "result()")
    ask(session.start(), "result()")
    ask(caller, "begin('c-2'); result()", newConversation=True)
    models = [[each for each in call if each.startswith("--model")] for call in claude.calls]
    assert models == [[], ["--model=small"], ["--model=default"], ["--model=default"], []]


def test_a_turn_with_a_tool_that_claude_does_not_know_fails(
    session: Session, claude: Claude
) -> None:
    caller = session.start()
    said = "say(json.dumps({'type': 'system', 'subtype': 'init', 'session_id': 'c-1', "
    said += "'tools': ['Task', 'Bash']}))"
    begun = f"command_lifecycle('started'); {said}; "
    known = ask(caller, f"{begun} result()", tools=["Agent", "Bash"])
    assert known["status"] == "completed"
    unknown = ask(caller, f"{begun} wait_for_interrupt(); aborted()", tools=["bash", "Bash", "X"])
    assert (unknown["status"], unknown["result"]) == ("failed", None)
    assert unknown["error"] == (
        "Claude Code has no tool named 'bash', 'X' here, so the turn was ended at once. Spell "
        "tools as Claude Code does, such as Bash, Read or Edit."
    )
    assert ask(caller, "begin(); result()")["status"] == "completed"


def test_a_schema_is_passed_on_and_an_answer_that_does_not_follow_it_is_a_failure(
    session: Session, claude: Claude
) -> None:
    caller = session.start()
    follows = ask(caller, "result('{}', structured_output={})", outputSchema='{"type":"object"}')
    assert (follows["status"], follows["result"]) == ("completed", "{}")
    # Beside it there are those that are kept ready before and after the turn.
    assert sum('--json-schema={"type":"object"}' in call for call in claude.calls) == 1
    strays = ask(caller, "result('words')", outputSchema='{"type":"object"}')
    assert (strays["status"], strays["error"], strays["result"]) == (
        "failed", "Claude's answer does not follow the schema.", "words"
    )  # fmt: skip


# The provider fails.


def test_a_turn_that_waits_for_a_failing_provider_says_why_until_an_answer_arrives(
    session: Session, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stderr, "WORDS_SECONDS", 60.0)
    caller = session.start({"secretValues": ["sk-secret-words"]})
    program = (
        "begin()\n"
        "sys.stderr.write('2026-11-29T11:22:55.537Z [ERROR] API error (attempt 3/11): 403 403 "
        "The token sk-secret-words is invalid.\\n')\n"
        "sys.stderr.flush()\n"
        "frame(type='system', subtype='api_retry', attempt=3, max_retries=10, error_status=403, "
        "error='authentication_failed', retry_delay_ms=500000)\n"
        f"wait_at({gate.path!r})\n"
        "text('at last')\n"
        f"wait_at({gate.path!r})\n"
        "result()"
    )
    one = turn_id()
    caller.send("turn", turnId=one, prompt=program)
    event = "API retry 3 of 10 in 500 s: HTTP 403, The token [redacted] is invalid."
    assert caller.receive()["event"] == {"progress": event}
    running = session.connect().ask("follow", turnId=one, cursor=0, waitSeconds=0)["ok"]
    assert [each["text"] for each in running["events"]] == [event]
    assert running["status"] == "running"
    (note,) = running["notes"]
    assert note.startswith(
        "The provider fails: HTTP 403, The token [redacted] is invalid. Retry 3 of 10 follows in "
    )
    gate.open()
    assert caller.receive()["event"] == {"progress": "at last"}
    follow = session.connect().ask("follow", turnId=one, cursor=0, waitSeconds=0)["ok"]
    assert (follow["status"], follow["notes"]) == ("running", [])
    gate.open()
    assert caller.receive()["ok"]["notes"] == []


# It dies.


@pytest.mark.parametrize(
    ("program", "code", "why"),
    [
        ("sys.exit(3)", 3, "it gave no reason"),
        ("sys.stderr.write('first\\n\\nlast\\n'); sys.exit(1)", 1, "last"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "it gave no reason"),
        ("sys.stderr.write('x' * 100000); sys.exit(0)", 0, "x" * 500),
        ('sys.stdout.write(\'{"type": "res\'); sys.exit(0)', 0, "it gave no reason"),
    ],
)
def test_a_claude_that_dies_in_the_middle_fails_the_turn_which_is_not_sent_again(
    session: Session, claude: Claude, program: str, code: int, why: str
) -> None:
    caller = session.start()
    one = turn_id()
    answer = ask(caller, f"begin(); {program}", turnId=one)
    assert answer.pop("durationMs") >= 0
    failed = {"status": "failed", "error": died(code, why), "conversationId": "c-1"}
    assert answer == {**failed, "notes": [], "events": [], "cursor": 0}
    assert ask(caller, f"begin(); {program}", turnId=one)["error"] == died(code, why)
    assert ask(caller, "result()") == COMPLETED
    assert claude.prompts.count(one) == 1
    assert claude.resumed == [None, "c-1"]


@pytest.mark.parametrize("options", [{"model": "m"}, {"newConversation": True}])
def test_a_turn_that_ends_background_commands_says_so(
    session: Session, options: dict[str, object]
) -> None:
    caller = session.start()
    assert ask(caller, "begin(); background_tasks_changed('t'); result()")["notes"] == []
    note = "Claude Code was restarted, which ended 1 background command."
    assert ask(caller, "begin(); result()", **options)["notes"] == [note]


def test_a_turn_with_options_says_which_background_commands_of_its_own_it_ended(
    session: Session,
) -> None:
    caller = session.start()
    program = "begin(); background_tasks_changed('t', 'u'); result()"
    note = "Claude Code was restarted, which ended 2 background commands."
    assert ask(caller, program, maxTurns=3)["notes"] == [note]


def is_sent(session: Session, one: str) -> bool:
    record = session.directory / "turns" / f"{one}.json"
    return record.exists() and json.loads(record.read_text())["sent"] is True


@pytest.mark.parametrize("size", [10, 200_000], ids=["small", "larger than a pipe"])
def test_a_prompt_that_no_claude_has_read_is_sent_to_the_next_one(
    session: Session, claude: Claude, size: int
) -> None:
    caller = session.start()
    ask(caller, "begin('c-1'); result()")
    claude.signal(signal.SIGSTOP)
    one = turn_id()
    number = caller.send("turn", turnId=one, prompt="result() #" + "x" * size)
    until(lambda: is_sent(session, one))
    claude.signal(signal.SIGKILL)
    answer = caller.answer(number)["ok"]
    note = f"{AGAIN}it had ended with exit code 137."
    assert (answer["status"], answer["result"], answer["notes"]) == ("completed", "done", [note])
    assert claude.prompts.count(one) == 1


@pytest.mark.usefixtures("impatient")
def test_a_prompt_that_no_claude_has_read_can_be_cancelled(
    session: Session, claude: Claude
) -> None:
    caller = session.start()
    ask(caller, "begin('c-1'); result()")
    claude.signal(signal.SIGSTOP)
    one = turn_id()
    caller.send("turn", turnId=one, prompt="result()")
    until(lambda: is_sent(session, one))
    assert caller.ask("interrupt", turnId=one)["ok"]["status"] == "cancelled"
    assert claude.prompts.count(one) == 0
    assert ask(caller, "result()")["status"] == "completed"


def hold(lifeline: Lifeline) -> str:
    """As ``lifeline.hold``, for a script in single quotes."""
    return lifeline.hold.replace("'", '"')


def test_a_turn_does_not_wait_for_a_child_that_outlives_claude_and_holds_its_output(
    session: Session, lifeline: Lifeline
) -> None:
    program = f"begin(); shell('{hold(lifeline)}; setsid sleep 1000 & wait'); os._exit(3)"
    assert ask(session.start(), program)["error"] == died(3, "it gave no reason")
    assert lifeline.end() == ""


def test_a_turn_that_claude_did_not_survive_is_told_when_nothing_of_it_runs_any_more(
    session: Session, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it holds Claude Code's output, whose end comes before it is killed."""
    kill = killing.kill

    def late(*args: Any, **options: Any) -> set[int]:
        time.sleep(0.3)
        return kill(*args, **options)

    monkeypatch.setattr(killing, "kill", late)
    script = f"{hold(lifeline)}; setsid sleep 1000 >/dev/null 2>&1 &"
    answer = ask(session.start(), f"begin(); os.waitpid(shell({script!r}), 0); os._exit(3)")
    assert answer["error"] == died(3, "it gave no reason")
    assert not lifeline.held


def test_a_turn_does_not_wait_for_what_nobody_can_find(
    session: Session, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has lost its parent and its marker, and holds all that Claude Code had open."""
    monkeypatch.setattr(live, "LAST_SECONDS", 0.05)
    orphan = 'env -i setsid sh -c "echo \\$\\$; exec sleep 1000 >&8"'
    script = f"{hold(lifeline)}; exec 8>&1; pid=$({orphan} &); echo $pid >&9"
    program = f"begin(); os.waitpid(shell({script!r}), 0); os._exit(3)"
    answer = ask(session.start(), program)
    os.kill(int(lifeline.line()), signal.SIGKILL)
    assert answer["error"] == died(3, "it gave no reason")
    assert lifeline.end() == ""


def test_what_claude_leaves_running_ends_with_it(
    session: Session, claude: Claude, lifeline: Lifeline
) -> None:
    hidden = "setsid sleep 1000 & env -i sleep 1000 &"
    program = f"shell('{hold(lifeline)}; {hidden} echo ready >&9; wait'); result()"
    assert ask(session.start(), program) == COMPLETED
    assert lifeline.line() == "ready"
    assert lifeline.held  # in the background, as long as Claude lives
    claude.kill()
    assert lifeline.end() == ""


def test_a_claude_that_cannot_start_fails_the_turn_unsent(session: Session, claude: Claude) -> None:
    claude.at_start("sys.exit('first\\nno such model')")
    caller = session.start()
    answer = ask(caller, "result()")
    assert answer.pop("durationMs") >= 0
    notes = [f"{AGAIN}it had ended with exit code 1."]
    assert answer == {
        "status": "failed",
        "error": "Claude Code ended while it was starting, exit code 1: no such model. "
        "The prompt was not sent.",
        "conversationId": None,
        "notes": notes,
        "events": [],
        "cursor": 0,
    }
    assert claude.prompts == []
    claude.at_start("")
    # The start ahead may have failed once more before that; then it is told.
    assert {**ask(caller, "result()"), "notes": []} == COMPLETED


def test_a_missing_claude_fails_the_turn_unsent(session: Session) -> None:
    answer = ask(session.start(path="/nowhere"), "result()")
    assert (answer["status"], answer["error"]) == (
        "failed",
        "Claude Code could not be started: [Errno 2] No such file or directory: 'claude'. "
        "The prompt was not sent.",
    )


def test_a_claude_that_is_never_ready_is_killed(
    session: Session, claude: Claude, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "START_SECONDS", 0.05)
    claude.at_start(f"held = open('{lifeline.path}', 'w'); signal.pause()")
    answer = ask(session.start(), "result()")
    assert answer["error"] == (
        "Claude Code ended while it was starting, exit code 137: it was not ready within 0.05 s. "
        "The prompt was not sent."
    )
    claude.close()
    assert lifeline.end() == ""


def test_a_claude_that_starved_at_its_start_is_started_again(
    session: Session, claude: Claude, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = tmp_path / "once"
    asked: list[object] = []

    def pids_exhausted(before: object) -> bool:
        """While the first one starts."""
        until(once.exists)
        asked.append(before)
        return len(asked) == 1

    monkeypatch.setattr(driver, "STARVED_SECONDS", 0.05)
    monkeypatch.setattr(cgroup_events, "pids_exhausted", pids_exhausted)
    claude.at_start(
        f"import os\nif not os.path.exists({str(once)!r}):\n"
        f" open({str(once)!r}, 'w').close()\n signal.pause()"
    )
    assert ask(session.start(), "result()") == COMPLETED
    assert len(claude.calls) == 2


def test_what_cannot_be_written_for_a_start_fails_the_turn_and_not_those_after_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"credential": {"kind": "apiKey", "value": "k"}, "mcpConfig": {"mcpServers": {}}}
    monkeypatch.setattr(mcp_servers, "CONFIG_PATH", str(session.home / "missing" / "mcp.json"))
    caller = session.start(secrets)
    answer = ask(caller, "result()")
    assert answer["status"] == "failed"
    (session.home / "missing").mkdir()
    assert ask(caller, "result()") == COMPLETED


KEYS = {"kind": "keys", "accessKeyId": "AKIA", "secretAccessKey": "the-secret"}
BEDROCK = {"provider": "bedrock", "region": "eu-1", "credential": KEYS}


def test_a_secret_in_a_file_is_the_users_alone_and_is_found_through_a_descriptor(
    session: Session,
) -> None:
    elsewhere = session.home / "elsewhere"
    file = session.home / "aws-credentials"
    file.symlink_to(elsewhere)
    program = "path = os.environ['AWS_SHARED_CREDENTIALS_FILE']; result(path + open(path).read())"
    answer = ask(session.start(BEDROCK), program)
    written = "[default]\naws_access_key_id = AKIA\naws_secret_access_key = the-secret\n"
    path, _, text = answer["result"].partition("[")
    assert "[" + text == written == file.read_text()
    assert re.fullmatch(r"/proc/self/fd/\d+/aws-credentials", path)
    assert stat.S_IMODE(file.lstat().st_mode) == 0o600
    assert not elsewhere.exists()


def test_a_secret_that_does_not_fit_into_a_pipe_is_passed_whole(session: Session) -> None:
    key = {"kind": "apiKey", "value": "k" * 300_000}
    descriptor = "int(os.environ['CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR'])"
    caller = session.start({"credential": key})
    answer = ask(caller, f"result(str(len(open({descriptor}).read())))")
    assert answer["result"] == "300000"


def test_a_secret_that_is_not_read_holds_nothing_up(session: Session, claude: Claude) -> None:
    caller = session.start({"credential": {"kind": "apiKey", "value": "k" * 300_000}})
    for _ in range(2):
        assert ask(caller, "result()")["status"] == "completed"
        claude.kill()


def test_new_credentials_replace_those_before(session: Session, claude: Claude) -> None:
    caller = session.start(BEDROCK)
    assert ask(caller, "result()") == COMPLETED
    claude.kill()
    caller.ask(
        "configure", secrets=complete({**BEDROCK, "credential": {**KEYS, "accessKeyId": "NEW"}})
    )
    program = "result(open(os.environ['AWS_SHARED_CREDENTIALS_FILE']).read())"
    assert "aws_access_key_id = NEW\n" in ask(caller, program)["result"]


# It is ended.


def test_an_idle_claude_is_stopped_and_started_when_it_is_needed(
    session: Session, claude: Claude, lifeline: Lifeline
) -> None:
    claude.at_start(f"held = open('{lifeline.path}', 'w'); tell('{lifeline.path}', 'up')")
    caller = session.start(idleSeconds=0.001)
    assert lifeline.line() == "up"
    assert lifeline.end() == ""
    claude.wait_until_ended()
    assert ask(caller, "begin(); result()") == {**COMPLETED, "notes": [f"{AGAIN}it was idle."]}


def test_claude_is_not_idle_while_a_background_command_runs(
    session: Session, claude: Claude, gate: Gate, lifeline: Lifeline
) -> None:
    caller = session.start(idleSeconds=0.001)
    pid = ask(caller, f"begin(); background_tasks_changed('t'); {PID}")["result"]
    program = f"held = open('{lifeline.path}', 'w'); tell('{lifeline.path}', 'up'); {PID}; "
    answer = ask(caller, program + f"wait_at({gate.path!r}); background_tasks_changed()")
    assert (answer["result"], answer["notes"]) == (pid, [])
    assert lifeline.line() == "up"
    gate.open()
    assert lifeline.end() == ""


def test_claude_has_its_time_to_tell_of_a_background_command_that_ended(
    session: Session, gate: Gate, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    clock = SimpleNamespace(**{**vars(time), "monotonic": lambda: now[0]})
    monkeypatch.setattr(turns_module, "time", clock)
    caller = session.start(idleSeconds=1000)
    over = f"wait_at({gate.path!r}); background_tasks_changed(); tell('{lifeline.path}', 'over')"
    program = f"begin(); background_tasks_changed('t'); {PID}; {over}; later.append(read())"
    pid = ask(caller, program)["result"]
    session.wait_until_at_rest()
    now[0] = 5000.0
    gate.open()
    assert lifeline.line() == "over"
    assert ask(caller, PID)["result"] == pid


def test_a_claude_may_be_idle_and_a_caller_wait_for_ever(session: Session) -> None:
    caller = session.start(idleSeconds=1e15)
    for _ in range(2):
        assert ask(caller, PID)["status"] == "completed"
    assert ask(caller, PID, waitSeconds=1e15)["status"] == "completed"


@pytest.mark.parametrize(("trap", "cost"), [("signal.SIG_DFL", 0.75), ("signal.SIG_IGN", 1.0)])
def test_a_claude_that_does_not_end_with_its_input_is_made_to(
    session: Session, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch, trap: str, cost: float
) -> None:
    """When it ends on TERM, it remembers the 0.25 that it reported; KILL makes it forget."""
    monkeypatch.setattr(live, "EOF_SECONDS", 0.05)
    if trap == "signal.SIG_IGN":
        monkeypatch.setattr(live, "TERM_SECONDS", 0.05)
    caller = session.start()
    program = (
        f"begin(); held = open('{lifeline.path}', 'w'); tell('{lifeline.path}', 'up'); "
        f"signal.signal(signal.SIGTERM, {trap}); result()\n"
        "while True: signal.pause()"
    )
    assert ask(caller, program) == COMPLETED
    assert lifeline.line() == "up"
    answer = ask(caller, "result(total_cost_usd=1.0)", maxTurns=3)
    assert answer == {**COMPLETED, "costUsd": cost}
    assert lifeline.end() == ""


def test_nothing_stays_open_behind_a_claude_that_ended(session: Session, claude: Claude) -> None:
    caller = session.start()

    def open_after_its_end() -> set[str]:
        claude.kill()
        return open_files()

    ask(caller, "result()")
    before = open_after_its_end()
    ask(caller, "result()")
    assert open_after_its_end() <= before


# What it costs.


def costs(caller: Caller, *reported: float) -> list[float]:
    """Of one turn for each of these, which Claude Code reports at its end."""
    return [ask(caller, f"begin(); result(total_cost_usd={c})")["costUsd"] for c in reported]


def test_a_cost_counts_once(session: Session) -> None:
    caller = session.start()
    # The last one is less than before: it began to count anew.
    assert costs(caller, 0.25, 0.75, 0.75, 0.5) == [0.25, 0.5, 0.0, 0.5]
    assert caller.ask("status")["ok"]["costUsd"] == 1.25


def test_a_claude_that_ended_in_order_counts_on(session: Session) -> None:
    caller = session.start()
    assert costs(caller, 0.5) == [0.5]
    # A turn with options of its own ends two of them.
    answer = ask(caller, "begin(); result(total_cost_usd=0.75)", maxTurns=3)
    assert answer["costUsd"] == 0.25
    assert costs(caller, 1.0) == [0.25]
    assert caller.ask("status")["ok"]["costUsd"] == 1.0


def test_a_claude_that_was_killed_has_forgotten_what_it_reported(
    session: Session, claude: Claude
) -> None:
    caller = session.start()
    assert costs(caller, 0.5) == [0.5]
    ask(caller, "begin(); result(total_cost_usd=0.75)", maxTurns=3)  # ends in order: 0.75 is kept
    assert costs(caller, 1.5) == [0.75]
    claude.kill()
    assert costs(caller, 1.0) == [0.25]
    assert caller.ask("status")["ok"]["costUsd"] == 1.75


def test_a_new_conversation_counts_from_nothing(session: Session) -> None:
    caller = session.start()
    assert costs(caller, 0.5) == [0.5]
    program = "begin('c-2'); result(total_cost_usd=0.75, session_id='c-2')"
    assert ask(caller, program, newConversation=True)["costUsd"] == 0.75
    assert caller.ask("status")["ok"]["costUsd"] == 1.25


def test_costs_are_counted_on_after_a_restart_of_the_agent(
    session: Session, lifeline: Lifeline, claude: Claude
) -> None:
    caller = session.start()
    assert costs(caller, 0.5) == [0.5]
    ask(caller, "begin(); result(total_cost_usd=0.75)", maxTurns=3)
    caller = session.start()
    assert costs(caller, 1.0) == [0.25]
    assert caller.ask("status")["ok"]["costUsd"] == 1.0


# Whose result it is.


def test_a_result_for_another_prompt_does_not_end_the_turn(session: Session) -> None:
    program = (
        "begin(); result('other', user_message_uuids=['x']); result('nobody', "
        "user_message_uuids=[]); result('mine', user_message_uuids=['x', message['uuid']])"
    )
    assert ask(session.start(), program)["result"] == "mine"


def test_a_claude_that_tells_no_more_than_one_prompt_is_understood(session: Session) -> None:
    program = "begin(); result(user_message_uuids=None, user_message_uuid=message['uuid'])"
    assert ask(session.start(), program) == COMPLETED


def test_an_older_claude_tells_by_a_replay_which_prompt_it_answers(session: Session) -> None:
    caller = session.start()
    untold = "user_message_uuids=None"
    program = (
        f"init(); result('before', {untold}); replay(); text('said'); result('mine', {untold})"
    )
    for cursor in (1, 2):
        assert ask(caller, program) == {
            **COMPLETED,
            "result": "mine",
            "costUsd": 0.0,
            "cursor": cursor,
        }
        assert told(caller.ask("follow", cursor=0)["ok"]) == [(cursor, "message", "said", 0)]


# What it says.


def test_a_question_of_claude_is_refused_so_that_it_does_not_wait(session: Session) -> None:
    program = (
        "begin()\n"
        "frame(type='control_request', request_id='q', request={'subtype': 'hook_callback'})\n"
        "result(json.dumps(read()))"
    )
    assert json.loads(ask(session.start(), program)["result"]) == {
        "type": "control_response",
        "response": {"subtype": "error", "request_id": "q", "error": "not supported here"},
    }


def test_hostile_frames_do_no_harm(session: Session) -> None:
    program = (
        "begin()\n"
        "for line in ['', 'garbage', '[]', '3', '{}', '{\"type\": 3}', '[' * 100000, '\\ud800']:\n"
        "    sys.stdout.buffer.write(line.encode('utf-8', 'surrogatepass') + b'\\n')\n"
        'sys.stdout.buffer.write(b\'\\xff\\xfe\\n{"type": "assistant", \\n\')\n'
        "sys.stdout.buffer.flush()\n"
        "frame(type='a_new_type')\n"
        "frame(type='system', subtype='a_new_subtype')\n"
        "frame(type='assistant', message=3)\n"
        "frame(type='assistant', message={'content': [{'type': 'tool_use', 'input': []}]})\n"
        "frame(type='result', session_id=[], usage=[], result={}, user_message_uuids={})\n"
        "frame(type='system', subtype='init', session_id=['x'])\n"
        "frame(type='system', subtype='task_started', task_id=['x'])\n"
        "frame(type='system', subtype='background_tasks_changed', tasks={'a': 3})\n"
        "frame(type='system', subtype='background_tasks_changed', tasks=[3, {'task_id': []}])\n"
        "frame(type='command_lifecycle', state=['started'], command_uuid=3)\n"
        "frame(type='control_request', request_id=[], request=3)\n"
        "frame(type='control_response', response='initialize')\n"
        "say('x' * 5_000_000)\n"
        "result(total_cost_usd='much', num_turns=-1, usage={'a': 'b', 'input_tokens': 3})"
    )
    caller = session.start()
    answer = ask(caller, program)
    assert answer == {**COMPLETED, "costUsd": 0.0, "numTurns": 0, "cursor": 1}
    assert told(caller.ask("follow", cursor=0)["ok"]) == [(1, "tool_call", "", 0)]


def test_a_frame_beyond_the_bound_is_left_out(
    session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "MAX_FRAME_BYTES", 500_000)
    caller = session.start()
    program = "begin(); text('x' * 3_000_000); text('y' * 400_000); result()"
    assert ask(caller, program) == {**COMPLETED, "cursor": 1}
    assert told(caller.ask("follow", cursor=0)["ok"]) == [(1, "message", "y" * 1000, 399_000)]
    assert "skipped a frame of more than 500000 bytes\n" in capsys.readouterr().err


def test_a_deep_frame_fails_no_turn_and_not_those_after_it(session: Session) -> None:
    deep = "deep = {}\nfor _ in range(600): deep = {'a': deep}\n"
    denial = "{'tool_name': 'Bash', 'tool_input': deep}"
    program = f"{deep}begin(); tool('Bash', x=deep); result(permission_denials=[{denial}])"
    caller = session.start()
    number = caller.send("turn", turnId=turn_id(), prompt=program)
    assert caller.answer(number)["ok"]["status"] == "completed"
    assert ask(caller, "result()", whenBusy="wait")["result"] == "done"


# What must not be told.


def test_a_secret_that_claude_tells_is_in_no_answer_record_journal_or_log(
    session: Session, claude: Claude, capfd: pytest.CaptureFixture[str]
) -> None:
    key = "sk-told-by-claude-0123"
    claude.at_start(f"sys.stderr.write('{key}'); sys.exit(7)")
    caller = session.start({**SECRETS, "secretValues": [key]})
    failed = ask(caller, "result()")
    assert failed["error"].startswith(
        "Claude Code ended while it was starting, exit code 7: [redacted]."
    )
    claude.at_start("")
    number, one = "begin(); tool('Bash', command='echo {0}'); result(result='{0}')", turn_id()
    answer = ask(caller, number.format(key), turnId=one)
    assert answer["result"] == "[redacted]"
    events = caller.ask("follow", turnId=one, cursor=0)["ok"]["events"]
    assert "[redacted]" in events[0]["text"]
    written = [path.read_text() for path in session.directory.rglob("*") if path.is_file()]
    assert key not in "".join([*written, str(answer), str(events), *capfd.readouterr()])


def test_new_credentials_reach_the_next_turn_of_a_live_claude(
    session: Session, claude: Claude
) -> None:
    caller = session.start()
    program = "result(os.environ['ANTHROPIC_AUTH_TOKEN'])"
    credential = {"kind": "authToken", "value": "token-0123"}
    first = ask(caller, "begin(); " + PID)["result"]
    assert caller.ask("configure", secrets=complete({"credential": credential})) == {"ok": {}}
    assert ask(caller, program)["result"] == "token-0123"
    assert ask(caller, PID)["result"] != first
    assert claude.resumed == [None, "c-1"]


def test_a_claude_for_which_there_is_no_thread_is_ended_and_the_next_one_is_tried(
    session: Session, claude: Claude, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = session.start()
    ask(caller, "begin('c-1'); result()")
    session.wait_until_at_rest()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        target = vars(thread)["_target"]
        if target.__name__ == "_follow":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    claude.kill()
    said = "Claude Code could not be started: [Errno 11] can't start new thread."
    assert ask(caller, "result()")["error"] == f"{said} The prompt was not sent."
    monkeypatch.undo()
    assert ask(caller, "result()")["status"] == "completed"
