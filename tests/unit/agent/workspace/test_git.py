"""Git processes: bounded in time and output, ended as a group, with clear errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_mcp.agent.workspace.git import Deadline, Git, GitFailed, GitTimedOut, NoGit

if TYPE_CHECKING:
    from tests.unit.conftest import Lifeline

PATIENCE_SECONDS = 60.0


def fake(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in the place of git."""
    program = directory / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def run(*arguments: str, seconds: float = PATIENCE_SECONDS, limit: int = 1000) -> bytes:
    return Git({}, {}).run(arguments, Deadline(seconds), limit_bytes=limit).data


def test_a_session_without_git_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoGit, match="git is not installed in the session's image"):
        run("version")


def test_an_error_has_the_first_line_that_is_no_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake(tmp_path, monkeypatch, "printf 'warning: w\\n\\nfatal: why\\nmore\\n' >&2; exit 128")
    with pytest.raises(GitFailed, match=r"^git add failed: fatal: why$"):
        run("add", "-A")


@pytest.mark.parametrize(
    ("script", "reason"), [("exit 3", "exit code 3"), ("kill -KILL $$", "signal 9")]
)
def test_an_end_without_words_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, reason: str
) -> None:
    fake(tmp_path, monkeypatch, script)
    with pytest.raises(GitFailed, match=f"^git add failed: {reason}$"):
        run("add")


def test_git_and_its_children_are_killed_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lifeline: Lifeline
) -> None:
    fake(tmp_path, monkeypatch, f"{lifeline.hold}\nsleep 1000 & sleep 1000")
    with pytest.raises(GitTimedOut, match=r"^git status was stopped: the time limit of 0.5 s"):
        run("status", seconds=0.5)
    assert lifeline.end() == ""


def test_output_without_end_is_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lifeline: Lifeline
) -> None:
    fake(tmp_path, monkeypatch, f"{lifeline.hold}\nexec yes")
    output = Git({}, {}).run(["diff"], Deadline(PATIENCE_SECONDS), limit_bytes=1000)
    assert (output.data, output.complete) == (b"y\n" * 500, False)
    assert lifeline.end() == ""


def test_errors_without_end_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake(tmp_path, monkeypatch, "head -c 50000000 /dev/zero >&2; exit 1")
    with pytest.raises(GitFailed) as caught:
        run("diff")
    assert len(str(caught.value)) < 1000


def test_a_long_input_does_not_block(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake(tmp_path, monkeypatch, "head -c 1000000 /dev/zero; exec wc -c")
    git = Git({}, {})
    output = git.run(
        ["add"], Deadline(PATIENCE_SECONDS), limit_bytes=2_000_000, stdin=b"x" * 3_000_000
    )
    assert output.data.strip(b"\0") == b"3000000\n"


def test_only_our_own_environment_and_settings_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("GIT_DIR", "GIT_EXTERNAL_DIFF", "GIT_TRACE", "GIT_CONFIG_PARAMETERS", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "not-ours"))
    fake(tmp_path, monkeypatch, 'env; echo "in $PWD"')
    environment = run("version", limit=100_000).decode()
    assert "not-ours" not in environment
    assert "GIT_CONFIG_GLOBAL=/dev/null" in environment
    assert "in /\n" in environment
    monkeypatch.undo()
    assert run("config", "core.hooksPath") == b"/dev/null\n"
    assert run("config", "core.fsmonitor") == b"false\n"
