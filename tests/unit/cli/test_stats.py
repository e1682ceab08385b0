"""What sessions take of their host, on a terminal and through a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminals import terminal
from tests.unit import fake_engine
from tests.unit.cli.conftest import Run

PROGRAM = [sys.executable, "-m", "claude_mcp"]
HEAD = "NAME       STATUS   CPU    MEMORY   OF     PROCESSES  DISK R/W      NETWORK IN/OUT"
LINE = "fix-tests  running  12.3%  142 MiB  2 GiB  21         0 B / 8 KiB   1.03 KiB / -"


def test_one_call_measures_all_sessions(
    run: Run, session: str, program: Path, project: Path
) -> None:
    fake_engine.add_session(program, "other", project)
    code, out, err = run("stats", "--json")
    found = json.loads(out)["sessions"]
    assert (code, err) == (0, "")
    assert fake_engine.calls(program).count("stats") == 1
    assert sorted(each["sessionName"] for each in found) == ["fix-tests", "other"]
    assert next(each for each in found if each["sessionId"] == session) == {
        "sessionId": session,
        "sessionName": "fix-tests",
        "status": "running",
        "cpuPercent": 12.34,
        "memoryBytes": 149422080,
        "memoryLimitBytes": 2 * 1024**3,
        "pids": 21,
        "diskReadBytes": 0,
        "diskWrittenBytes": 8190,
        "networkInBytes": 1050,
        "networkOutBytes": None,
        "engine": "docker",
    }


@pytest.mark.usefixtures("session")
def test_a_pipe_gets_a_whole_table(run: Run) -> None:
    code, out, err = run("stats", "fix-tests")
    assert (code, [line.split() for line in out.splitlines()], err) == (
        0, [HEAD.split(), LINE.split()], ""
    )  # fmt: skip


def test_a_session_that_ends_meanwhile_does_not_keep_the_others(
    run: Run, session: str, program: Path
) -> None:
    (program.parent / "ended").touch()
    code, out, _ = run("stats", "--json")
    assert (code, json.loads(out)["sessions"][0]["pids"]) == (0, 21)
    assert fake_engine.calls(program).count("stats") == 2


def test_a_stopped_session_is_not_measured(run: Run, session: str, program: Path) -> None:
    engine = fake_engine.Engine(program.parent)
    engine.save({**engine.containers()[0], "status": "exited"})
    code, out, _ = run("stats", session, "--json")
    (found,) = json.loads(out)["sessions"]
    assert (code, found["status"], found["pids"]) == (0, "stopped", None)
    assert "stats" not in fake_engine.calls(program)


def test_an_unknown_session_is_exit_code_3(run: Run, session: str) -> None:
    assert run("stats", "fix-test")[0] == 3


def test_a_repeated_measurement_ends_when_its_reader_does(
    environment: dict[str, str], session: str
) -> None:
    with subprocess.Popen(
        [*PROGRAM, "stats", "--json", "--watch", "0.1"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert [each["sessions"][0]["sessionId"] for each in lines] == [session, session]


@pytest.mark.usefixtures("session")
def test_a_terminal_shows_the_table_at_each_of_its_widths_and_is_given_back(
    environment: dict[str, str],
) -> None:
    words = [*PROGRAM, "stats", "--watch", "0.1"]
    with terminal(words, environment, columns=100, rows=10) as shown:
        shown.until(lambda text: LINE.split()[:3] == text.partition("\n")[2].split()[:3])
        shown.resize(60, 10)
        shown.until(lambda text: "DISK" not in text and "fix-tests" in text)
        assert max(map(len, shown.text.split("\n"))) <= 60
        shown.type("q")
        assert shown.wait() == 0
