"""Answers on a terminal: Markdown becomes styles, and nothing else of a text changes."""

from __future__ import annotations

import sys

import pytest

from claude_mcp.cli.markdown import render
from tests.terminals import terminal

BOLD, CYAN, DIM, END = "\x1b[1m", "\x1b[36m", "\x1b[2m", "\x1b[0m"
SLANTED = "\x1b[3m"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("## What is wrong ##", f"{BOLD}What is wrong{END}"),
        ("- one\n  * two", "• one\n  • two"),
        ("1. `a*b` and **bold `x`**", f"1. {CYAN}a*b{END} and {BOLD}bold `x`{END}"),
        ("``a`b``", f"{CYAN}a`b{END}"),
        ("```py\n# no heading\n\n- x\n```\n- y", f"{CYAN}# no heading{END}\n\n{CYAN}- x{END}\n• y"),
        ("~~~\n```\n~~~", f"{CYAN}```{END}"),
        ("see [this](https://a.org/b)", f"see {BOLD}this{END} (https://a.org/b)"),
        ("> quoted", f"{DIM}│{END} quoted"),
        ("*one* of *two things*, a*b*c", f"{SLANTED}one{END} of {SLANTED}two things{END}, a*b*c"),
        ("---", f"{DIM}{'─' * 20}{END}"),
        ("2 * 3 * 4 and __init__ and a_b_c", "2 * 3 * 4 and __init__ and a_b_c"),
        ("#hash\n-5\n** no **", "#hash\n-5\n** no **"),
        ("", ""),
    ],
)
def test_marks_become_styles(text: str, shown: str) -> None:
    assert render(text) == shown


@pytest.mark.parametrize("line", ["a" + "`" * 1_000, "**a " * 400, "[a" * 900])
def test_marks_without_an_end_stay(line: str) -> None:
    assert render(line) == line
    assert render(line * 3) == line * 3


@pytest.mark.parametrize(
    ("environ", "styled"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_only_a_terminal_with_colors_gets_styles(
    environment: dict[str, str], session: str, environ: dict[str, str], styled: bool
) -> None:
    words = [
        "sh",
        "-c",
        'exec env "$@"',
        "sh",
        *(f"{name}={each}" for name, each in environ.items()),
    ]
    program = [*words, sys.executable, "-m", "claude_mcp", "prompt", session, "say **bold**", "-q"]
    with terminal(program, environment, columns=100, rows=10) as shown:
        assert shown.wait() == 0
        assert ("**bold**" in shown.text) != styled
        assert "Bash: ls" not in shown.text


def test_what_is_wider_than_the_terminal_goes_on_below_its_words() -> None:
    text = "- one **two three** four\n  12. one two\n> said so\n```\nno break in code\n```"
    assert render(text, 12).split("\n") == [
        f"• one {BOLD}two",
        f"  three{END} four",
        "  12. one",
        "      two",
        f"{DIM}│{END} said so",
        f"{CYAN}no break in code{END}",
    ]
