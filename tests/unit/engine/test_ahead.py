"""Engine calls that have begun before anybody needs their answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import anyio
import pytest

from claude_mcp.engine import ahead, process

ENVIRONMENT = {"PATH": os.environ["PATH"]}
LONG = 30.0
"""How long a program lasts that is to be killed; no test waits for it."""

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def none_is_left() -> Iterator[None]:
    yield
    ahead.discard_all()


def program(code: str) -> tuple[str, ...]:
    return (sys.executable, "-IS", "-c", code)


def counting(file: Path, more: str = "") -> tuple[str, ...]:
    """A program that notes in ``file`` that it was started."""
    return program(f"with open({str(file)!r}, 'a') as file: file.write('x')\n{more}")


async def test_what_has_begun_is_taken_over_and_not_started_again(tmp_path: Path) -> None:
    argv = counting(
        tmp_path / "started", "import sys; sys.stderr.write('e'); print('o'); sys.exit(3)"
    )
    ahead.begin(argv, ENVIRONMENT)
    completed = await process.run(argv, env=ENVIRONMENT, timeout=LONG)
    assert completed == process.Completed(argv, 3, b"o\n", b"e")
    assert (tmp_path / "started").read_text() == "x"


async def test_an_answer_is_taken_once(tmp_path: Path) -> None:
    argv = counting(tmp_path / "started")
    ahead.begin(argv, ENVIRONMENT)
    for _ in range(2):
        await process.run(argv, env=ENVIRONMENT)
    assert (tmp_path / "started").read_text() == "xx"


async def test_an_answer_that_was_read_already_is_taken_over(tmp_path: Path) -> None:
    argv = counting(tmp_path / "started", "print('o')")
    begun = ahead.begin(argv, ENVIRONMENT)
    assert begun is not None
    assert begun.finish(LONG) == 0
    completed = await process.run(argv, env=ENVIRONMENT)
    assert completed.stdout == b"o\n"
    assert (tmp_path / "started").read_text() == "x"


@pytest.mark.parametrize("environment", [{}, {**ENVIRONMENT, "MORE": "1"}])
async def test_a_call_with_another_environment_is_another_call(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    argv = counting(tmp_path / "started", "import os; print(os.environ.get('MORE'))")
    begun = ahead.begin(argv, ENVIRONMENT)
    assert begun is not None
    begun.finish(LONG)
    completed = await process.run(argv, env=environment)
    assert completed.out.strip() == str(environment.get("MORE"))
    assert (tmp_path / "started").read_text() == "xx"


def test_the_same_call_begins_once(tmp_path: Path) -> None:
    argv = counting(tmp_path / "started")
    begun = ahead.begin(argv, ENVIRONMENT)
    assert ahead.begin(argv, ENVIRONMENT) is begun


def test_a_program_that_cannot_be_started_is_nothing_that_has_begun() -> None:
    assert ahead.begin(("/no/such/program",), ENVIRONMENT) is None


def test_a_late_program_can_be_waited_for_again(tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    begun = ahead.begin(program(f"open({str(fifo)!r}).read(); print('o')"), ENVIRONMENT)
    assert begun is not None
    with pytest.raises(ahead.Late):
        begun.finish(0)
    fifo.write_text("go")
    assert begun.finish(LONG) == 0
    assert begun.out.value() == b"o\n"


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_what_nobody_takes_is_ended_with_what_it_started() -> None:
    # The inner program holds the pipes, as a connection helper of an engine's client would.
    inner = f"import time; time.sleep({LONG})"
    code = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-ISc', {inner!r}])\n"
        "print(os.getpid(), child.pid, flush=True)\n"
    )
    begun = ahead.begin(program(code), ENVIRONMENT)
    assert begun is not None
    while not begun.out.total:
        with pytest.raises(ahead.Late):
            begun.finish(0.05)
    pids = [int(pid) for pid in begun.out.value().split()]
    ahead.discard_all()
    assert not is_running(pids[0])
    assert ahead.take(begun.argv, ENVIRONMENT) is None
    with anyio.fail_after(LONG / 2):
        while is_running(pids[1]):
            await anyio.sleep(0.01)


async def test_a_program_that_is_taken_over_has_the_time_limit_of_the_call() -> None:
    code = f"import os, time; os.write(2, b'why'); time.sleep({LONG})"
    argv = program(code)
    begun = ahead.begin(argv, ENVIRONMENT)
    assert begun is not None
    while not begun.err.total:
        with pytest.raises(ahead.Late):
            begun.finish(0.05)
    with pytest.raises(process.ProcessTimeout) as raised:
        await process.run(argv, env=ENVIRONMENT, timeout=0.1)
    assert raised.value.stderr == "why"
    assert not is_running(begun.pid)


async def test_a_cancelled_call_ends_the_program_that_it_took_over() -> None:
    argv = program(f"import time; time.sleep({LONG})")
    begun = ahead.begin(argv, ENVIRONMENT)
    assert begun is not None
    with anyio.move_on_after(0.1) as scope:
        await process.run(argv, env=ENVIRONMENT, timeout=LONG)
    assert scope.cancelled_caught
    assert not is_running(begun.pid)
