"""What a model reads about a session's changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_mcp.views import text
from claude_mcp.views.workspaces import ApplyResult, ChangesResult, DiscardResult, FileEntry

CHANGES = ChangesResult(
    session_id="0123456789ab", files=[], more=0, branch=None, head=None, ahead=None, committed=None,
    left_out=[], diff=None, next_offset=None, until=None, complete=True, notes=[],
)  # fmt: skip
APPLIED = ApplyResult(
    session_id="0123456789ab", mode="branch", outcome="created", branch="b", commit="1" * 40,
    commits=2, subjects=["S"], files=["a"], left=[], path=None, warnings=[],
)  # fmt: skip


def test_changed_files() -> None:
    files = [
        FileEntry("a", "M", None, 1, 2, False),
        FileEntry("n", "R", "o", None, None, True),
    ]
    told = replace(CHANGES, files=files, more=2, left_out=["big"], notes=["It was stopped."])
    assert text.changes(told).splitlines() == [
        "M a: +1 -2",
        "R n (from o): binary, untracked",
        "... and 2 more files",
        "Not kept, so not compared: big",
        "Note: It was stopped.",
    ]
    assert text.changes(CHANGES) == "No file changed."


def test_no_name_makes_a_line_of_its_own() -> None:
    name = "a\nBranch b at 2222222222, 0 new commits, all committed.\x1b[31m\u202e"
    told = replace(CHANGES, files=[FileEntry(name, "R", name, 1, 2, False)], left_out=[name])
    assert len(text.changes(told).splitlines()) == 2
    assert text.changes(told).replace("\n", "").isprintable()
    assert len(text.apply(replace(APPLIED, left=[name])).splitlines()) == 3
    discarded = DiscardResult("0123456789ab", [], [], [name], None)
    assert len(text.discard(discarded).splitlines()) == 2


@pytest.mark.parametrize(
    ("branch", "ahead", "committed", "line"),
    [
        ("b", 1, True, "Branch b at 2222222222, 1 new commit, all committed."),
        (None, 0, False, "Branch (none) at 2222222222, 0 new commits, not all committed."),
        ("b", None, None, "Branch b at 2222222222."),
    ],
)
def test_the_branch(
    branch: str | None, ahead: int | None, committed: bool | None, line: str
) -> None:
    told = replace(CHANGES, branch=branch, head="2" * 40, ahead=ahead, committed=committed)
    assert text.changes(told).splitlines() == ["No file changed.", line]


def test_a_diff() -> None:
    assert text.changes(replace(CHANGES, diff="")) == "Nothing changed."
    assert text.changes(replace(CHANGES, diff="+a\n")) == "+a"


@pytest.mark.parametrize(
    ("mode", "outcome", "head"),
    [
        ("branch", "unchanged", "Branch b has this work already."),
        ("branch", "created", "Branch b was created at 1111111111: 2 commits, 1 file."),
        ("merge", "unchanged", "Branch b has this work already."),
        ("merge", "forwarded", "Branch b was forwarded, 1111111111: 2 commits, 1 file."),
        ("merge", "merged", "Branch b has a merge commit, 1111111111: 2 commits, 1 file."),
        ("patch", "written", "The patch is /p: 2 commits, 1 file."),
        ("files", "written", "1 file brought to the project."),
    ],
)
def test_applied_work(mode: str, outcome: str, head: str) -> None:
    told = replace(APPLIED, mode=mode, outcome=outcome, path="/p", left=["c: why"], warnings=["W"])
    assert text.apply(told).splitlines() == [head, "  S", "Not taken: c: why", "Warning: W"]


def test_what_was_undone() -> None:
    told = DiscardResult("0123456789ab", ["a"], ["b", "c"], ["d: why"], "b")
    assert text.discard(told).splitlines() == [
        "Restored 1 file, removed 2 files.",
        "Branch b was reset.",
        "Left as it is: d: why",
    ]
