"""Texts and tables in the columns that a terminal has."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from claude_mcp.cli.drawing import fit, folded, pad, table, width
from claude_mcp.cli.render import relative
from tests.terminals import terminal
from tests.unit import fake_engine
from tests.unit.cli.conftest import Run

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
ROWS = [("ID", "NAME", "TEXT"), ("0123456789ab", "日本語", "one two three four five")]


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("abc", 3, "abc"), ("abcd", 3, "ab…"), ("日本語", 6, "日本語"), ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"), ("e\u0301a", 2, "e\u0301a"), ("ab cd", 4, "ab…"), ("abc", 0, ""),
    ],
)  # fmt: skip
def test_a_text_is_cut_by_the_columns_that_it_takes(text: str, limit: int, shown: str) -> None:
    assert fit(text, limit) == shown
    assert width(shown) <= limit
    assert width(pad(shown, 9)) == 9


@pytest.mark.parametrize(
    ("text", "limit", "indent", "shown"),
    [
        ("one two three", None, 0, ["one two three"]),
        ("one two three", 13, 0, ["one two three"]),
        ("one two three", 9, 2, ["one two", "  three"]),
        ("\x1b[1mone two\x1b[0m three", 7, 0, ["\x1b[1mone two\x1b[0m", "three"]),
        ("  longerthanarow and", 6, 2, ["  longerthanarow", "  and"]),
        ("日本 語", 4, 0, ["日本", "語"]),
    ],
)
def test_a_line_is_broken_between_words(
    text: str, limit: int | None, indent: int, shown: list[str]
) -> None:
    assert folded(text, limit, indent).split("\n") == shown


@pytest.mark.parametrize("limit", [None, 80, 60, 45, 30])
def test_a_table_fits_and_what_is_copied_stays_whole(limit: int | None) -> None:
    lines = table(ROWS, limit, whole=("ID",))
    assert all(line.startswith(("ID ", "0123456789ab ")) for line in lines)
    assert limit is None or max(map(width, lines)) <= limit


def test_columns_are_left_out_before_anything_is_cut() -> None:
    assert table(ROWS, 30, drop=("NAME", "ID")) == ["TEXT", "one two three four five"]
    assert table(ROWS, 45, drop=("NAME", "ID"))[0].split() == ["ID", "NAME", "TEXT"]


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("2026-01-02T11:59:58Z", "2 s ago"), ("2026-01-02T11:00:01.5Z", "59 min ago"),
        ("2026-01-02T14:30:00Z", "in 2 h"), ("2025-12-30T12:00:00Z", "3 d ago"), ("-", "-"),
    ],
)  # fmt: skip
def test_a_time_is_told_from_now(time: str, said: str) -> None:
    assert relative(time, NOW) == said


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_a_list_fits_its_terminal(
    environment: dict[str, str], program: Path, project: Path, columns: int
) -> None:
    fake_engine.add_session(program, "a-session-with-a-name-that-is-quite-long", project)
    words = [sys.executable, "-m", "claude_mcp", "list"]
    with terminal(words, environment, columns=columns, rows=10) as shown:
        assert shown.wait() == 0
        head, line, *rest = shown.text.splitlines()
    assert rest == []
    assert "a-sess" in line
    assert ("CREATED" in head, "s ago" in line) == (
        (True, True) if columns == 160 else (False, False)
    )


def test_a_pipe_gets_whole_lines_and_times(run: Run, session: str) -> None:
    (entry,) = json.loads(run("list", "--json")[1])["sessions"]
    assert entry["createdAt"] in run("list")[1]
    assert entry["projectPath"] in run("list")[1]
