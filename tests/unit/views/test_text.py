from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from claude_mcp.views import text, usage
from claude_mcp.views.commands import CommandLine, CommandOutcome, LogsResult
from claude_mcp.views.figures import elapsed
from claude_mcp.views.sessions import (
    CreateResult,
    DestroyEntry,
    DestroyResult,
    ListResult,
    McpServerStatus,
    SessionEntry,
)
from claude_mcp.views.turns import (
    CancelResult,
    EventEntry,
    PermissionDenial,
    PermissionResult,
    PromptResult,
    QuestionEntry,
    TurnView,
)
from claude_mcp.views.usage import StatsResult, UsageEntry
from claude_mcp.views.workspaces import TransferResult

CREATED = CreateResult(
    session_id="0123456789ab",
    session_name="fix-tests",
    container_name="claude-mcp-fix-tests",
    project_path="/src/project",
    image="claude-code-custom:latest",
    engine="podman",
    provider="anthropic",
    status="running",
    created_at="2026-01-02T03:04:05Z",
    expires_at=None,
    network="open",
    ports=[],
    mcp_servers=[],
    warnings=[],
)
TURN = PromptResult(
    session_id="0123456789ab",
    turn_id="6b0b0f3e-0000-4000-8000-000000000000",
    status="completed",
    result="Fixed.",
    error=None,
    conversation_id="c",
    num_turns=3,
    duration_ms=12_345,
    cost_usd=0.0123,
    usage={},
    permission_denials=[],
    questions=[],
    notes=[],
    cursor=7,
    model="claude-opus-4-5",
    last_step=None,
    retry_at=None,
    needs_new_conversation=False,
    next_offset=None,
)
RUNNING = replace(TURN, status="running", result=None, cost_usd=0.0)
COMMAND = CommandOutcome(
    session_id="0123456789ab",
    exit_code=0,
    stdout="",
    stderr="",
    truncated=None,
    duration_ms=12,
    timed_out=False,
    notes=[],
    command_id="5b1f",
    command="",
    status="completed",
    background=False,
    started_at="2026-01-02T03:04:05Z",
    ended_at="2026-01-02T03:04:05Z",
    cursor=40,
    more=False,
    output=None,
)
KILLED = {"exit_code": 124, "status": "stopped"}
ENTRY = SessionEntry(
    session_id="0123456789ab",
    session_name="fix-tests",
    container_name="claude-mcp-fix-tests",
    project_path="/src/project",
    status="running",
    provider="anthropic",
    image="claude-code-custom:latest",
    engine="docker",
    created_at="2026-01-02T03:04:05Z",
    expires_at=None,
    unsaved=None,
    network="open",
    ports=[],
    created_by=None,
    turn_running=None,
    last_activity_at=None,
    cost_usd=None,
    turn_id=None,
    turn_ms=None,
    last_step=None,
    model=None,
    open_questions=None,
    background_commands=None,
    commands=[],
    problem=None,
)


def test_a_created_session_says_what_it_is() -> None:
    servers = [McpServerStatus(name="files", status="pending", error=None)]
    created = replace(CREATED, mcp_servers=servers, warnings=["No credentials."])
    assert text.create(created).splitlines() == [
        "Session fix-tests (0123456789ab) is ready: /src/project is its /workspace. Container "
        "claude-mcp-fix-tests, image claude-code-custom:latest, podman, provider anthropic.",
        "MCP server files: pending.",
        "Warning: No credentials.",
    ]


@pytest.mark.parametrize(
    ("network", "lines"),
    [
        ("open", []),
        (
            "restricted",
            ["Its network reaches only its provider and the allowed hosts."],
        ),
        ("none", ["It has no network: commands work, prompts do not."]),
        ("forged\n", []),
    ],
)
def test_a_created_session_says_what_it_cannot_reach(network: str, lines: list[str]) -> None:
    created = replace(CREATED, network=network)
    assert text.create(created).splitlines()[1:] == lines


def test_a_finished_turn_is_its_answer_and_what_it_took() -> None:
    assert text.prompt(TURN) == "Fixed.\n\n[completed: 12.3 s, 3 model calls, $0.0123]"


