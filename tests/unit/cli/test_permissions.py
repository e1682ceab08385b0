"""Permission requests at a terminal: asked there, or printed and answered by `respond`."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from claude_mcp.cli import permissions
from claude_mcp.sessions.turns.permissions import Answer, Decision
from claude_mcp.sessions.turns.results import Question
from tests.unit import fake_engine, wire
from tests.unit.cli.conftest import Run
from tests.unit.conftest import PATIENCE_SECONDS
from tests.unit.sessions.fake_turns import question
from tests.unit.wire import TURN

ASKS = "Claude asks for permission: Bash\n  command: rm 1\n"
ANSWER = "answer with: claude-mcp respond fix-tests q1 --allow (or --deny)\n"
GO_ON = f"then continue with: claude-mcp turn fix-tests {TURN}\n"


def ask(run: Run, session: str, *more: str) -> tuple[int, str, str]:
    return run("prompt", session, "ask 1", "--turn-id", TURN, *more)


class Terminal:
    """The program at a terminal, where somebody types an answer to each question."""

    def __init__(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self._run, self._monkeypatch = run, monkeypatch
        self._master, self._slave = os.openpty()
        self.name = os.ttyname(self._slave)
        self.typed: list[bytes] = []

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        # Not in the fixture: another stderr takes its place before the test begins.
        self._monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        return self._run(*argv)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def type_ahead(self, lines: bytes) -> None:
        """Return when they wait to be read."""
        self.type(lines)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while waiting_bytes(self._slave) < len(lines):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def flush(self, descriptor: int, queue: int) -> None:
        flush(descriptor, queue)
        self.type(self.typed.pop(0))

    def close(self) -> None:
        os.close(self._master)
        os.close(self._slave)


flush = termios.tcflush


def waiting_bytes(descriptor: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0]
    return count


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, run: Run) -> Iterator[Terminal]:
    made = Terminal(run, monkeypatch)
    monkeypatch.setattr(permissions, "TERMINAL", made.name)
    monkeypatch.setattr("termios.tcflush", made.flush)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("typed", "decision"),
    [(b"y\n", "allow"), (b" YES \n", "allow"), (b"n\n", "deny"), (b"\n", "deny"), (b"x\n", "deny")],
)
def test_the_person_at_the_terminal_is_asked(
    terminal: Terminal, session: str, typed: bytes, decision: str, program: Path
) -> None:
    terminal.typed = [typed]
    code, out, err = ask(terminal, session)
    assert (code, json.loads(out)) == (0, [["q1", decision, None]])
    assert err == f"{ASKS}Allow it? [y/N] [0 ms, 0 model calls]\n"
    assert fake_engine.calls(program).count("submitted") == 1


def test_keys_typed_before_the_question_are_no_answer(terminal: Terminal, session: str) -> None:
    terminal.type_ahead(b"y\ny\n")
    terminal.typed = [b"n\n"]
    _, out, _ = ask(terminal, session)
    assert json.loads(out) == [["q1", "deny", None]]


def test_an_unanswered_question_prints_how_to_answer_later(
    terminal: Terminal, session: str
) -> None:
    terminal.typed = [b"\4"]
    expected = (9, "", f"{ASKS}Allow it? [y/N] \n{ASKS}{ANSWER}{GO_ON}")
    assert ask(terminal, session) == expected


def test_turn_asks_the_person_at_the_terminal_too(terminal: Terminal, session: str) -> None:
    assert ask(terminal, session, "--detach")[:2] == (0, f"{TURN}\n")
    terminal.typed = [b"y\n"]
    code, out, _ = terminal("turn", session)
    assert (code, json.loads(out)) == (0, [["q1", "allow", None]])


def test_a_program_that_reads_json_is_not_asked(terminal: Terminal, session: str) -> None:
    code, out, err = ask(terminal, session, "--json")
    shown: list[dict[str, Any]] = [{**question(1), "kind": "permission", "description": None}]
    told = wire.turn(session, status="needs_permission", questions=shown)
    assert (code, json.loads(out)) == (9, told)
    assert err == f"{ASKS}{ANSWER}{GO_ON}"


def test_without_a_terminal_a_question_is_printed_and_answered_by_a_command(
    run: Run, session: str
) -> None:
    assert ask(run, session) == (9, "", f"{ASKS}{ANSWER}{GO_ON}")
    assert run("turn", session) == (9, "", f"{ASKS}{ANSWER}{GO_ON}")
    assert run("respond", session, "q1", "--deny", "--message", "not that") == (
        0,
        "",
        f"Claude has the answer; continue with: claude-mcp turn fix-tests {TURN}\n",
    )
    code, out, _ = run("turn", session)
    assert (code, json.loads(out)) == (0, [["q1", "deny", "not that"]])
    assert run("respond", session, "q1", "--allow") == (
        3,
        "",
        "claude-mcp: The question is no longer open: denied (answered).\n"
        "Read the turn to see what Claude has done since. Use 'claude-mcp turn'.\n",
    )


def test_an_unreadable_terminal_counts_as_none(
    run: Run, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permissions, "TERMINAL", "/nosuch")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert ask(run, session)[0] == 9


def test_respond_prints_json(run: Run, session: str) -> None:
    ask(run, session)
    code, out, err = run("respond", session, "q1", "--allow", "--json")
    assert (code, json.loads(out), err) == (0, {"sessionId": session, "turnId": TURN}, "")


@pytest.mark.parametrize(
    "flags", [(), ("--allow", "--deny"), ("--answer", "x", "--deny"), ("--answer", "x", "--allow")]
)
def test_respond_requires_exactly_one_of_allow_deny_and_answers(
    run: Run, session: str, flags: tuple[str, ...]
) -> None:
    expected = (2, "", "claude-mcp: Pass either --allow, --deny or --answer.\n")
    assert run("respond", session, "q1", *flags) == expected


CHOICES = """\
Claude asks:
1. Which color?
  1) Red: warm
  2) Blue: cold
