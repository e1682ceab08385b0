"""One prompt after the other, with a scripted Claude Code: what is sent, what comes back."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent import turns as turns_module
from claude_mcp.agent.connections import Answer, Request
from claude_mcp.agent.state import State
from claude_mcp.agent.turns import Turns

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Claude, Connect
    from tests.unit.conftest import Lifeline

PATIENCE_SECONDS = 20.0
SETTINGS = {"permissionMode": "bypass"}
SECRETS = {"credential": {"kind": "apiKey", "value": "sk-turns-0123"}}
COMPLETED = {
    "status": "completed",
    "result": "done",
    "error": None,
    "conversationId": "c-1",
    "numTurns": 2,
    "durationMs": 5,
    "costUsd": 0.25,
    "usage": {"input_tokens": 3},
    "permissionDenials": [],
}

Begin = Callable[..., "Caller"]


def turn_id() -> str:
    """Whatever runs for a turn is found by its id, on the whole machine."""
    return str(uuid.uuid4())


@pytest.fixture
def begin(
    connect: Connect, claude: Claude, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Begin:
    """A front end of new turns; what the session remembers is in ``tmp_path``."""
    monkeypatch.setattr(turns_module, "MCP_CONFIG_PATH", str(tmp_path / "mcp.json"))

    def make(
        secrets: dict[str, Any] | None = SECRETS,
        settings: dict[str, Any] = SETTINGS,
        path: str = claude.path,
    ) -> Caller:
        environment = {"PATH": path, "HOME": str(tmp_path), "ANTHROPIC_API_KEY": "the image's"}
        turns = Turns(settings, secrets, environment, State(str(tmp_path / "state")))

        def configure(request: Request) -> Answer:
            turns.configure(request.args["secrets"])
            return {}

        operations = {
            "turn": turns.perform,
            "status": lambda request: turns.status(),
            "configure": configure,
        }
        make.operations = operations  # type: ignore[attr-defined]
        return connect(operations)

    return make


def ask(caller: Caller, program: str, **args: Any) -> dict[str, Any]:
    """The answer to one prompt, progress left out."""
    number = caller.send("turn", **{"turnId": turn_id(), "prompt": program, **args})
    while "event" in (message := caller.receive()):
        pass
    assert message.pop("id") == number
    ok: dict[str, Any] = message.get("ok") or message
    return ok


def test_a_turn_ends_with_its_result(begin: Begin) -> None:
    assert ask(begin(), "init(); result()") == COMPLETED


def test_a_caller_is_told_what_claude_does(begin: Begin) -> None:
    caller = begin()
    program = (
        "init()\n"
        "tool = {'type': 'tool_use', 'id': 't', 'name': 'Bash', 'input': {'command': 'ls'}}\n"
        "frame(type='assistant', message={'content': [tool]})\n"
        "frame(type='user', message={'content': [{'type': 'tool_result', 'tool_use_id': 't'}]})\n"
        "frame(type='assistant', message={'content': [{'type': 'text', 'text': 'I see'}]})\n"
        "result()"
    )
    caller.send("turn", turnId=turn_id(), prompt=program)
    assert [caller.receive() for _ in range(3)] == [
        {"id": 1, "event": {"progress": "Bash: ls"}},
        {"id": 1, "event": {"progress": "I see"}},
        {"id": 1, "ok": COMPLETED},
    ]


def test_a_prompt_arrives_as_it_is(begin: Begin) -> None:
    program = (
        "result(json.dumps(message['message']['content']))\n"
        "# --x /compact @file 'single' \"double\" `id` $HOME \\n \u2028 \U0001f600 é\n"
        + "#"
        * 200_000
    )
    answer = ask(begin(), program)
    assert json.loads(answer["result"]) == [
        {"type": "text", "text": program},
        {"type": "text", "text": ""},
    ]


def test_a_turn_has_its_own_options_and_else_those_of_the_session(
    begin: Begin, claude: Claude
) -> None:
    caller = begin(settings={"permissionMode": "deny", "model": "big"})
    ask(caller, "result()")
    ask(caller, "result()", model="small", tools=[], maxTurns=3, maxBudgetUsd=0.5)
    plain, full = claude.calls
    assert "--permission-mode=default" in plain
    assert "--model=big" in plain
    assert [each for each in full if each not in plain] == [
        "--model=small",
        "--tools=",
        "--max-turns=3",
        "--max-budget-usd=0.5",
    ]


def test_a_conversation_goes_on_until_a_new_one_is_asked_for(begin: Begin, claude: Claude) -> None:
    caller = begin()
    ask(caller, "init('c-1'); result()")
    ask(caller, "init('c-2'); result()")
    ask(caller, "init('c-3'); result()", newConversation=True)
    ask(begin(), "result()")  # another agent, after a restart
    resumed = [[each for each in call if each.startswith("--resume")] for call in claude.calls]
    assert resumed == [[], ["--resume=c-1"], [], ["--resume=c-3"]]


def test_a_conversation_without_an_id_is_not_remembered(begin: Begin, claude: Claude) -> None:
    caller = begin()
    ask(caller, "init('c-1'); init(''); init(None); init(3); result()")
    assert caller.ask("status")["ok"]["conversationId"] == "c-1"


def test_a_conversation_that_is_gone_is_given_up(begin: Begin, claude: Claude) -> None:
    caller = begin()
    ask(caller, "init('c-1'); result()")
    gone = "sys.stderr.write('No conversation found with session ID: c-1\\n'); sys.exit(1)"
    assert ask(caller, gone)["error"] == (
        "Claude Code ended with exit code 1 and no result: "
        "No conversation found with session ID: c-1"
    )
    ask(caller, "result()")
    assert [any(each.startswith("--resume") for each in call) for call in claude.calls] == [
        False,
        True,
        False,
    ]


def test_a_key_goes_through_a_pipe_and_not_through_the_environment(begin: Begin) -> None:
    program = (
        "descriptor = int(os.environ['CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR'])\n"
        "with open(descriptor, 'rb') as pipe: key = pipe.read().decode()\n"
        "leaks = [value for value in os.environ.values() if 'sk-turns' in value]\n"
        "result(json.dumps([key, leaks, os.environ.get('ANTHROPIC_API_KEY')]))"
    )
    assert json.loads(ask(begin(), program)["result"]) == ["sk-turns-0123", [], None]


def test_what_was_handed_over_reaches_claude(begin: Begin, tmp_path: Path) -> None:
    servers = {"mcpServers": {"x": {"command": "y", "env": {"TOKEN": "secret"}}}}
    secrets = {
        "credential": {"kind": "authToken", "value": "token-0123"},
        "baseUrl": "http://gateway:1",
        "proxies": {"HTTPS_PROXY": "http://proxy:2"},
        "mcpConfig": servers,
    }
    names = ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "HTTPS_PROXY", "HOME", "ANTHROPIC_MODEL"]
    program = f"result(json.dumps([[os.environ.get(n) for n in {names}], arguments[-1]]))"
    answer = ask(begin(secrets), program)
    assert json.loads(answer["result"]) == [
        ["token-0123", "http://gateway:1", "http://proxy:2", str(tmp_path), None],
        f"--mcp-config={tmp_path}/mcp.json",
    ]
    assert json.loads((tmp_path / "mcp.json").read_text()) == servers
    assert (tmp_path / "mcp.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("secrets", [None, {}, {"credential": None, "baseUrl": None}])
def test_without_credentials_nothing_is_started_until_they_are_handed_in(
    begin: Begin, claude: Claude, secrets: dict[str, Any] | None
) -> None:
    caller = begin(secrets)
    assert ask(caller, "result()") == {
        "error": {"code": "unconfigured", "message": "the session has no credentials"}
    }
    assert claude.calls == []
    caller.ask("configure", secrets=SECRETS)
    assert ask(caller, "result()") == COMPLETED


def test_new_credentials_leave_the_rest_as_it_was(begin: Begin) -> None:
    caller = begin({**SECRETS, "proxies": {"HTTPS_PROXY": "http://proxy:2"}})
    caller.ask("configure", secrets={"credential": {"kind": "authToken", "value": "token-0123"}})
    names = ["ANTHROPIC_AUTH_TOKEN", "HTTPS_PROXY"]
    answer = ask(caller, f"result(json.dumps([os.environ.get(n) for n in {names}]))")
    assert json.loads(answer["result"]) == ["token-0123", "http://proxy:2"]


def test_a_result_that_is_an_error_fails_the_turn(begin: Begin) -> None:
    answer = ask(begin(), "result('API Error: 401', is_error=True, api_error_status=401)")
    assert answer == {
        **COMPLETED,
        "status": "failed",
        "result": "API Error: 401",
        "error": "API Error: 401",
    }


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("sys.exit(3)", "exit code 3 and no result: it said nothing"),
        ("sys.stderr.write('first\\n\\nlast\\n'); sys.exit(1)", "exit code 1 and no result: last"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "exit code 137 and no result: it said nothing"),
        ("sys.stderr.write('x' * 100000)", f"exit code 0 and no result: {'x' * 500}"),
        ("frame(type='result')\nsys.exit(0)", None),
    ],
)
def test_a_claude_that_ends_without_a_result_fails_the_turn(
    begin: Begin, program: str, error: str | None
) -> None:
    answer = ask(begin(), f"init(); {program}")
    assert answer["status"] == "failed"
    if error is not None:
        assert answer["error"] == f"Claude Code ended with {error}"
        assert answer["conversationId"] == "c-1"


def test_a_turn_does_not_wait_for_a_child_that_outlives_claude_and_holds_its_output(
    begin: Begin, lifeline: Lifeline
) -> None:
    program = (
        "import subprocess\n"
        f"subprocess.Popen(['/bin/sh', '-c', {f'{lifeline.hold}; sleep 1000 & wait'!r}])\n"
        "os._exit(3)"
    )
    answer = ask(begin(), program)
    assert answer["error"] == "Claude Code ended with exit code 3 and no result: it said nothing"
    assert lifeline.end() == ""


def test_a_claude_that_does_not_read_its_prompt_fails_by_its_own_words(
    begin: Begin, claude: Claude
) -> None:
    (claude.bin / "claude").write_text("#!/bin/sh\nexec <&-\necho 'bad option' >&2\nexit 2\n")
    answer = ask(begin(), "#" * 1_000_000)
    assert answer["error"] == "Claude Code ended with exit code 2 and no result: bad option"


def test_a_missing_claude_fails_the_turn(begin: Begin, tmp_path: Path) -> None:
    answer = ask(begin(path=str(tmp_path / "nothing")), "result()")
    assert answer.pop("durationMs") >= 0
    assert answer == {
        "status": "failed",
        "error": "The turn could not be run: [Errno 2] No such file or directory: 'claude'",
    }


def test_hostile_frames_do_no_harm(begin: Begin) -> None:
    program = (
        "for line in ['', 'garbage', '[]', '3', '{}', '{\"type\": 3}', '[' * 100000, '\\ud800']:\n"
        "    sys.stdout.buffer.write(line.encode('utf-8', 'surrogatepass') + b'\\n')\n"
        "sys.stdout.buffer.write(b'\\xff\\xfe\\n')\n"
        "sys.stdout.buffer.flush()\n"
        "frame(type='assistant', message=3)\n"
        "frame(type='assistant', message={'content': [{'type': 'tool_use', 'input': []}]})\n"
        "frame(type='result', session_id=[], usage=[], result={}, user_message_uuids={})\n"
        "frame(type='system', subtype='init', session_id=['x'])\n"
        "say('x' * 1000000)\n"
        "result(total_cost_usd='much', num_turns=-1, usage={'a': 'b', 'input_tokens': 3})"
    )
    answer = ask(begin(), program)
    assert answer == {**COMPLETED, "costUsd": 0.0, "numTurns": 0}


def test_only_one_turn_runs_at_a_time(begin: Begin, lifeline: Lifeline) -> None:
    caller = begin()
    first, second = turn_id(), turn_id()
    program = f"open('{lifeline.path}', 'w').write('ready\\n'); open('{lifeline.path}.go').read()"
    os.mkfifo(f"{lifeline.path}.go")
    number = caller.send("turn", turnId=first, prompt=f"{program}; result()")
    assert lifeline.line() == "ready"
    assert caller.ask("turn", turnId=second, prompt="result()") == {
        "error": {"code": "busy", "message": first}
    }
    assert caller.ask("status")["ok"]["turnRunning"] is True
    again = caller.send("turn", turnId=first, prompt="ignored")
    with open(f"{lifeline.path}.go", "w"):
        pass
    answers = sorted((caller.receive() for _ in range(2)), key=lambda message: message["id"])
    assert answers == [{"id": number, "ok": COMPLETED}, {"id": again, "ok": COMPLETED}]
    assert caller.ask("status")["ok"]["turnRunning"] is False


def test_a_finished_turn_asked_for_again_gives_the_same_result(
    begin: Begin, claude: Claude
) -> None:
    caller = begin()
    one = turn_id()
    assert ask(caller, "result()", turnId=one) == COMPLETED
    assert ask(caller, "result('another')", turnId=one) == COMPLETED
    assert len(claude.calls) == 1


def test_only_so_many_results_are_kept(
    begin: Begin, claude: Claude, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "KEPT_RESULTS", 1)
    caller = begin()
    first, second = turn_id(), turn_id()
    for each in (first, second, second, first):
        ask(caller, "result()", turnId=each)
    assert len(claude.calls) == 3


def test_a_cancelled_turn_takes_claude_and_its_children_with_it(
    begin: Begin, lifeline: Lifeline
) -> None:
    caller = begin()
    hold = f'exec 9>"{lifeline.path}"'
    hidden = "setsid sleep 1000 & env -i sleep 1000 &"
    program = f"init(); shell('{hold}; {hidden} echo ready >&9; wait'); signal.pause()"
    number = caller.send("turn", turnId=turn_id(), prompt=program)
    assert lifeline.line() == "ready"
    caller.send("cancel", id=number)
    answer = caller.receive()["ok"]
    answer.pop("durationMs")
    assert (answer["status"], answer["error"]) == ("cancelled", "The turn was cancelled.")
    assert lifeline.end() == ""
    assert ask(caller, "result()") == COMPLETED


def test_a_turn_goes_on_when_its_caller_vanishes(begin: Begin, connect: Connect) -> None:
    one = turn_id()
    first = begin()
    gate = f"/tmp/{one}"
    os.mkfifo(gate)
    try:
        first.send("turn", turnId=one, prompt=f"init(); open({gate!r}).read(); result()")
        with open(gate, "w"):  # once it waits there
            first.hang_up()
            second = connect(begin.operations)  # type: ignore[attr-defined]
            number = second.send("turn", turnId=one, prompt="ignored")
            assert second.ask("status")["ok"]["turnRunning"] is True
    finally:
        os.unlink(gate)
    assert second.receive() == {"id": number, "ok": COMPLETED}


def test_what_a_turn_leaves_running_ends_with_it(begin: Begin, lifeline: Lifeline) -> None:
    hold = f'exec 9>"{lifeline.path}"'
    program = f"shell('{hold}; setsid sleep 1000'); result()"
    assert ask(begin(), program) == COMPLETED
    assert lifeline.end() == ""


@pytest.mark.parametrize("trap", ["signal.SIG_DFL", "signal.SIG_IGN"])
def test_a_claude_that_does_not_end_after_its_result_is_made_to(
    begin: Begin, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    monkeypatch.setattr(turns_module, "EXIT_SECONDS", 0.05)
    program = (
        f"file = open('{lifeline.path}', 'w')\n"
        f"signal.signal(signal.SIGTERM, {trap})\n"
        "result()\n"
        "while True: signal.pause()"
    )
    assert ask(begin(), program) == COMPLETED
    assert lifeline.end() == ""


def test_a_result_for_another_prompt_does_not_end_the_turn(begin: Begin) -> None:
    program = "result('other', user_message_uuids=['x']); result('mine')"
    assert ask(begin(), program)["result"] == "mine"


def test_an_older_claude_does_not_say_which_prompt_it_answers(begin: Begin) -> None:
    assert ask(begin(), "result(user_message_uuids=None)") == COMPLETED


def test_a_cost_counts_once(begin: Begin) -> None:
    caller = begin()
    answers = [ask(caller, f"result(total_cost_usd={cost})") for cost in (0.25, 0.75, 0.5)]
    assert [answer["costUsd"] for answer in answers] == [0.25, 0.5, 0.5]
    assert caller.ask("status")["ok"]["costUsd"] == 1.25


def test_nothing_stays_open_behind_a_turn(begin: Begin) -> None:
    def open_descriptors() -> int:
        for thread in threading.enumerate():
            if "_drain" in thread.name:
                thread.join(PATIENCE_SECONDS)
        return len(os.listdir("/proc/self/fd"))

    caller = begin()
    ask(caller, "result()")
    before = open_descriptors()
    ask(caller, "result()")
    assert open_descriptors() == before
