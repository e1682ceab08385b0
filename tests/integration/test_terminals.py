"""``attach`` and ``shell``: programs of a session on a person's terminal."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.engine_fixtures import Bare, Run
from tests.peers import script
from tests.terminals import terminal

pytestmark = pytest.mark.per_engine


@pytest.fixture
def session(cli: Run, project: Path, name: str) -> str:
    done = cli("create", str(project), "--name", name)
    assert done.returncode == 0, done.stderr
    return name


def test_a_person_talks_to_claude_and_the_conversation_goes_on(
    cli: Run, cli_argv: list[str], environ: dict[str, str], session: str
) -> None:
    assert cli("prompt", session, script({"say": "the first answer"})).returncode == 0
    with terminal([*cli_argv, "attach", session], environ) as attached:
        attached.until("● the first answer")
        attached.until("⏵⏵")
        attached.type(script({"say": "typed"}))
        attached.until('"typed"')
        attached.type("\r")
        attached.until("● typed")
        refused = cli("prompt", session, "hello")
        assert refused.returncode == 4
        assert "Somebody is attached to session" in refused.stderr
        assert cli("exec", session, "echo still here").stdout == "still here\n"
        with terminal([*cli_argv, "attach", session], environ) as second:
            assert second.wait() == 4
            assert "Somebody is attached" in second.text
        attached.type("/exit")
        attached.until("/exit")
        attached.type("\r")
        assert attached.wait() == 0
        assert "its next prompt continues the conversation" in attached.text
    remembered = cli("prompt", session, script({"recall": True})).stdout
    assert "the first answer" in remembered
    assert '"typed"' in remembered


async def test_a_terminal_that_was_killed_leaves_nothing_behind(
    cli: Run, cli_argv: list[str], environ: dict[str, str], session: str, bare: Bare
) -> None:
    container = bare.containers(session)[0]

    def attached_programs() -> list[str]:
        lines = bare.processes(container).splitlines()
        return [line for line in lines if line.startswith("claude ") and "--print" not in line]

    with terminal([*cli_argv, "attach", session], environ) as attached:
        attached.until("⏵⏵")
        with anyio.fail_after(60):
            while len(attached_programs()) != 1:  # Claude Code forks before it starts a program
                await anyio.sleep(0.1)
        attached.kill()
    with anyio.fail_after(60):
        while attached_programs():
            await anyio.sleep(0.1)
    done = cli("prompt", session, script({"say": "here again"}))
    assert done.stdout == "here again\n", done.stderr


def test_a_shell_has_the_terminal_s_size_and_its_own_exit_code(
    cli_argv: list[str], environ: dict[str, str], session: str
) -> None:
    with terminal([*cli_argv, "shell", session], environ, columns=90, rows=20) as shell:
        shell.until("/workspace")
        shell.type("stty size; echo $TERM\r")
        shell.until("20 90\nxterm-256color")
        # What is typed reaches the program once it has begun.
        shell.type("sh -c 'echo be''gun; exec sleep 100'\r")
        shell.until("begun")
        shell.type("\x03")
        shell.until(lambda text: "^C" in text and text.endswith(("$", "#")))
        # On a busy machine, an engine's client misses a change of size while it is starting.
        for columns in (70, 71, 72):
            shell.resize(columns, 25)
            shell.type("clear\r")
            shell.until(lambda text: text.endswith(("$", "#")) and "20 90" not in text)
            shell.type("stty size\r")
            shell.until(lambda text: "stty size\n" in text and text.endswith(("$", "#")))
            if f"25 {columns}" in shell.text:
                break
        assert f"25 {columns}" in shell.text
        shell.type("exit 7\r")
        assert shell.wait() == 7


def test_without_a_terminal_both_say_what_to_use_instead(cli: Run, session: str) -> None:
    for command, instead in (("attach", "claude-mcp prompt"), ("shell", "claude-mcp exec")):
        done = cli(command, session)
        assert done.returncode == 2
        assert instead in done.stderr