def test_a_failed_turn_says_why_once_and_what_can_be_done() -> None:
    failed = replace(TURN, status="failed", result="401 no", error="401 no", num_turns=1)
    assert text.prompt(failed).splitlines() == [
        "[failed: 12.3 s, 1 model call, $0.0123]",
        "401 no",
    ]


def test_a_cancelled_turn_keeps_what_was_said_before() -> None:
    cancelled = replace(TURN, status="cancelled", result=None, cost_usd=0.0)
    assert text.prompt(cancelled).splitlines() == [
        "[cancelled: 12.3 s, 3 model calls]",
    ]


def test_a_running_turn_says_for_how_long() -> None:
    assert text.prompt(RUNNING).splitlines() == [
        "[running for 12 s: turn 6b0b0f3e-0000-4000-8000-000000000000]",
    ]


QUESTION = QuestionEntry(
    request_id="q1",
    kind="permission",
    tool_name="Bash",
    tool_input={"command": "ls\nrm x", "timeout": 5, "description": "why"},
    description="why",
)
ASKS = [
    'Claude asks for permission (requestId "q1"): Bash',
    "  command: ls",
    "    rm x",
    "  timeout: 5",
    "  description: why",
]


def test_a_turn_that_needs_permission_says_for_what_and_how_to_answer() -> None:
    asking = replace(RUNNING, status="needs_permission", questions=[QUESTION])
    head = "[needs_permission: turn 6b0b0f3e-0000-4000-8000-000000000000]"
    assert text.prompt(asking).splitlines() == [head, *ASKS]


def test_an_ended_turn_shows_the_questions_of_its_subagents() -> None:
    question = replace(QUESTION, tool_input={})
    over = replace(TURN, questions=[question])
    assert text.prompt(over).splitlines()[2:] == [
        "[completed: 12.3 s, 3 model calls, $0.0123]", ASKS[0], "  (why)"
    ]  # fmt: skip


def test_an_answer_to_a_question_is_acknowledged() -> None:
    decided = PermissionResult(session_id="0123456789ab", turn_id=None)
    assert text.decided(decided) == "Claude has the answer."


def test_notes_follow_the_answer_one_per_line() -> None:
    noted = replace(TURN, notes=["It was started again.", "It is slow."])
    assert text.prompt(noted).splitlines() == [
        "Fixed.",
        "",
        "[completed: 12.3 s, 3 model calls, $0.0123]",
        "Note: It was started again.",
        "Note: It is slow.",
    ]


def event(number: int, **changes: Any) -> EventEntry:
    plain = EventEntry(number, "2026-01-02T03:04:05Z", "message", "Hm.", left_out=0)
    return replace(plain, **changes)


def view(prompt: PromptResult, *events: EventEntry) -> TurnView:
    return TurnView(
        **{each.name: getattr(prompt, each.name) for each in fields(prompt)}, events=list(events)
    )


def test_a_turn_is_its_prompt_result_and_its_events() -> None:
    assert text.turn(view(TURN)) == text.prompt(TURN)
    cut = event(7, kind="tool_result", text="one\ntwo", left_out=1234)
    assert text.turn(view(RUNNING, event(6), cut)).splitlines() == [
        "[running for 12 s: turn 6b0b0f3e-0000-4000-8000-000000000000]",
        "",
        "6 2026-01-02T03:04:05Z message: Hm.",
        "7 2026-01-02T03:04:05Z tool_result: one",
        "two [... 1234 more characters: event 7]",
        "End of events; continue with cursor 7.",
    ]


@pytest.mark.parametrize(
    ("turn_id", "status", "expected"),
    [
        (None, None, "No turn was interrupted."),
        ("t-1", "cancelled", "Turn t-1 is cancelled."),
        ("t-1", "running", "Turn t-1 is being cancelled."),
        ("t-1", "completed", "Turn t-1 had already ended: completed."),
        ("t-1", "failed", "Turn t-1 had already ended: failed."),
    ],
)
def test_a_cancellation_reports_the_turn_s_status(
    turn_id: str | None, status: str | None, expected: str
) -> None:
    result = CancelResult(session_id="0123456789ab", turn_id=turn_id, status=status)
    assert text.cancelled(result) == expected


