"""The program as a process of its own: signals, pipes, and what its start loads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit import fake_engine

PROGRAM = [sys.executable, "-m", "claude_mcp"]
PATIENCE_SECONDS = 60
TURN = "6b0b0f3e-0000-4000-8000-000000000000"
ABSENT = {
    *("mcp", "pydantic", "anyio", "asyncio", "csv", "shutil", "ssl", "socket", "zipfile"),
    *("difflib", "tomllib"),
}
"""What a list that asks no session does not load."""
ABSENT_FROM_LISTS = {
    *("mcp", "pydantic", "zipfile", "claude_mcp.server", "claude_mcp.sessions.create"),
    *("claude_mcp.sessions.providers.resolve", "claude_mcp.sessions.paths.policy"),
    *("claude_mcp.sessions.turns", "claude_mcp.sessions.workspaces", "claude_mcp.sessions.files"),
}
"""What no list loads."""
HEAVY = {"mcp", "anyio", "asyncio", "pydantic", "logging", "subprocess", "tomllib"}


@contextmanager
def started(environment: dict[str, str], *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*PROGRAM, *argv], env=environment, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[bytes], program: Path, word: str) -> None:
    """Wait until the fake engine has noted it; the program must not end before."""
    while word not in fake_engine.calls(program):
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.005)


def signalled(
    environment: dict[str, str], program: Path, number: signal.Signals, *argv: str
) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr of a program that gets a signal when its work hangs."""
    with started(environment, *argv) as process:
        wait_for(process, program, "hanging")
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, out, err


SIGNALS = pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["int", "term", "hup"],
)


@SIGNALS
@pytest.mark.usefixtures("session")
def test_a_signal_stops_a_command_in_the_session(
    environment: dict[str, str], program: Path, number: signal.Signals, code: int
) -> None:
    ended = signalled(environment, program, number, "exec", "fix-tests", "hang")
    assert ended == (code, b"", b"claude-mcp: the command is stopped\n")
    assert fake_engine.work(program)[-1] == "stopped"


@SIGNALS
@pytest.mark.usefixtures("session")
def test_a_signal_interrupts_the_turn_of_a_prompt(
    environment: dict[str, str], program: Path, number: signal.Signals, code: int
) -> None:
    argv = ["prompt", "fix-tests", "hang", "--turn-id", TURN]
    said = f"claude-mcp: turn {TURN} is cancelled; the conversation is kept\n"
    assert signalled(environment, program, number, *argv) == (code, b"", said.encode())
    assert fake_engine.work(program)[-3:] == ["hanging", "left", "interrupted"]


@pytest.mark.usefixtures("session")
def test_a_turn_that_ended_before_the_signal_is_not_reported_as_cancelled(
    environment: dict[str, str], program: Path
) -> None:
    argv = ["prompt", "fix-tests", "hang and end", "--turn-id", TURN]
    _, _, said = signalled(environment, program, signal.SIGINT, *argv)
    assert b"is cancelled" not in said


@pytest.mark.usefixtures("session")
def test_a_second_signal_ends_the_program_during_the_interrupt(
    environment: dict[str, str], program: Path
) -> None:
    with started(environment, "prompt", "fix-tests", "hang on") as process:
        wait_for(process, program, "hanging")
        process.send_signal(signal.SIGINT)
        wait_for(process, program, "interrupted")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, err) == (
        143,
        b"",
        b"claude-mcp: stopped before clean-up was complete\n",
    )


def status(environment: dict[str, str]) -> str:
    """Of the latest turn."""
    argv = [*PROGRAM, "turn", "fix-tests", "--wait=0", "--json"]
    done = subprocess.run(argv, env=environment, capture_output=True, check=False)
    return str(json.loads(done.stdout)["status"])


@pytest.mark.usefixtures("session")
def test_a_signal_while_following_a_turn_does_not_interrupt_it(
    environment: dict[str, str], program: Path
) -> None:
    detached = [*PROGRAM, "prompt", "fix-tests", "hang", "--detach"]
    subprocess.run(detached, env=environment, capture_output=True, check=True)
    ended = signalled(environment, program, signal.SIGINT, "turn", "fix-tests")
    assert ended == (130, b"", b"claude-mcp: interrupted; the turn, if it runs, goes on\n")
    assert fake_engine.work(program)[-2:] == ["hanging", "left"]
    assert status(environment) == "running"


@pytest.mark.usefixtures("session")
def test_a_turn_runs_on_when_its_program_is_killed(
    environment: dict[str, str], program: Path
) -> None:
    ended = signalled(environment, program, signal.SIGKILL, "prompt", "fix-tests", "hang")
    assert ended == (-signal.SIGKILL, b"", b"")
    assert status(environment) == "running"


