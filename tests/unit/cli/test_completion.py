"""Completion, tried in real shells on a terminal."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_mcp.cli.grammar import ALIASES, COMMANDS
from tests.terminals import terminal
from tests.unit import fake_engine
from tests.unit.cli.conftest import Run

COMPLETE = """
eval "$(claude-mcp completion bash)"
COMP_WORDS=(claude-mcp "$@")
COMP_CWORD=$#
_claude_mcp
printf '%s\\n' "${COMPREPLY[@]}"
"""
REQUIRED = bool(os.environ.get("CLAUDE_MCP_REQUIRE_SHELLS"))
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(claude-mcp completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'eval "$(claude-mcp completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "claude-mcp completion fish | source"),
}
Complete = Callable[[str, str], None]
CLEAR_LINE = "\x15"
PROMPT = "ready> "


@pytest.fixture
def environment_with_program(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The shell finds our program as users do."""
    program = tmp_path / "bin" / "claude-mcp"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m claude_mcp "$@"\n')
    program.chmod(0o755)
    return {**environment, "PATH": f"{program.parent}:{environment['PATH']}"}


def completed(environment: dict[str, str], *words: str) -> list[str]:
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "--norc", "-c", COMPLETE, "bash", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def test_commands_and_their_other_names(environment_with_program: dict[str, str]) -> None:
    assert completed(environment_with_program, "") == [*COMMANDS, *ALIASES]
    assert completed(environment_with_program, "--engine", "docker", "exe") == ["exec", "execute"]


def test_options_of_a_command(environment_with_program: dict[str, str]) -> None:
    assert completed(environment_with_program, "create-session", "--net") == ["--network"]
    assert completed(environment_with_program, "--de") == ["--debug"]


def test_sessions_are_named_where_one_is_taken(
    environment_with_program: dict[str, str], session: str, program: Path, project: Path
) -> None:
    fake_engine.add_session(program, "fix it", project)
    fake_engine.add_session(program, "evil\n\x1b[2J", project)
    found = completed(environment_with_program, "execute", "fi")
    assert sorted(found) == ["fix-tests", "fix\\ it"]
    assert completed(environment_with_program, "create", "fi") == [""]


@pytest.fixture(params=SHELLS)
def line(
    request: pytest.FixtureRequest,
    environment_with_program: dict[str, str],
    session: str,
    program: Path,
    project: Path,
) -> Iterator[Complete]:
    """Types a line that ends with Tab in a real shell, and waits until it was completed.

    Four sessions: fix-tests, one with a blank in its name, and one that no terminal may see.
    """
    argv, script = SHELLS[request.param]
    if shutil.which(argv[0]) is None:
        if REQUIRED:
            pytest.fail(f"There is no {argv[0]} here.")
        pytest.skip(f"there is no {argv[0]} here")
    fake_engine.add_session(program, "od d", project)
    fake_engine.add_session(program, "evil\n\x1b[2J", project)
    environment = {**environment_with_program, "PS1": PROMPT, "fish_greeting": ""}
    with terminal(argv, environment, columns=400, rows=40) as opened:
        if request.param == "fish":
            opened.type(f"function fish_prompt; echo -n '{PROMPT}'; end\r")
        opened.until(lambda text: text.endswith(PROMPT.strip()))
        opened.type(f"{script}\r")
        opened.type("echo taken in\r")
        opened.until("\ntaken in")

        def complete(typed: str, becomes: str) -> None:
            opened.type(f"{CLEAR_LINE}{typed}\t")
            opened.until(f"{PROMPT}{becomes}")

        yield complete


def test_a_real_shell_completes_commands_options_words_and_sessions(
    line: Complete, program: Path
) -> None:
    line("claude-mcp dis", "claude-mcp discard")
    line("claude-mcp create-session --net", "claude-mcp create-session --network")
    line("claude-mcp image ch", "claude-mcp image check")
    line("claude-mcp install claude-d", "claude-mcp install claude-desktop")
    line("claude-mcp destroy fi", "claude-mcp destroy fix-tests")
    line("claude-mcp execute od", r"claude-mcp execute od\ d")
    line(f"claude-mcp --engine {program} rm fi", f"claude-mcp --engine {program} rm fix-tests")


def test_an_engine_that_does_not_answer_completes_nothing_and_says_nothing(
    run: Run, program: Path
) -> None:
    program.write_text("#!/bin/sh\nexit 1\n")
    assert run("completion", "names") == (1, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_knows_every_command(run: Run, shell: str) -> None:
    code, out, _ = run("completion", shell)
    assert code == 0
    assert [
        name for name in (*COMMANDS, *ALIASES) if name not in out.replace("'", " ").split()
    ] == []
    assert re.search("@[A-Z]+@", out) is None
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=out, text=True, check=True, timeout=60)


def test_another_shell_is_refused(run: Run) -> None:
    code, out, err = run("completion", "tcsh")
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == "claude-mcp: There is no completion for 'tcsh'."
