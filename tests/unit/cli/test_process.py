"""The program as a process of its own: signals, pipes, and what its start loads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit import fake_engine

PROGRAM = [sys.executable, "-m", "claude_mcp"]
PATIENCE_SECONDS = 20
HEAVY = {"mcp", "anyio", "asyncio", "pydantic", "logging", "subprocess", "tomllib"}


@contextmanager
def started(environment: dict[str, str], *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*PROGRAM, *argv], env=environment, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def signalled(
    environment: dict[str, str], program: Path, number: signal.Signals, *argv: str
) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr of a program that gets a signal when its work hangs."""
    with started(environment, *argv) as process:
        while "hanging" not in fake_engine.calls(program):
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, out, err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
@pytest.mark.parametrize("command", ["exec", "prompt"])
def test_a_signal_cancels_the_work_in_the_session(
    environment: dict[str, str],
    program: Path,
    project: Path,
    number: signal.Signals,
    code: int,
    command: str,
) -> None:
    fake_engine.add_session(program, "fix-tests", project)
    ended = signalled(environment, program, number, command, "fix-tests", "hang")
    assert ended == (code, b"", b"")
    assert fake_engine.calls(program)[-2:] == ["hanging", "cancelled"]


def test_an_interrupted_creation_is_rolled_back(
    environment: dict[str, str], program: Path, project: Path
) -> None:
    argv = ["create", str(project), "--image", "hang:latest"]
    assert signalled(environment, program, signal.SIGINT, *argv) == (130, b"", b"")
    assert fake_engine.calls(program)[-2:] == ["hanging", "rm"]


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_reader_that_has_enough_ends_the_program_quietly(
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


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["exec", "--help"], ["lst"]])
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


def test_commands_load_neither_mcp_nor_pydantic(environment: dict[str, str]) -> None:
    code = (
        "import sys\n"
        "from claude_mcp.cli import main\n"
        "assert main(['list']) == 0\n"
        "assert not {'mcp', 'pydantic'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
