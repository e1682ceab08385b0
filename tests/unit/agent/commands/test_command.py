"""One shell command: streams apart, bounded, killed whole."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.commands import command as commands
from claude_mcp.agent.commands.command import Command
from claude_mcp.agent.processes import killing
from claude_mcp.agent.processes.killing import exit_code
from claude_mcp.contract import operations
from claude_mcp.contract.redaction import redactor
from tests.unit.conftest import open_files

if TYPE_CHECKING:
    from tests.unit.conftest import Lifeline

PATIENCE_SECONDS = 60.0


@pytest.fixture
def activity() -> Iterator[str]:
    """A command's id. The whole machine is searched, so no two tests may share one."""
    name = str(uuid.uuid4())
    yield name
    killing.kill(f"command-{name}", 0.0)


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "TERM_GRACE_SECONDS", 0.05)


def start(
    activity: str,
    command: str,
    *,
    limit: int = 100_000,
    environment: Mapping[str, str] = {},
    **options: Any,
) -> Command:
    args = operations.Command(command, limit, **options)
    started = Command(activity, args, "/nonexistent")
    started.start({"PATH": os.environ["PATH"], **environment})
    return started


def finish(
    command: Command,
    timeout: float | None = PATIENCE_SECONDS,
    *,
    wait: float | None = None,
    stays: bool = False,
) -> dict[str, Any]:
    """What its caller is answered; unless it ``stays``, the command is stopped then."""
    command.args = command.args._replace(timeout_seconds=timeout)
    answers: list[dict[str, Any]] = []
    ended: list[None] = []

    def release() -> None:
        answers.append(state(command))
        if not stays:
            command.stop()

    command.attend(wait, lambda: False, lambda: ended.append(None), release)
    assert (len(answers), len(ended)) == (1, 1)
    return answers[0]


def state(command: Command) -> dict[str, Any]:
    """The result without what differs each time."""
    with command.changed:
        answer = command.result()
    assert answer.duration_ms >= 0
    names = (*result(), "notes")
    return {**{name: getattr(answer, name) for name in names}, "notes": list(answer.notes)}


def result(
    exit_code: int | None = 0,
    stdout: str = "",
    stderr: str = "",
    *,
    timed_out: bool = False,
    status: str = "completed",
) -> dict[str, Any]:
    return {
        "exit_code": exit_code,
        "stdout": stdout,
        "stderr": stderr,
        "stdout_bytes": len(stdout.encode()),
        "stderr_bytes": len(stderr.encode()),
        "timed_out": timed_out,
        "status": "stopped" if timed_out else status,
        "notes": [],
    }


def test_the_streams_and_the_exit_code_come_apart(activity: str) -> None:
    command = start(activity, "echo out; echo err >&2; exit 3")
    assert finish(command) == result(3, "out\n", "err\n")


@pytest.mark.parametrize(
    ("command", "stdout"),
    [
        ("cat", ""),
        ("printf '%s' \"$PATH\"", os.environ["PATH"]),
        ("printf 'é\\n%s' '$HOME `id`'", "é\n$HOME `id`"),
        ("# only a comment", ""),
        ("cd / && pwd", "/\n"),
    ],
)
def test_a_command_is_a_line_for_the_shell(activity: str, command: str, stdout: str) -> None:
    assert finish(start(activity, command)) == result(0, stdout)


def test_a_command_that_looks_like_an_option_is_none(activity: str) -> None:
    answer = finish(start(activity, "--version || echo failed"))
    assert (answer["exit_code"], answer["stdout"]) == (0, "failed\n")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
        ("exit 255", 255),
        ("no-such-program", 127),
        ("/etc/passwd", 126),
        ("syntax ( error", 2),
    ],
)
def test_the_exit_code_is_the_one_a_shell_would_tell(
    activity: str, command: str, code: int
) -> None:
    assert finish(start(activity, command))["exit_code"] == code
    assert (exit_code(-9), exit_code(0), exit_code(77)) == (137, 0, 77)


def test_output_that_is_not_text_is_replaced(activity: str) -> None:
    answer = finish(start(activity, r"printf '\377a'"))
    assert (answer["stdout"], answer["stdout_bytes"]) == ("\N{REPLACEMENT CHARACTER}a", 2)


def test_much_output_is_bounded_at_its_source(activity: str) -> None:
    lines = "head -c 5000000 /dev/zero | tr '\\0' "
    command = start(activity, f"{lines} a; {lines} b; echo quiet >&2", limit=10)
    assert finish(command) == {
        **result(stderr="quiet\n"),
        "stdout": "aaaaa\n[... 9999990 bytes left out ...]\nbbbbb",
        "stdout_bytes": 10_000_000,
    }


def test_both_streams_flow_at_the_same_time(activity: str) -> None:
    command = start(
        activity,
        "head -c 1000000 /dev/zero | tr '\\0' e >&2 & head -c 1000000 /dev/zero | tr '\\0' o; wait",
        limit=3_000_000,
    )
    assert finish(command) == result(0, "o" * 1_000_000, "e" * 1_000_000)


def test_a_command_in_a_directory(activity: str, tmp_path: Path) -> None:
    command = start(activity, "pwd", workdir=str(tmp_path))
    assert finish(command) == result(0, f"{tmp_path}\n")