def test_an_interrupted_creation_is_rolled_back(
    environment: dict[str, str], program: Path, project: Path
) -> None:
    argv = ["create", str(project), "--image", "hang:latest"]
    said = b"claude-mcp: interrupted; no session was created\n"
    assert signalled(environment, program, signal.SIGINT, *argv) == (130, b"", said)
    assert fake_engine.work(program)[-2:] == ["hanging", "rm"]


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_closed_pipe_ends_the_program_quietly(
    environment: dict[str, str], unbuffered: bool
) -> None:
    more = {"PYTHONUNBUFFERED": "1"} if unbuffered else {}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROGRAM, "list", "--json"],
        env={**environment, **more},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_no_error(environment: dict[str, str], closed: str) -> None:
    script = f'exec "$@" {closed}'
    argv = ["sh", "-c", script, "sh", *PROGRAM, "list"]
    done = subprocess.run(argv, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.usefixtures("session")
def test_a_locale_of_ascii_changes_no_text(environment: dict[str, str], tmp_path: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    def run(*argv: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [*PROGRAM, *argv], env={**environment, **ascii_only}, capture_output=True, check=False
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    code, _, said = run("create", str(tmp_path / "gr\u00fc\u00dfe"))
    assert code == 2
    assert "gr\u00fc\u00dfe' does not exist" in said
    assert run("exec", "fix-tests", "echo gr\u00fc\u00dfe") == (0, "gr\u00fc\u00dfe\n", "")


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["turn", "--help"], ["prompt", "--help"], ["lst"]]
)
def test_help_loads_nothing_heavy(environment: dict[str, str], argv: list[str]) -> None:
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from claude_mcp.cli import main\n"
        "main(sys.argv[1:])\n"
        "sys.stderr.write('\\n' + ' '.join(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], env=environment, capture_output=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stderr.decode().splitlines()[-1].split()}
    assert not loaded & HEAVY


LIMITS = (
    "engine.docker_cli.DESCRIBE_SECONDS",
    "engine.pulse.QUIET_SECONDS",
    "sessions.activity.ANSWER_SECONDS",
    "sessions.activity.TOTAL_SECONDS",
)
"""After these times, a list that asks sessions does without, or asks more."""


def loaded(environment: dict[str, str], *argv: str, limits: Sequence[str] = ()) -> set[str]:
    """The modules that a command has loaded at its end, however slow its engine is."""
    lines = ["import sys", "before = set(sys.modules)"]
    for name in ("sessions.glance.PATIENCE_SECONDS", *limits):
        module, _, constant = name.rpartition(".")
        lines.append(f"import claude_mcp.{module} as module")
        lines.append(f"module.{constant} = {PATIENCE_SECONDS}")
    lines += [
        "from claude_mcp.cli import main",
        "assert main(sys.argv[1:]) == 0",
        "sys.stderr.write('\\n' + ' '.join(set(sys.modules) - before))",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), *argv],
        env=environment,
        capture_output=True,
        check=True,
    )
    return set(done.stderr.decode().splitlines()[-1].split())


def test_a_list_of_nothing_loads_little_and_asks_the_engine_twice(
    environment: dict[str, str], program: Path
) -> None:
    del environment["CLAUDE_MCP_CONFIG"]  # whose file is read, were it empty
    modules = loaded(environment, "list")
    assert sorted(modules & ABSENT) == []
    assert sorted(fake_engine.calls(program)) == ["ps", "version"]


@pytest.mark.usefixtures("session")
def test_a_quick_list_loads_little_and_asks_the_engine_once_more(
    environment: dict[str, str], program: Path
) -> None:
    del environment["CLAUDE_MCP_CONFIG"]  # whose file is read, were it empty
    modules = loaded(environment, "list", "--quick")
    assert sorted(modules & ABSENT) == []
    assert sorted(fake_engine.calls(program)) == ["container", "ps", "version"]


@pytest.mark.usefixtures("session")
def test_a_list_repeats_no_call_and_loads_nothing_that_only_other_commands_need(
    environment: dict[str, str], program: Path
) -> None:
    modules = loaded(environment, "list", limits=LIMITS)
    assert sorted(fake_engine.calls(program)) == ["container", "exec", "ps", "version"]
    assert sorted(modules & ABSENT_FROM_LISTS) == []


@pytest.mark.usefixtures("session")
def test_commands_load_neither_the_server_nor_what_it_needs(environment: dict[str, str]) -> None:
    code = (
        "import sys\n"
        "from claude_mcp.cli import main\n"
        "assert main(['list']) == 0\n"
        "assert main(['prompt', 'fix-tests', 'hello']) == 0\n"
        "assert main(['turn', 'fix-tests', '--cursor', '0']) == 0\n"
        "assert main(['cancel', 'fix-tests']) == 0\n"
        "assert main(['list', '--json']) == 0\n"
        "assert main(['turn', 'fix-tests', '--json']) == 0\n"
        "assert main(['destroy', 'fix-tests', '--json']) == 0\n"
        "assert not {'mcp', 'pydantic', 'claude_mcp.server'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
