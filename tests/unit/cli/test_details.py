"""All that is known of one session, and what is said when something is not known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fake_engine
from tests.unit.cli.conftest import Run
from tests.unit.fake_engine import COMMAND_ID


@pytest.fixture
def shown(run: Run, session: str) -> dict[str, Any]:
    run("prompt", session, "ask 1", "--detach")
    code, out, err = run("show", session, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_json_has_the_entry_of_a_list_and_what_only_the_session_knows(
    shown: dict[str, Any], run: Run
) -> None:
    (entry,) = json.loads(run("list", "--json")[1])["sessions"]
    assert {name: shown[name] for name in entry} == entry
    assert shown["workspace"] == "bind"
    latest = [(each["command"], each["status"]) for each in shown["latestCommands"]]
    assert latest == [("npm run\x1b dev", "running"), ("ls", "completed")]
    assert shown["limits"] == {"memoryBytes": 2**31, "cpus": 1.5, "pids": None}
    assert [each["requestId"] for each in shown["questions"]] == ["q1"]


def test_text_names_what_is_asked_and_the_limits(run: Run, session: str) -> None:
    run("prompt", session, "ask 1", "--detach")
    code, out, err = run("show", "fix-tests")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == f"session       fix-tests ({session}), running"
    at = lines.index(f"commands      {COMMAND_ID} running: npm run\x1b dev")
    assert lines[at + 1] == f"              {COMMAND_ID} completed, exit code 0: ls"
    assert "limits        memory 2 GiB, 1.5 CPUs" in lines
    assert "questions     q1 Claude asks for permission: Bash" in lines
    assert all(line[:14].strip() or line.startswith(" " * 14) for line in lines)


def test_what_a_session_cannot_tell_is_said_with_the_reason(run: Run, session: str) -> None:
    found = json.loads(run("show", session, "--json")[1])
    assert found["changes"] is None
    assert "changes" in found["problems"]
    assert f"changes: {found['problems']['changes']}" in run("show", session)[1]


def test_a_stopped_session_is_shown_and_not_started(run: Run, session: str, program: Path) -> None:
    engine = fake_engine.Engine(program.parent)
    engine.save({**engine.containers()[0], "status": "exited"})
    code, out, _ = run("show", session, "--json")
    assert (code, json.loads(out)["status"], json.loads(out)["turns"]) == (0, "stopped", None)
    assert "start" not in fake_engine.calls(program)


def test_an_unknown_session_is_exit_code_3_with_the_nearest_name(run: Run, session: str) -> None:
    code, out, err = run("show", "fix-test")
    assert (code, out) == (3, "")
    assert "Did you mean 'fix-tests'?" in err