@pytest.mark.parametrize(
    ("workdir", "error"),
    [("missing", FileNotFoundError), ("file", NotADirectoryError)],
)
def test_a_directory_that_is_none_starts_nothing_and_leaves_nothing_open(
    activity: str, tmp_path: Path, workdir: str, error: type[OSError]
) -> None:
    (tmp_path / "file").write_text("")
    before = open_files()
    with pytest.raises(error):
        start(activity, "x" * 200_000, workdir=str(tmp_path / workdir))
    assert open_files() <= before


def test_a_command_longer_than_an_argument_may_be_is_run_as_well(
    activity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no directory for temporary files, and may remove what it finds there."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    long = f"printf '%s' '{'é' * 100_000}' | wc -m; exit 4"
    assert len(long.encode()) > 128 * 1024
    before = open_files()
    command = start(activity, f"export LC_ALL=C.UTF-8; rm -rf '{tmp_path}'; {long}")
    assert finish(command) == result(4, "100000\n")
    assert open_files() <= before


def test_a_command_that_takes_too_long_is_killed_and_what_it_said_is_kept(
    activity: str, lifeline: Lifeline
) -> None:
    command = start(activity, f"{lifeline.hold}; echo said; echo ready >&9; sleep 1000")
    lifeline.line()
    assert finish(command, 0.2) == result(124, "said\n", timed_out=True)
    assert lifeline.end() == ""


@pytest.mark.parametrize(
    "hiding",
    [
        "sleep 1000 &",
        "setsid sleep 1000 &",
        "(setsid sleep 1000 &); true;",
        "nohup sleep 1000 >/dev/null 2>&1 &",
        "env -i sh -c 'sleep 1000; true' &",
        "trap '' TERM; sleep 1000 &",
    ],
)
def test_a_cancelled_command_takes_its_children_with_it(
    activity: str, lifeline: Lifeline, hiding: str
) -> None:
    command = start(activity, f"{lifeline.hold}; {hiding} echo ready >&9; wait; sleep 1000")
    answers: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: answers.append(finish(command)))
    waiting.start()
    lifeline.line()
    command.stop()
    waiting.join(PATIENCE_SECONDS)
    assert [answer["status"] for answer in answers] == ["stopped"]
    assert answers[0]["exit_code"] in (137, 143)
    assert lifeline.end() == ""


def test_a_command_that_replaced_itself_without_its_environment_is_killed(
    activity: str, lifeline: Lifeline
) -> None:
    """As a shell does by itself with its last command: ``env -i program``."""
    cleared = "exec env -i sh -c 'echo $$ >&9; setsid sleep 1000 & wait'"
    command = start(activity, f"{lifeline.hold}; {cleared}")
    pid = int(lifeline.line())
    answers: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: answers.append(finish(command, 0.0)), daemon=True)
    waiting.start()
    waiting.join(PATIENCE_SECONDS)
    in_time = list(answers)
    if waiting.is_alive():
        os.kill(pid, signal.SIGKILL)
    waiting.join()
    assert in_time == [result(124, timed_out=True)]
    assert lifeline.end() == ""


def test_a_command_can_be_cancelled_before_anybody_waits(activity: str, lifeline: Lifeline) -> None:
    command = start(activity, f"{lifeline.hold}; echo ready >&9; sleep 1000")
    lifeline.line()
    command.stop()
    command.stop()
    answer = finish(command)
    assert answer["status"] == "stopped"
    assert lifeline.end() == ""


def test_a_command_that_has_ended_cannot_be_cancelled(activity: str) -> None:
    command = start(activity, "exit 0")
    assert finish(command) == result(0)
    command.stop()


def test_background_children_of_a_finished_command_live_on(
    activity: str, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The child still holds the output when its shell has ended, until it has been redirected.
    monkeypatch.setattr(commands, "DRAIN_SECONDS", PATIENCE_SECONDS)
    command = start(activity, f"{lifeline.hold}; sleep 1000 >/dev/null 2>&1 & echo started")
    assert finish(command) == result(0, "started\n")
    assert lifeline.held
    killing.kill(command.activity, 0.0)
    assert lifeline.end() == ""


def test_a_background_child_that_holds_the_output_does_not_hold_up_the_answer(
    activity: str, lifeline: Lifeline
) -> None:
    command = start(activity, f"{lifeline.hold}; sleep 1000 & echo started; exit 6")
    assert finish(command, None) == result(6, "started\n", status="left_running")
    assert state(command) == result(6, "started\n", status="stopped")
    assert lifeline.end() == ""


def test_a_command_may_close_its_streams_and_go_on(activity: str) -> None:
    assert finish(start(activity, "exec >&- 2>&-; sleep 0.01; exit 7")) == result(7)


def test_nothing_stays_open_behind_a_command(activity: str) -> None:
    before = open_files()
    finish(start(activity, "echo out"))
    finish(start(activity, "sleep 1000"), 0.0)
    assert open_files() <= before


# Secrets in its output.


def test_a_secret_in_the_output_is_hidden_also_where_the_middle_is_left_out(activity: str) -> None:
    key = "sk-in-the-output-" + "0123456789" * 3
    redactor.add(key)
    hidden = finish(start(activity, f"echo {key}; echo {key} >&2"))
    assert (hidden["stdout"], hidden["stderr"]) == ("[redacted]\n", "[redacted]\n")
    cut = finish(start(activity, f"printf a{key}; printf {'x' * 1000}; printf {key}b", limit=40))
    note = f"[... {1000 + 2 * len(key) + 2 - 40} bytes left out ...]"
    assert cut["stdout"] == f"a[redacted]\n{note}\n[redacted]b"