def test_a_denial_names_the_tool_and_its_input() -> None:
    denial = PermissionDenial(tool_name="Bash", tool_input={"command": "rm x"})
    denied = replace(TURN, result="No.", permission_denials=[denial])
    assert text.prompt(denied).splitlines() == [
        "No.",
        "",
        "[completed: 12.3 s, 3 model calls, $0.0123]",
        "Denied for lack of permission: Bash",
        "  command: rm x",
    ]


def test_a_denial_says_why_in_the_words_of_the_person() -> None:
    denial = PermissionDenial("Bash", {"command": "rm x"}, "Not in that\ndirectory")
    denied = replace(TURN, result="No.", permission_denials=[denial])
    assert text.prompt(denied).splitlines()[3:] == [
        "Denied: Bash",
        "  command: rm x",
        "  (reason: Not in that",
        "    directory)",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Exit code 0 after 12 ms.\nNo output."),
        (
            {"exit_code": 3, "stdout": "out\n", "stderr": "err\n"},
            "Exit code 3 after 12 ms.\nstdout:\nout\nstderr:\nerr",
        ),
        (
            {"stdout": "a\n\n", "truncated": "stdout: 5 of 9 bytes left out"},
            "Exit code 0 after 12 ms.\nstdout:\na\n\nOutput was cut: stdout: 5 of 9 bytes left "
            "out.",
        ),
        (
            {**KILLED, "timed_out": True, "duration_ms": 2000, "stdout": "a"},
            "Killed at its time limit, after 2.0 s; exit code 124.\nstdout:\na",
        ),
        (KILLED, "Stopped after 12 ms, with exit code 124.\nNo output."),
        (
            {"exit_code": None, "status": "lost"},
            "Its exit code is not known: it ended when the session was stopped.\nNo output.",
        ),
        (
            {"exit_code": None, "status": "running", "stdout": "a"},
            "[running: command 5b1f, for 12 ms]\nstdout:\na",
        ),
        (
            {"exit_code": 1, "status": "left_running"},
            "Exit code 1 after 12 ms. Processes that it started are left running; their output is "
            "kept.\nNo output.",
        ),
        (
            {"output": "a\nb\n", "command": "make all"},
            "Command: make all\nExit code 0 after 12 ms.\noutput:\na\nb",
        ),
    ],
)
def test_a_command_is_its_exit_code_and_separate_streams(
    changes: dict[str, Any], expected: str
) -> None:
    assert text.command(replace(COMMAND, **changes)) == expected


def test_a_running_turn_says_what_claude_did_last() -> None:
    lines = text.prompt(replace(RUNNING, last_step="Bash: make", duration_ms=125_000)).splitlines()
    assert lines[:2] == [
        "[running for 2 min 5 s: turn 6b0b0f3e-0000-4000-8000-000000000000]",
        "Last step: Bash: make",
    ]


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [(0, "0 s"), (59_999, "59 s"), (60_000, "1 min 0 s"), (7_500_000, "2 h 5 min")],
)
def test_a_time_that_is_going_on_has_its_two_largest_units(
    milliseconds: int, expected: str
) -> None:
    assert elapsed(milliseconds) == expected


def test_a_stopped_session_says_why() -> None:
    stopped = replace(ENTRY, status="stopped", problem="its pod is gone")
    assert ": stopped, its pod is gone, project" in text.sessions(ListResult([stopped], None))


def test_a_list_says_what_each_session_is_doing() -> None:
    idle = replace(ENTRY, turn_running=False, last_step="Done.", created_by="cli")
    asking = replace(
        ENTRY, turn_running=True, turn_ms=3_000, open_questions=1, background_commands=2, model="m"
    )
    server = CommandLine("5b1f", "npm run dev", "running", True, ENTRY.created_at, None, None)
    left = replace(server, command="./start", status="left_running", exit_code=0)
    asking = replace(asking, commands=[server, left])
    silent = replace(ENTRY, problem="it did not answer within 2 s")
    facts = [
        line.partition("running, ")[2].partition("project /src/project, ")[::2]
        for line in text.sessions(ListResult([idle, asking, silent], None)).splitlines()
    ]
    assert [doing for doing, _ in facts] == [
        "idle, last step 'Done.', ",
        "a turn has been running for 3 s, waits for 1 answer, 2 background commands, command "
        "5b1f (npm run dev), command 5b1f has left processes running (./start), ",
        "not known what it is doing: it did not answer within 2 s, ",
    ]
    assert facts[0][1].endswith(", created by cli")
    assert facts[1][1].endswith(", model m")


