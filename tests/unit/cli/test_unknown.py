"""A session that does not exist is the same exit code, with the nearest name, for every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_mcp.cli.grammar import COMMANDS
from claude_mcp.cli.parser import command_parser
from tests.unit.cli.conftest import Run

ID = "6b0b0f3e-0000-4000-8000-000000000001"
FURTHER = {
    "command": [ID], "stop-command": [ID], "exec": ["true"], "prompt": ["hi"],
    "respond": ["r", "--allow"],
}  # fmt: skip
NEED_A_TERMINAL = {"attach", "shell"}
NAMING = [
    name
    for name in COMMANDS
    if any(each.metavar == "SESSION" for each in command_parser(name)._actions)
    and name not in NEED_A_TERMINAL
]


@pytest.mark.parametrize("command", NAMING)
def test_a_misspelt_session_is_exit_code_3_with_the_nearest_name(
    run: Run, session: str, command: str
) -> None:
    code, out, err = run(command, "fix-test", *FURTHER.get(command, []))
    assert (code, out) == (3, "")
    assert err.splitlines()[:2] == [
        "claude-mcp: There is no session 'fix-test'.",
        "Did you mean 'fix-tests'?",
    ]


@pytest.mark.parametrize(
    "words",
    [("copy", "fix-test:/x", "."), ("logs", "-f", "fix-test"), ("turn", "--follow", "fix-test")],
)
def test_other_ways_to_name_a_session_are_the_same(
    run: Run, session: str, words: tuple[str, ...]
) -> None:
    code, _, err = run(*words)
    assert (code, "Did you mean 'fix-tests'?" in err) == (3, True)


def test_the_only_session_of_this_directory_is_destroyed_by_a_dot(
    run: Run, session: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("destroy", ".")[0] == 3
    monkeypatch.chdir(project)
    assert run("destroy", ".") == (0, f"{session}\n", "")
