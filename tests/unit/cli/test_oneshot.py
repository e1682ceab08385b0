"""One shot: what is said before anything is made, schemas, and what a signal leaves."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.unit import fake_engine
from tests.unit.cli.conftest import Run
from tests.unit.cli.test_process import signalled

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}
COMPACT = json.dumps(SCHEMA, separators=(",", ":"))


@pytest.fixture
def schema(tmp_path: Path) -> str:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA, indent=4))
    return str(file)


def verbs(program: Path) -> list[str]:
    """What was done with containers, without looking at them."""
    return [each for each in fake_engine.calls(program) if each in ("create", "exec", "rm")]


def test_a_schema_reaches_claude_and_the_answer_is_structured(
    run: Run, project: Path, program: Path, schema: str
) -> None:
    words = ["hi", "--output-schema", schema, "--output", "json"]
    code, out, _ = run("run", str(project), *words)
    assert (code, json.loads(out)["structuredOutput"]) == (
        0, {"prompt": "hi", "outputSchema": COMPACT}
    )  # fmt: skip
    assert verbs(program) == ["create", "exec", "rm"]


def test_a_prompt_takes_a_schema_too(run: Run, session: str, schema: str) -> None:
    code, out, _ = run("prompt", session, "hi", "--output-schema", schema)
    assert (code, json.loads(out)) == (0, {"prompt": "hi", "outputSchema": COMPACT})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON: "),
        ("[]", "is not a JSON object."),
        (json.dumps({"title": "x" * 70_000}), "has 70012 bytes; at most 65536."),
        (None, "cannot be read: No such file or directory."),
    ],
)
def test_a_schema_that_cannot_be_used_is_said_before_anything_is_made(
    run: Run, project: Path, program: Path, tmp_path: Path, content: str | None, message: str
) -> None:
    file = tmp_path / "schema.json"
    if content is not None:
        file.write_text(content)
    code, out, err = run("run", str(project), "hi", "--output-schema", str(file))
    assert (code, out) == (2, "")
    assert err.startswith(f"claude-mcp: The schema {file} {message}")
    assert verbs(program) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--apply=brunch"], "--apply takes none, branch, merge, patch, not 'brunch'."),
        (["--apply=patch"], "'--apply patch' needs --patch FILE, the file to write."),
        (["--apply=merge", "--patch=x"], "--patch goes with '--apply patch' only."),
        (["--output=xml"], "--output takes text, json, stream-json, not 'xml'."),
    ],
)
def test_a_slip_is_said_before_anything_is_made(
    run: Run, project: Path, program: Path, words: list[str], said: str
) -> None:
    code, out, err = run("run", str(project), "hi", *words)
    assert (code, out) == (2, "")
    assert err == f"claude-mcp: {said}\n"
    assert verbs(program) == []


def test_a_session_s_name_instead_of_a_directory_leads_to_exec(run: Run, session: str) -> None:
    assert run("run", "fix-tests", "make test") == (
        2,
        "",
        "claude-mcp: 'fix-tests' is not a directory.\n"
        "To run a command in a session: claude-mcp exec fix-tests 'make test'\n",
    )


def test_a_kept_session_is_said_with_how_to_remove_it(
    run: Run, project: Path, program: Path
) -> None:
    code, _, err = run("run", str(project), "hi", "--keep", "--name=mine", "--tools=Read")
    assert code == 0
    assert "Session mine is kept; remove it with: claude-mcp destroy mine\n" in err
    assert verbs(program) == ["create", "exec"]


def test_a_permission_that_nobody_can_give_ends_the_turn_and_the_session(
    run: Run, project: Path, program: Path
) -> None:
    code, out, err = run("run", str(project), "ask 2")
    assert (code, out) == (9, "")
    assert "nobody is there to answer" in err
    assert fake_engine.calls(program).count("interrupted") == 1
    assert run("list") == (0, "", "")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_signal_interrupts_the_turn_before_the_session_is_destroyed(
    environment: dict[str, str], program: Path, project: Path, number: signal.Signals, code: int
) -> None:
    found, out, err = signalled(environment, program, number, "run", str(project), "hang")
    assert (found, out) == (code, b"")
    assert b"is cancelled" in err
    calls = fake_engine.calls(program)
    assert calls.index("interrupted") < calls.index("rm")
