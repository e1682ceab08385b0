"""The screen of all sessions, drawn on a terminal emulator; and what follows a turn or a log."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_mcp.cli.screen import keys
from tests.terminals import Terminal, terminal
from tests.unit import fake_engine
from tests.unit.cli.conftest import Run
from tests.unit.cli.test_process import signalled
from tests.unit.wire import TURN

PROGRAM = [sys.executable, "-m", "claude_mcp"]
TITLE = "claude-mcp: 2 sessions, 0 working"
KEYS = "arrows: choose  l: log  a: answer  c: cancel  d: destroy  q: end"


@pytest.fixture
def two(program: Path, project: Path, session: str) -> str:
    """Two sessions; the id of the first."""
    fake_engine.add_session(program, "other", project)
    return session


@pytest.fixture
def shown(environment: dict[str, str], two: str) -> Iterator[Terminal]:
    with terminal([*PROGRAM, "watch"], environment, columns=80, rows=12) as opened:
        opened.until(TITLE)
        yield opened


def is_drawn(text: str) -> bool:
    """Whether all of the screen is there; a session that is slow to answer is asked again."""
    lines = text.splitlines()
    return (
        lines[:2] == [TITLE, "  NAME       STATE  FOR  COST     DOING"]
        and ["fix-tests", "idle", "$0.5000"] in [each.split() for each in lines]
        and lines[-1] == KEYS
    )


def test_sessions_are_listed_and_the_terminal_is_given_back(shown: Terminal) -> None:
    shown.until(is_drawn)
    shown.resize(60, 8)
    shown.until(lambda text: len(text.splitlines()) == 8 and text.endswith(KEYS[:59] + "…"))
    shown.type("q")
    assert shown.wait() == 0


def test_one_is_chosen_and_destroyed_once_that_is_confirmed(shown: Terminal, program: Path) -> None:
    shown.type("\x1b[B")
    shown.type("d")
    shown.until("Destroy other? y/N")
    shown.type("n")
    shown.until(lambda text: "Destroy" not in text)
    shown.type("d")
    shown.until("Destroy other? y/N")
    shown.type("y")
    shown.until("other is destroyed.")
    shown.until("claude-mcp: 1 session, 0 working")
    assert fake_engine.calls(program).count("rm") == 1
    shown.type("q")
    assert shown.wait() == 0


def test_a_log_is_shown_and_left_again(shown: Terminal) -> None:
    shown.type("l")
    shown.until(lambda text: text.startswith("Log of fix-tests") and "session started" in text)
    shown.type("l")
    shown.until(TITLE)


def test_a_turn_is_cancelled_and_a_question_answered_in_lines(
    shown: Terminal, run: Run, two: str
) -> None:
    run("prompt", two, "hang", "--detach", "--turn-id", TURN)
    shown.until("claude-mcp: 2 sessions, 2 working")  # all of this engine have the same turns
    shown.type("c")
    shown.until("Turn cancelled.")
    run("prompt", two, "ask 1", "--detach")
    shown.type("a")
    shown.until("Allow it? [y/N]")
    assert "Bash" in shown.text
    shown.type("y\n")
    shown.until(TITLE)
    assert json.loads(run("turn", two, "--json")[1])["result"] == '[["q1", "allow", null]]'


def test_a_session_that_is_gone_is_a_message_and_not_the_end(
    shown: Terminal, program: Path, two: str
) -> None:
    for file in program.parent.glob("*.json"):
        file.unlink()
    shown.until("claude-mcp: 0 sessions")
    shown.type("cdla")
    shown.type("q")
    assert shown.wait() == 0


def test_ctrl_c_gives_the_terminal_back(shown: Terminal) -> None:
    shown.type("\x03")
    assert shown.wait() == 130


def test_without_a_terminal_it_says_what_to_use(run: Run) -> None:
    assert run("watch") == (
        2, "", "claude-mcp: This needs a terminal.\nElsewhere, use 'claude-mcp list --json'.\n"
    )  # fmt: skip


def test_keys_are_told_apart_however_they_arrive() -> None:
    assert [*keys("a\x1b[B\x1bOA\r\x1b[5~\x1b")] == ["a", "down", "up", "enter", "escape"]
    assert [*keys("\x1b[1;5C")] == []


# What follows.


def test_a_turn_is_followed_to_its_end(run: Run, session: str) -> None:
    run("prompt", session, "hang and end", "--detach", "--turn-id", TURN)
    run("cancel", session)
    code, out, _ = run("turn", session, "--follow")
    assert (code, [each.split()[2] for each in out.splitlines()[:1]]) == (0, ["tool_call:"])
    code, out, _ = run("turn", session, "--follow", "--json")
    lines = [json.loads(each) for each in out.splitlines()]
    assert [each["type"] for each in lines] == ["event", "event", "result"]
    assert [each["number"] for each in lines[:2]] == [1, 2]
    assert lines[-1]["turnId"] == TURN


def test_ctrl_c_while_following_leaves_the_turn_alone(
    environment: dict[str, str], program: Path, run: Run, session: str
) -> None:
    run("prompt", session, "hang", "--detach", "--turn-id", TURN)
    (program.parent / "calls").unlink()
    code, out, _ = signalled(environment, program, signal.SIGINT, "turn", session, "--follow")
    assert code == 130
    assert b"tool_call" in out
    assert "interrupted" not in fake_engine.calls(program)


def test_a_log_is_followed_until_the_session_stops(run: Run, session: str) -> None:
    moment = "2026-01-02T03:04:0"
    code, out, err = run("logs", session, "-f")
    assert (code, sorted(out.splitlines()), err) == (
        0,
        [f"{moment}5.000000000Z session started", f"{moment}6.000000000Z it goes on"],
        "",
    )
    assert [json.loads(each) for each in run("logs", session, "-f", "--json")[1].splitlines()]
