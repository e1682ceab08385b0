"""Turns at a terminal: prompt, turn and cancel, what goes where, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fake_engine, wire
from tests.unit.cli.conftest import API_KEY, Input, Run
from tests.unit.wire import TURN

OTHER = "6b0b0f3e-0000-4000-8000-000000000001"
RUNNING = f"Turn {TURN} is running; continue with: claude-mcp turn fix-tests {TURN}\n"
EVENTS = [wire.event(1, "tool_call", "Bash: ls"), wire.event(2, "tool_result", "one\ntwo", 6)]


def view(session: str, **changes: Any) -> dict[str, Any]:
    """A turn as ``turn --json`` prints it."""
    return wire.turn(session, **{"events": [], **changes})


@pytest.fixture
def running(run: Run, session: str) -> str:
    """The id of a session with a turn that runs until it is interrupted."""
    code, _, _ = run("prompt", session, "hang", "--detach", "--turn-id", TURN)
    assert code == 0
    return session


# prompt


def test_prompt_prints_the_answer(run: Run, session: str) -> None:
    code, out, err = run("prompt", session, "-v", "--tools", "Read,Bash", "--", "--help me")
    assert (code, json.loads(out)) == (0, {"prompt": "--help me", "tools": ["Read", "Bash"]})
    assert err.splitlines() == ["  Bash: ls", "[1.5 s, 1 model call, $0.0123]"]


def test_prompt_passes_every_option_on(run: Run, session: str) -> None:
    options = ["--model=m", "--max-turns=3", "--max-budget-usd=0.5", "--new-conversation"]
    code, out, err = run("prompt", session, "hi", *options, "--wait=60", "--queue", "--tools=")
    assert (code, json.loads(out), err) == (
        0,
        {
            "prompt": "hi",
            "model": "m",
            "maxTurns": 3,
            "maxBudgetUsd": 0.5,
            "newConversation": True,
            "waitSeconds": 60.0,
            "whenBusy": "wait",
        },
        "",
    )


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_prompt_reads_stdin(
    run: Run, session: str, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sys.stdin", Input("ünïcode \U0001f600\n$HOME `x`\n".encode()))
    code, out, _ = run("prompt", session, *arguments)
    assert (code, json.loads(out)) == (0, {"prompt": "ünïcode \U0001f600\n$HOME `x`\n"})


def test_a_prompt_on_stdin_must_be_text(
    run: Run, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Input(b"\xff\xfe"))
    expected = (2, "", "claude-mcp: The prompt on stdin is not valid UTF-8.\n")
    assert run("prompt", session, "-") == expected


def test_prompt_at_a_terminal_does_not_wait_for_one(
    run: Run, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Input(b"", terminal=True))
    assert run("prompt", session) == (
        2,
        "",
        "claude-mcp: No prompt was given.\nPass it as an argument, or on stdin with '-'. "
        f"If {session!r} is the prompt, put '.' before it.\n",
    )


def test_a_prompt_alone_goes_to_the_only_session_of_the_directory(
    run: Run, session: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "src").mkdir()
    for directory in (project, project / "src"):
        monkeypatch.chdir(directory)
        for words in (["Say hello."], [".", "Hello"]):
            assert run("execute", *words)[0] == 0
    assert run("turn", ".")[0] == 0


def test_without_a_session_of_the_directory_a_prompt_says_what_to_do(
    run: Run, session: str, program: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent)
    assert run("execute", "Say hello.") == (
        3,
        "",
        f"claude-mcp: No session works on {project.parent}.\n"
        "Create one with 'claude-mcp create .', or name one of 'claude-mcp list'.\n",
    )
    fake_engine.add_session(program, "other", project)
    monkeypatch.chdir(project)
    assert run("execute", "Say hello.") == (
        3,
        "",
        f"claude-mcp: 2 sessions work on {project}.\nName one of them: fix-tests, other.\n",
    )


def test_a_failed_turn_gives_exit_code_1(run: Run, session: str) -> None:
    expected = (1, "", "claude-mcp: turn failed: 401 invalid key\n")
    assert run("prompt", session, "fail") == expected


def test_a_denied_tool_is_reported_on_stderr(run: Run, session: str) -> None:
    assert run("prompt", session, "deny") == (
        0,
        "I may not.\n",
        "Denied for lack of permission: Bash\n  command: rm x\n",
    )


def test_a_note_of_the_session_is_printed_on_stderr(run: Run, session: str) -> None:
    code, out, err = run("prompt", session, "note")
    assert (code, json.loads(out)) == (0, {"prompt": "note"})
    assert err == "note: Claude Code was restarted: it was idle.\n"


def test_a_secret_in_an_answer_is_not_printed(run: Run, session: str) -> None:
    _, out, _ = run("prompt", session, f"say {API_KEY}")
    _, as_json, _ = run("prompt", session, f"say {API_KEY}", "--json")
    assert json.loads(out)["prompt"] == "say [redacted]"
    assert API_KEY not in as_json


def test_a_prompt_that_takes_longer_than_the_wait_is_left_running_with_an_exit_code_of_its_own(
    run: Run, session: str
) -> None:
    arguments = ("prompt", session, "hang", "--turn-id", TURN.upper(), "--wait", "0.5")
    assert run(*arguments) == (8, "", RUNNING)
    # The same id again is the same turn.
    assert run(*arguments) == (8, "", RUNNING)


@pytest.mark.parametrize("flags", [("--detach",), ("--detach", "--wait", "60")])
def test_a_detached_prompt_is_not_waited_for_and_succeeds(
    run: Run, session: str, flags: tuple[str, ...]
) -> None:
    assert run("prompt", session, "hang", "--turn-id", TURN, *flags) == (0, f"{TURN}\n", RUNNING)


def test_a_detached_prompt_that_cannot_be_sent_is_a_failure(run: Run, running: str) -> None:
    code, out, err = run("prompt", running, "hello", "--detach")
    assert (code, out, err.splitlines()[0]) == (
        4,
        "",
        f"claude-mcp: The session is busy with turn {TURN}.",
    )


def test_a_queued_prompt_waits_for_the_running_turn(run: Run, running: str) -> None:
    arguments = ("--queue", "--detach", "--turn-id", OTHER, "--json")
    code, out, _ = run("prompt", running, "hang", *arguments)
    assert (code, json.loads(out)) == (
        0,
        wire.turn(running, turnId=OTHER, status="queued", notes=["1 prompt is ahead of this one."]),
    )


def test_a_prompt_as_json(run: Run, session: str) -> None:
    code, out, err = run("prompt", session, "deny", "--turn-id", TURN, "--json")
    assert (code, json.loads(out), err) == (
        0,
        wire.turn(
            session,
            status="completed",
            result="I may not.",
            conversationId="c-1",
            numTurns=1,
            durationMs=1500,
            usage={"inputTokens": 3, "outputTokens": 2},
            permissionDenials=[
                {"toolName": "Bash", "toolInput": {"command": "rm x"}, "reason": None}
            ],
        ),
        "Denied for lack of permission: Bash\n  command: rm x\n",
    )
    code, out, err = run("prompt", session, "hang", "--turn-id", OTHER, "--wait=0", "--json")
    assert (code, json.loads(out)) == (8, wire.turn(session, turnId=OTHER))
    assert err == RUNNING.replace(TURN, OTHER)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--turn-id", "first"), "The turn's id must be a UUID, and 'first' is not."),
        (("--wait", "-1"), "--wait must be at least 0."),
        (("--wait", "nan"), "--wait must be at least 0."),
        (("--max-turns", "0"), "--max-turns must be at least 1."),
    ],
)
def test_a_prompt_that_cannot_be_sent_does_not_reach_the_session(
    run: Run, program: Path, session: str, arguments: tuple[str, ...], said: str
) -> None:
    assert run("prompt", session, "hello", *arguments) == (2, "", f"claude-mcp: {said}\n")
    assert "exec" not in fake_engine.calls(program)


def test_a_turn_id_is_for_one_prompt_only(run: Run, running: str) -> None:
    assert run("prompt", running, "hello", "--turn-id", TURN) == (
        2,
        "",
        f"claude-mcp: The id {TURN} was used for another prompt.\n"
        "Repeat a turn with its own prompt, or leave the id out.\n",
    )


# turn


def test_turn_prints_the_answer_of_the_latest_turn_as_often_as_asked(
    run: Run, session: str
) -> None:
    prompted = run("prompt", session, "hello", "--turn-id", TURN)
    assert run("turn", "fix-tests") == run("turn", session, TURN) == prompted
    code, out, err = run("turn", "fix-tests", "--json")
    answer = json.dumps({"prompt": "hello"})
    assert (code, err) == (0, "")
    assert json.loads(out) == view(
        session,
        status="completed",
        result=answer,
        conversationId="c-1",
        numTurns=1,
        durationMs=1500,
        costUsd=0.0123,
        usage={"inputTokens": 3, "outputTokens": 2},
    )


def test_turn_reports_a_running_turn_with_an_exit_code_of_its_own(run: Run, running: str) -> None:
    assert run("turn", running, TURN, "--wait", "0") == (8, "", RUNNING)
    code, out, err = run("turn", running, "--wait", "0", "--json")
    assert (code, json.loads(out), err) == (8, view(running, events=EVENTS), RUNNING)


def test_turn_with_a_cursor_prints_later_events(run: Run, running: str) -> None:
    first = "1 2026-01-02T03:04:05Z tool_call: Bash: ls\n"
    second = "2 2026-01-02T03:04:05Z tool_result: one\ntwo [... 6 more characters: --event 2]\n"
    assert run("turn", running, "--cursor", "0") == (8, first + second, RUNNING)
    assert run("turn", running, TURN, "--cursor", "1") == (8, second, RUNNING)
    assert run("turn", running, "--cursor", "2", "--wait", "0") == (8, "", RUNNING)
    code, out, err = run("turn", running, "--cursor", "1", "--json")
    assert (code, json.loads(out), err) == (8, view(running, events=EVENTS[1:]), RUNNING)


def test_turn_prints_one_event_in_full(run: Run, running: str) -> None:
    assert run("turn", running, "--event", "2") == (0, "one\ntwo\nthree\n", "")
    code, out, err = run("turn", running, "--event", "2", "--json")
    whole = {**EVENTS[1], "text": "one\ntwo\nthree", "leftOut": 0}
    assert (code, json.loads(out), err) == (0, whole, "")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 3, "Session 'fix-tests' has no turn yet.\n"),
        ((TURN,), 3, f"Session 'fix-tests' has no turn {TURN}.\n"),
        (("latest",), 2, "The turn's id must be a UUID, and 'latest' is not.\n"),
        (("--cursor", "-1"), 2, "cursor must be at least 0.\n"),
        (("--wait", "-1"), 2, "--wait must be at least 0.\n"),
        (
            ("--event", "9"),
            3,
            "Session 'fix-tests' has no event 9.\n"
            "Old events are removed when the journal is full; results are kept.\n",
        ),
    ],
)
def test_a_turn_that_cannot_be_shown_says_why(
    run: Run, session: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert run("turn", "fix-tests", *arguments) == (code, "", f"claude-mcp: {said}")


# cancel


def test_cancel_ends_the_running_turn_and_reports_it_on_stderr(
    run: Run, program: Path, running: str
) -> None:
    assert run("cancel", "fix-tests") == (0, "", f"Turn {TURN}: cancelled\n")
    assert run("cancel", "fix-tests") == (0, "", "No turn was running.\n")
    assert run("cancel", running, TURN) == (0, "", f"Turn {TURN}: cancelled\n")
    assert run("turn", running) == (
        1,
        "",
        "claude-mcp: turn cancelled: The turn was cancelled.\n",
    )
    assert fake_engine.calls(program).count("interrupted") == 1


def test_cancel_as_json(run: Run, running: str) -> None:
    code, out, err = run("cancel", running, TURN, "--json")
    assert (code, json.loads(out), err) == (
        0,
        {"sessionId": running, "turnId": TURN, "status": "cancelled"},
        "",
    )
    code, out, err = run("cancel", running, "--json")
    assert (code, json.loads(out), err) == (
        0,
        {"sessionId": running, "turnId": None, "status": None},
        "",
    )


def test_cancel_of_an_ended_turn_reports_its_status(run: Run, session: str) -> None:
    run("prompt", session, "hello", "--turn-id", TURN)
    assert run("cancel", session, TURN) == (0, "", f"Turn {TURN}: completed\n")


def test_cancel_of_an_unknown_turn_is_refused(run: Run, session: str) -> None:
    assert run("cancel", session, TURN) == (
        3,
        "",
        f"claude-mcp: Session 'fix-tests' has no turn {TURN}.\n",
    )
    assert run("cancel", session, "it") == (
        2,
        "",
        "claude-mcp: The turn's id must be a UUID, and 'it' is not.\n",
    )


def test_turns_are_listed_newest_first_and_read_on_from_a_cursor(run: Run, session: str) -> None:
    assert run("turns", session) == (0, "", "Session fix-tests has no turn yet.\n")
    ids = [f"6b0b0f3e-0000-4000-8000-00000000000{number}" for number in (1, 2)]
    for each in ids:
        run("prompt", session, "note", "--turn-id", each)
    head = f"{'TURN':36}  {'AT':20}  STATUS     COST     PROMPT\n"
    line = "{}  2026-01-02T03:04:05Z  completed  $0.5000  do it\n"
    more = f"older turns: claude-mcp turns fix-tests --cursor {ids[1]}\n"
    assert run("turns", session, "--limit", "1") == (0, head + line.format(ids[1]), more)
    assert run("turns", session, "--cursor", ids[1]) == (0, head + line.format(ids[0]), "")
    _, out, _ = run("turns", session, "--json")
    assert [each["turnId"] for each in json.loads(out)["turns"]] == [ids[1], ids[0]]
    assert run("turns", session, "--limit", "0") == (
        2, "", "claude-mcp: limit must be between 1 and 100.\n"
    )  # fmt: skip
