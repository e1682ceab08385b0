"""The command line with several engines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.terminals import terminal
from tests.unit import fake_engine
from tests.unit.cli.conftest import Run
from tests.unit.sessions import fake_turns


@pytest.fixture
def other(tmp_path: Path, program: Path, environment: dict[str, str]) -> Path:
    """A second engine beside ``program``; the configuration file names both and one more."""
    return fake_turns.install(tmp_path / "other")


@pytest.fixture
def file(tmp_path: Path, program: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(
        f'[engines.here]\nprogram = "{program}"\n[engines.there]\nprogram = "{other}"\n'
    )
    path.chmod(0o600)
    monkeypatch.setenv("CLAUDE_MCP_CONFIG", str(path))
    monkeypatch.delenv("CLAUDE_MCP_ENGINE")
    return path


def break_one(file: Path) -> None:
    file.write_text(file.read_text() + '[engines.gone]\nprogram = "/nowhere/docker"\n')


SILENT = (
    "claude-mcp: Engine gone does not answer: '/nowhere/docker' is not installed or not on PATH.\n"
)


def test_a_session_is_created_listed_and_destroyed(
    run: Run, file: Path, project: Path, program: Path, other: Path
) -> None:
    fake_engine.add_session(program, "fix-tests", project)
    code, out, err = run("create", str(project), "--name", "new", "--json")
    created = json.loads(out)
    assert (code, created["engine"]) == (0, "there"), err
    assert created["engineReason"].startswith("there has the most room (0 running sessions, ")
    code, out, err = run("list", "--json")
    listed = json.loads(out)
    assert sorted((each["engine"], each["sessionName"]) for each in listed["sessions"]) == [
        ("here", "fix-tests"),
        ("there", "new"),
    ]
    head, *rows = run("list", "--quick")[1].splitlines()
    assert head.split()[:4] == ["ID", "NAME", "ENGINE", "STATUS"]
    assert sorted(row.split()[1:3] for row in rows) == [["fix-tests", "here"], ["new", "there"]]
    code, out, err = run("--engine", "here", "create", str(project), "--name", "old", "--json")
    assert (code, json.loads(out)["engineReason"]) == (0, None)
    assert run("exec", "there/new", "echo yes")[:2] == (0, "yes\n")
    assert sorted(run("completion", "names")[1].split()) == ["fix-tests", "new", "old"]
    assert run("destroy", "here/old", "new", "fix-tests")[0] == 0
    assert run("list") == (0, "", "")


def test_an_engine_that_does_not_answer_is_told_on_stderr(
    run: Run, file: Path, session: str
) -> None:
    break_one(file)
    code, out, err = run("list", "--quick")
    assert (code, len(out.splitlines()), err) == (0, 2, SILENT)
    code, out, err = run("list", "--quick", "--json")
    assert json.loads(out)["unreachable"] == {
        "gone": "'/nowhere/docker' is not installed or not on PATH."
    }
    code, out, err = run("stats")
    assert (code, err) == (0, SILENT)
    code, out, err = run("prune", "--json")
    assert (code, err) == (0, SILENT)
    assert list(json.loads(out)["unreachable"]) == ["gone"]
    code, out, err = run("destroy", "--all", "--yes")
    assert (code, out, err) == (0, f"{session}\n", SILENT)


def test_doctor_checks_each_engine(run: Run, file: Path, program: Path, other: Path) -> None:
    break_one(file)
    code, out, _ = run("doctor")
    assert code == 1
    for line in (
        f"ok       engine (here): Docker 24.0.0 ({program}), as root",
        f"ok       engine (there): Docker 24.0.0 ({other}), as root",
        "ok       image (there): claude-code-custom:latest exists",
        "failed   engine (gone): '/nowhere/docker' is not installed or not on PATH.",
    ):
        assert line in out.splitlines()
    found = json.loads(run("doctor", "--json")[1])["findings"]
    assert [each["engine"] for each in found if each["what"] == "engine"] == [
        "here",
        "there",
        "gone",
    ]
    assert "engine" not in found[0]
    assert run("--engine", "here", "doctor")[0] == 0


def test_what_needs_one_engine_says_so(run: Run, file: Path) -> None:
    code, _, err = run("image", "list")
    assert (code, err) == (
        2,
        "claude-mcp: This needs one engine, and several are configured: here, there.\n"
        "Choose one of them, with --engine or CLAUDE_MCP_ENGINE.\n",
    )


def test_the_configured_engines_are_shown(run: Run, file: Path, program: Path, other: Path) -> None:
    file.write_text(file.read_text() + "[engines.found]\n")
    shown = [line.split(maxsplit=2) for line in run("config")[1].splitlines()]
    assert ["engines.here.program", str(program), "file"] in shown
    assert json.loads(run("config", "--json")[1])["engines"] == {
        "here": {"program": str(program)},
        "there": {"program": str(other)},
        "found": {},
    }
    assert any(line.startswith("engines.found.program") for line in run("config")[1].splitlines())


def test_watch_names_sessions_in_full_and_silent_engines(
    file: Path, session: str, environment: dict[str, str]
) -> None:
    break_one(file)
    environ = {**environment, "CLAUDE_MCP_CONFIG": str(file), "CLAUDE_MCP_ENGINE": ""}
    with terminal(
        [sys.executable, "-m", "claude_mcp", "watch"], environ, columns=80, rows=12
    ) as shown:
        # The screen may be seen half drawn, and an engine be silent once.
        title = "claude-mcp: 1 session, 0 working; no answer from gone\n"
        shown.until(lambda text: text.startswith(title) and "here/fix-tests" in text)
        shown.type("q")
        assert shown.wait() == 0
