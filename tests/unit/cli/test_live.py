"""The live line and a turn as it happens, on a terminal emulator; nothing of it elsewhere."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_mcp.cli import drawing
from claude_mcp.cli.line import LiveLine
from claude_mcp.sessions.progress import Amount
from claude_mcp.views.figures import rate_text, reported
from tests.measuring import MEASURED
from tests.terminals import Terminal, terminal

HEAD = """\
import anyio, sys, termios
from claude_mcp.cli import live, terminal
from claude_mcp.cli.line import LINE
from claude_mcp.sessions.progress import Amount

mode = termios.tcgetattr(0)
mode[3] &= ~termios.ECHO  # what is typed goes on with the scene, and is not seen
termios.tcsetattr(0, termios.TCSANOW, mode)

async def main():
    def stop():
        sys.stdin.readline()
"""
TURN = """\
turn = live.Turn(words=live.shares_terminal())
async def say(text, begins=False, ends=False):
    await turn.said(text, begins=begins, ends=ends)
"""


@contextmanager
def scene(
    tmp_path: Path,
    body: str,
    *,
    columns: int = 40,
    rows: int = 12,
    environment: dict[str, str] | None = None,
) -> Iterator[Terminal]:
    """What these calls show on a terminal; ``stop()`` waits for a key."""
    program = tmp_path / "scene.py"
    environment = environment or {}
    setup = TURN if "await say" in body else ""
    program.write_text(
        HEAD + textwrap.indent(setup + textwrap.dedent(body), "    ") + "\nanyio.run(main)\n"
    )
    root = str(Path(drawing.__file__).parents[2])
    variables = {**MEASURED, "PYTHONPATH": root, "PATH": "/usr/bin:/bin", **environment}
    argv = [sys.executable, str(program)]
    if "TERM" in environment:
        argv = ["/usr/bin/env", f"TERM={environment['TERM']}", *argv]
    with terminal(argv, variables, columns=columns, rows=rows) as opened:
        yield opened


WRITING = "N s · Claude is writing"


def until(shown: Terminal, *lines: str) -> None:
    """Wait until the screen has these lines, whatever the time that is shown."""
    shown.until(lambda text: re.sub(r"\b\d+ s ·", "N s ·", text) == "\n".join(lines))


def test_words_come_one_by_one_and_steps_stay_and_the_live_line_goes(tmp_path: Path) -> None:
    body = """
    await say("I *lo", begins=True); stop()
    await say("ok* at it."); await say("", ends=True)
    await turn.did("tool_call", "Bash: " + "long " * 20); stop()
    await turn.did("tool_error", "Exit code 1")
    await turn.did("tool_result", "a file")
    await turn.did("permission", "asks")
    await say("# Done\\n\\nThis line is longer than the terminal is", begins=True); stop()
    await say(" wide.", ends=True)
    said = turn.end("# Done\\n\\nThis line is longer than the terminal is wide.")
    terminal.write(f"{said}\\n")
    """
    step = "  Bash: long long long long long long l…"
    before = ["I look at it.", step, "  failed: Exit code 1", "Done", ""]
    line = "This line is longer than the terminal is"
    with scene(tmp_path, body) as shown:
        until(shown, "I *lo", WRITING)
        shown.type("\r")
        until(shown, "I look at it.", step, "N s · Bash: long long long long long…")
        shown.type("\r")
        until(shown, *before, line, WRITING)
        shown.type("\r")
        assert shown.wait() == 0
        assert shown.text == "\n".join([*before, line, "wide.", "True"])


def test_a_message_that_begins_again_is_not_taken_for_the_result(tmp_path: Path) -> None:
    body = """
    await say("One half", begins=True)
    await say("Another\\none", begins=True); await say("", ends=True)
    await turn.did("note", "something")
    print(turn.end("Another\\none"))
    """
    with scene(tmp_path, body) as shown:
        assert shown.wait() == 0
        assert shown.text.splitlines() == [
            "One half", "Another", "one", "  something", "False",
        ]  # fmt: skip


def test_a_line_that_fills_the_screen_is_shown_from_its_end(tmp_path: Path) -> None:
    body = """
    await say("x" * 100 + "yz", begins=True); stop()
    await say("!", ends=True)
    turn.end()
    """
    with scene(tmp_path, body, columns=20, rows=4) as shown:
        until(shown, "x" * 20, "yz", "N s · Claude is…")
        shown.type("\r")
        assert shown.wait() == 0
        assert shown.text.splitlines()[-1] == "yz!"


@pytest.mark.parametrize(
    ("environment", "live"),
    [
        ({"TERM": "dumb"}, "False"),
        ({"NO_COLOR": "1"}, "True"),
        ({"PYTHONIOENCODING": "ascii"}, "True"),
    ],
)
def test_other_terminals_get_what_they_can_show(
    tmp_path: Path, environment: dict[str, str], live: str
) -> None:
    body = """
    print(live.shares_terminal()); sys.stdout.flush()
    if live.shares_terminal():
        turn = live.Turn(words=True)
        await turn.said("**bold**\\n- x…\\n> q", begins=True, ends=True)
        turn.end()
    """
    with scene(tmp_path, body, environment=environment) as shown:
        assert shown.wait() == 0
    plain = [live, "**bold**", "- x…", "> q"]
    expected = {
        "TERM": [live],
        "NO_COLOR": plain,
        "PYTHONIOENCODING": ["True", "bold", "* x~", "| q"],
    }
    assert shown.text.splitlines() == expected[next(iter(environment))]


def test_work_is_shown_with_a_bar_its_rate_and_what_is_left(tmp_path: Path) -> None:
    body = """
    from unittest import mock
    clock = 100.0
    with mock.patch("time.monotonic", lambda: clock):
        work = live.Work()
        await work("packing"); stop()
        await work("copying", Amount(0, 4 << 20)); clock += 2
        await work("copying", Amount(1 << 20, 4 << 20)); stop()
        clock += 9
        for step in (1, 2, 3):
            clock += 4
            await work("building", Amount(step, 4, "step"))
        stop()
        clock += 1
        await work("counting", Amount(1, None, "file")); stop()
    LINE.end()
    """
    with scene(tmp_path, body, columns=100) as shown:
        shown.until("0 s · packing")
        shown.type("\r")
        bar = "[=====               ]"
        shown.until(f"2 s · {bar} copying, 1 MiB of 4 MiB, 512 KiB/s, 6 s left")
        shown.type("\r")
        bar = "[===============     ]"
        shown.until(f"23 s · {bar} building, 3 of 4 steps, 0.25 steps/s, 4 s left")
        shown.type("\r")
        shown.until("24 s · counting, 1 file")
        shown.type("\r")
        assert shown.wait() == 0
        assert not shown.text.strip()


def test_amounts_without_a_terminal_are_words() -> None:
    assert reported("copying", None) == "copying"
    assert reported("copying", Amount(1, None, "file")) == "copying: 1 file"
    assert rate_text(Amount(5, 5), 10.0) == "10 B/s"


def test_rows_of_a_line_are_counted_as_a_terminal_wraps_them() -> None:
    assert [drawing.rows(text, 4) for text in ("", "abcd", "abcde", "\x1b[1mabcd\x1b[0m")] == [
        1, 1, 2, 1,
    ]  # fmt: skip
    assert drawing.rows("abc漢", 4) == 2


def test_nothing_is_drawn_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    line = LiveLine()
    line.show(lambda columns: ["never"])
    line.end()
    assert capfd.readouterr() == ("", "")


def test_a_prompt_in_a_terminal_shows_its_answer_once(
    environment: dict[str, str], session: str
) -> None:
    argv = [sys.executable, "-m", "claude_mcp", "prompt", session, "hello"]
    for options, last in (([], True), (["-q"], False)):
        with terminal([*argv, *options], environment, columns=60) as shown:
            assert shown.wait() == 0
        assert shown.text.count('"prompt": "hello"') == 1
        assert shown.text.endswith("[1.5 s, 1 model call, $0.0123]") is last