def test_a_list_is_one_line_per_session() -> None:
    busy = replace(ENTRY, turn_running=True, turn_ms=0, cost_usd=0.5, network="restricted")
    assert text.sessions(ListResult([ENTRY, busy], None)).splitlines() == [
        "0123456789ab fix-tests: running, project /src/project, image claude-code-custom:latest, "
        "created 2026-01-02T03:04:05Z",
        "0123456789ab fix-tests: running, a turn has been running for 0 s, project "
        "/src/project, image claude-code-custom:latest, created 2026-01-02T03:04:05Z, "
        "network restricted, $0.5000 so far",
    ]


def test_a_list_of_several_engines_names_them_and_those_that_are_silent() -> None:
    other = replace(ENTRY, engine="build-box")
    lines = text.sessions(ListResult([ENTRY, other], None)).splitlines()
    assert [line.partition("latest, ")[2].partition(", ")[0] for line in lines] == [
        f"engine {ENTRY.engine}",
        "engine build-box",
    ]
    silent = ListResult([], None, {"build-box": "nothing came within 5 s."})
    assert text.sessions(silent) == "Engine build-box does not answer: nothing came within 5 s."
    measured = UsageEntry(
        "a", "work", "running", 1.0, None, None, None, None, None, None, None, "here"
    )
    result = StatsResult([measured], {"build-box": "it is down."})
    assert usage.stats(result).splitlines() == [
        "here/work: status running, cpu 1.0%, memory -, of -, processes -, disk r/w - / -, "
        "network in/out - / -",
        "Engine build-box does not answer: it is down.",
    ]


def test_the_choice_of_an_engine_is_told() -> None:
    created = replace(CREATED, engine_reason="there has the most room (...).")
    assert "Engine: there has the most room (...)." in text.create(created).splitlines()


def test_an_empty_list_says_so() -> None:
    expected = "There are no sessions."
    assert text.sessions(ListResult([], None)) == expected


def test_destroying_says_whether_the_session_existed() -> None:
    destroyed = DestroyResult(
        session_id="0123456789ab",
        session_name="fix-tests",
        existed=True,
        warnings=["Git would obey .git/commondir."],
        sessions=[],
    )
    gone = DestroyResult(
        session_id="nope", session_name=None, existed=False, warnings=[], sessions=[]
    )
    assert (text.destroy(destroyed), text.destroy(gone)) == (
        "Session fix-tests (0123456789ab) is destroyed.\nWarning: Git would obey .git/commondir.",
        "Session nope does not exist (any more); there was nothing to do.",
    )


def test_of_several_each_says_what_became_of_it() -> None:
    entries = [
        DestroyEntry(session_id="0123456789ab", session_name="a", existed=True, error=None),
        DestroyEntry(session_id="b", session_name=None, existed=False, error=None),
        DestroyEntry(session_id="c", session_name=None, existed=None, error="It has work."),
    ]
    result = DestroyResult(
        session_id="", session_name=None, existed=True, warnings=["a: Hm."], sessions=entries
    )
    assert text.destroy(result).splitlines() == [
        "Session a (0123456789ab) is destroyed.",
        "Session b does not exist (any more).",
        "Session c is NOT destroyed: It has work.",
        "Warning: a: Hm.",
    ]
    nothing = replace(result, existed=False, warnings=[], sessions=[])
    assert text.destroy(nothing) == "There was no session to destroy."


def test_a_transfer_says_how_much_was_copied_to_where() -> None:
    transferred = TransferResult(
        session_id="0123456789ab",
        direction="from_container",
        path="/home/me/report",
        files=1,
        bytes=20,
        warnings=["A socket was left out."],
    )
    assert text.transfer(transferred).splitlines() == [
        "Copied 1 file, 20 bytes; now on the host at /home/me/report.",
        "Warning: A socket was left out.",
    ]


def test_logs_are_lines_below_the_session_s_status() -> None:
    result = LogsResult("01", "a", "stopped", ["x", "y"], before=None)
    empty = replace(result, lines=[])
    assert (text.logs(result), text.logs(empty)) == (
        "Session a (01) is stopped.\nx\ny",
        "Session a (01) is stopped.\nIts log is empty.",
    )
