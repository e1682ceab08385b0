"""The commands for what a session changed, against scripted answers of the session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.errors import WorkUnsaved
from claude_mcp.sessions import unsaved
from claude_mcp.sessions.workspaces import applying, changes
from tests.unit.cli.conftest import Run

CHANGED: dict[str, Any] = {
    "files": (changes.FileChange("a", "M", None, 1, 2, untracked=False),),
    "more": 0, "left_out": (), "branch": "claude/x", "head": "0" * 40, "ahead": 1,
    "committed": True,
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the library was asked for; ``answer`` is what it says beside the defaults."""
    asked: dict[str, Any] = {"answer": {}}

    async def get(handle: Any, **options: Any) -> changes.Changes:
        asked["get"] = options
        return changes.Changes(session=handle.session, **{**CHANGED, **asked["answer"]})

    async def undo(handle: Any, **options: Any) -> changes.Discarded:
        asked["undo"] = options
        return changes.Discarded(handle.session, ("a",), (), asked["answer"].get("left", ()), "x")

    async def take(handle: Any, mode: str, **options: Any) -> applying.Applied:
        asked["take"] = {"mode": mode, **options}
        left = asked["answer"].get("left", ())
        return applying.Applied(
            handle.session, mode, "created", "claude/x", "1" * 40, 1, ("S",), ("a",), left
        )

    monkeypatch.setattr(changes, "get_changes", get)
    monkeypatch.setattr(changes, "discard_changes", undo)
    monkeypatch.setattr(applying, "apply_changes", take)
    return asked


def test_changes_are_listed(run: Run, session: str, asked: dict[str, Any]) -> None:
    code, out, err = run("changes", session, "src", "--turn", "t")
    assert (code, err) == (0, "")
    assert out.endswith("Branch claude/x at 0000000000, 1 new commit, all committed.\n")
    assert asked["get"] == {
        "turn_id": "t", "paths": ["src"], "diff": False, "offset": 0, "until": None
    }  # fmt: skip
    assert json.loads(run("changes", session, "--json")[1])["ahead"] == 1


def test_a_diff_is_printed_and_how_to_read_on(
    run: Run, session: str, asked: dict[str, Any]
) -> None:
    asked["answer"] = {"diff": "+x\n", "next_offset": 9, "until": "ab"}
    code, out, err = run("changes", session, "--full", "--offset", "4", "--until", "aa")
    assert (code, out, err) == (0, "+x\n", "There is more: --offset 9 --until ab\n")
    assert (asked["get"]["diff"], asked["get"]["offset"], asked["get"]["until"]) == (True, 4, "aa")
    asked["answer"] = {"diff": "+x\n"}
    assert run("changes", session, "--full") == (0, "+x\n", "")


@pytest.mark.parametrize(
    ("argv", "mode"),
    [
        ((), "branch"),
        (("a",), "files"),
        (("--patch", "p"), "patch"),
        (("--mode", "merge"), "merge"),
        (("--mode", "branch", "a"), "branch"),
    ],
)
def test_what_is_taken_decides_how(
    run: Run, session: str, asked: dict[str, Any], argv: tuple[str, ...], mode: str
) -> None:
    assert run("apply", session, *argv)[0] == 0
    assert asked["take"]["mode"] == mode
    patch = asked["take"]["patch"]
    assert patch == (str(Path("p").absolute()) if mode == "patch" else None)


def test_work_is_taken(run: Run, session: str, asked: dict[str, Any]) -> None:
    code, out, _ = run("apply", session, "--branch", "b", "--commit", "m", "--force")
    assert (code, out) == (0, "Branch claude/x was created at 1111111111: 1 commit, 1 file.\n  S\n")
    given = asked["take"]
    assert (given["branch"], given["commit"], given["overwrite"]) == ("b", "m", True)
    assert json.loads(run("apply", session, "--json")[1])["commit"] == "1" * 40


def test_what_was_left_is_a_failure(run: Run, session: str, asked: dict[str, Any]) -> None:
    asked["answer"] = {"left": ("c: why",)}
    code, out, _ = run("apply", session, "c")
    assert (code, out.splitlines()[-1]) == (6, "Not taken: c: why")
    code, out, _ = run("discard", session)
    assert (code, out.splitlines()[-1]) == (6, "Left as it is: c: why")


def test_changes_are_undone(run: Run, session: str, asked: dict[str, Any]) -> None:
    code, out, _ = run("discard", session, "a", "--turn", "t")
    assert (code, out) == (0, "Restored 1 file, removed 0 files.\nBranch x was reset.\n")
    assert asked["undo"] == {"turn_id": "t", "paths": ["a"]}
    assert json.loads(run("discard", session, "--json")[1])["restored"] == ["a"]


def test_a_mounted_project_has_nothing_to_apply(run: Run, session: str) -> None:
    code, out, err = run("apply", session)
    assert (code, out) == (2, "")
    assert "The project is mounted" in err


def test_a_session_with_work_is_destroyed_by_force(
    run: Run, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(handle: Any) -> None:
        raise WorkUnsaved("There is work.", steps=unsaved.STEPS)

    monkeypatch.setattr(unsaved, "check", refuse)
    code, out, err = run("destroy", session)
    assert (code, out) == (4, "")
    assert err == "claude-mcp: There is work.\nUse 'claude-mcp apply' or --force.\n"
    assert run("destroy", session, "--force") == (0, f"{session}\n", "")
