"""What Claude Code on a terminal finds in its files, and which conversation it leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from claude_mcp.agent.turns import interactive
from claude_mcp.claude.providers import Credentials

KEY = "sk-ant-0123456789-0123456789-abcdefghij"


@pytest.mark.parametrize("before", [None, "{", "[]", '{"projects": [1]}', '{"theme": "dark"}'])
def test_the_questions_to_a_new_user_are_answered(tmp_path: Path, before: str | None) -> None:
    file = tmp_path / ".claude.json"
    if before is not None:
        file.write_text(before)
    interactive.prepare({"HOME": str(tmp_path)}, Credentials(descriptors={"K": KEY}))
    known = json.loads(file.read_text())
    assert known["hasCompletedOnboarding"] is True
    assert known["projects"]["/workspace"] == {"hasTrustDialogAccepted": True}
    assert known["customApiKeyResponses"]["approved"] == [KEY[-20:]]
    assert KEY not in file.read_text()
    assert (before == '{"theme": "dark"}') == ("theme" in known)


def test_what_claude_code_knew_of_the_project_stays(tmp_path: Path) -> None:
    file = tmp_path / ".claude.json"
    file.write_text('{"projects": {"/workspace": {"history": [1]}, "/other": {}}}')
    interactive.prepare({"HOME": "/nowhere", "CLAUDE_CONFIG_DIR": str(tmp_path)}, Credentials())
    projects = json.loads(file.read_text())["projects"]
    assert projects == {
        "/workspace": {"history": [1], "hasTrustDialogAccepted": True},
        "/other": {},
    }


def test_the_conversation_is_the_one_that_was_written_to_last(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    assert interactive.latest(environment, 0.0) is None
    directory = tmp_path / ".claude" / "projects" / "-workspace"
    directory.mkdir(parents=True)
    names = [f"{number}{'0' * 7}-0000-4000-8000-{'0' * 12}" for number in (1, 2, 3)]
    for moment, name in enumerate(names):
        (directory / f"{name}.jsonl").touch()
        os.utime(directory / f"{name}.jsonl", (1000 + moment, 1000 + moment))
    (directory / "agent-x.jsonl").touch()
    (directory / f"{'f' * 8}-0000-4000-8000-{'0' * 12}.jsonl").symlink_to("/etc/passwd")
    assert interactive.latest(environment, 1002.0) == names[2]
    assert interactive.latest(environment, 1003.0) is None