A number or your own answer: \
2. Which fruits? (several are possible)
  1) Apple
  2) Pear
Numbers, separated by commas, or your own answer: \
"""


@pytest.mark.parametrize(
    ("typed", "answers"),
    [
        (b"2\n1, 2\n", ["Blue", "Apple, Pear"]),
        (b"green, 1\n2\n", ["green, 1", "Pear"]),
        (b"3\n1,9\n", ["3", "1,9"]),
        (b"\n2\n", ["", "Pear"]),
    ],
)
def test_the_person_at_the_terminal_chooses_by_number_or_writes_an_answer(
    terminal: Terminal, session: str, typed: bytes, answers: list[str], program: Path
) -> None:
    terminal.typed = [typed]
    code, out, err = terminal("prompt", session, "choose")
    assert (code, json.loads(out)) == (0, [["q1", "allow", None, answers]])
    assert err == f"{CHOICES}[0 ms, 0 model calls]\n"
    assert fake_engine.calls(program).count("answerable") == 1


@pytest.mark.parametrize("typed", [b"\n\n", b"1\n\4"])
def test_a_person_who_answers_nothing_leaves_the_question_open(
    terminal: Terminal, session: str, typed: bytes
) -> None:
    terminal.typed = [typed]
    code, _, err = terminal("prompt", session, "choose", "--turn-id", TURN)
    assert code == 9
    assert err.endswith(
        "answer with: claude-mcp respond fix-tests q1 --answer TEXT --answer TEXT (or --deny)\n"
        + GO_ON
    )
    assert run_respond(terminal, session, "Red") == (
        2,
        "",
        "claude-mcp: This request of Claude's takes 2 answers.\nGive each of its questions one "
        "answer, in order. A permission or a plan takes none: allow or deny it. Use 'claude-mcp "
        "turn'.\n",
    )
    assert run_respond(terminal, session, "Red", "")[0] == 0
    _, out, _ = terminal("turn", session)
    assert json.loads(out) == [["q1", "allow", None, ["Red", ""]]]


def run_respond(terminal: Terminal, session: str, *answers: str) -> tuple[int, str, str]:
    return terminal("respond", session, "q1", *(f"--answer={answer}" for answer in answers))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [((), "alone"), (("--json",), "alone"), (("--detach",), "alone"),
     (("--answerable", "--json"), "answerable")],
)  # fmt: skip
def test_without_a_person_at_the_terminal_claude_is_told_so(
    run: Run, session: str, flags: tuple[str, ...], expected: str, program: Path
) -> None:
    run("prompt", session, "choose", *flags)
    assert fake_engine.calls(program).count(expected) == 1


PLAN = Question("q1", "ExitPlanMode", {"plan": "# Plan\nfirst this"})


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (b"y\n", Answer(Decision.ALLOW)),
        (b"no\n", Answer(Decision.DENY)),
        (b"test first\n", Answer(Decision.DENY, "test first")),
    ],
)
def test_a_plan_is_approved_or_comes_back_with_what_to_change(
    terminal: Terminal, typed: bytes, expected: Answer, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    said: list[str] = []
    monkeypatch.setattr("sys.stderr.write", said.append)
    ask = permissions.asker(argparse.Namespace(json=False))
    assert ask is not None
    terminal.typed = [typed]
    assert anyio.run(ask, PLAN) == expected
    assert "".join(said) == (
        "Claude asks to approve its plan:\n    # Plan\n    first this\n"
        "Approve it? [y/N, or what to change] "
    )
