"""What changed, and what exists in the session only."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from claude_mcp.agent.workspace import changes
from claude_mcp.agent.workspace.changes import FileChange, RepositoryState, Unsaved
from claude_mcp.agent.workspace.checkpoints import Checkpoints
from claude_mcp.agent.workspace.git import GitFailed

if TYPE_CHECKING:
    from tests.unit.agent.workspace.conftest import Project


def changed(project: Project, since: str = "create", until: str | None = None) -> dict[str, str]:
    summary = changes.summary(project.checkpoints, since, until)
    return {each.path: each.status for each in summary.files}


def without_times(files: dict[str, object]) -> dict[str, object]:
    """Without the times of objects, which the shadow repository of a clone links to."""
    return {name: facts if ".git/objects/" not in name else None for name, facts in files.items()}


def as_clone(project: Project) -> Checkpoints:
    project.checkpoints = Checkpoints(str(project.state), str(project.path), clone=True)
    return project.checkpoints


def test_every_kind_of_change_is_told(project: Project) -> None:
    long = "".join(f"line {number}\n" for number in range(50))
    project.commit(modified="1\n2\n3\n", deleted="d\n", old=long, typed="t\n", same="s\n")
    project.take("create")
    project.write("modified", "1\nzwei\n3\n4\n")
    (project.path / "deleted").unlink()
    (project.path / "old").rename(project.path / "new")
    (project.path / "typed").unlink()
    (project.path / "typed").symlink_to("same")
    (project.path / "binary").write_bytes(b"\0\1")
    project.write("staged", "1\n")
    project.git("add", "staged")
    head = project.git("rev-parse", "HEAD")
    summary = changes.summary(project.checkpoints, "create")
    assert summary.files == (
        FileChange("binary", "A", None, None, None, True),
        FileChange("deleted", "D", None, 0, 1, False),
        FileChange("modified", "M", None, 2, 1, False),
        FileChange("new", "R", "old", 0, 0, True),
        FileChange("staged", "A", None, 1, 0, False),
        FileChange("typed", "T", None, 1, 1, False),
    )
    assert (summary.more, summary.complete, summary.left_out) == (0, True, ())
    assert summary.repository == RepositoryState("main", head, 0, False)


def test_commits_and_whether_all_is_committed_are_told(project: Project) -> None:
    project.commit(a="1")
    project.take("create")
    assert changes.summary(project.checkpoints, "create").repository == RepositoryState(
        "main", project.git("rev-parse", "HEAD"), 0, True
    )
    project.git("checkout", "-q", "-b", "claude/x")
    project.commit(a="2")
    head = project.commit(b="3")
    summary = changes.summary(project.checkpoints, "create")
    assert summary.repository == RepositoryState("claude/x", head, 2, True)
    assert [each.path for each in summary.files] == ["a", "b"]


def test_a_directory_that_is_no_repository_has_no_state(project: Project) -> None:
    project.take("create")
    project.write("a", "1\n")
    summary = changes.summary(project.checkpoints, "create")
    assert summary.files == (FileChange("a", "A", None, 1, 0, False),)
    assert summary.repository is None


def test_the_changes_of_one_turn_are_told(project: Project) -> None:
    project.take("create")
    project.write("a", "1")
    project.take("turn-1")
    project.write("b", "2")
    project.take("turn-2")
    project.write("c", "3")
    assert changed(project, "turn-1", "turn-2") == {"b": "A"}
    assert changed(project, "turn-2") == {"c": "A"}
    assert changed(project) == {"a": "A", "b": "A", "c": "A"}


def test_an_unknown_checkpoint_is_an_error(project: Project) -> None:
    project.take("create")
    with pytest.raises(changes.NoCheckpoint, match="none"):
        changes.summary(project.checkpoints, "none")
    with pytest.raises(changes.NoCheckpoint, match="never"):
        changes.diff(project.checkpoints, "create", "never")


def test_the_list_of_files_is_bounded(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.take("create")
    for name in "abcde":
        project.write(name, name * 1000)
    monkeypatch.setattr(changes, "MAX_FILES", 2)
    summary = changes.summary(project.checkpoints, "create")
    assert ([each.path for each in summary.files], summary.more) == (["a", "b"], 3)
    assert summary.files[0].added == 1
    project.write("f", "new")
    rest = changes.summary(project.checkpoints, "create", summary.until, offset=2)
    assert ([each.path for each in rest.files], rest.more) == (["c", "d"], 1)
    assert rest.files[0].added == 1
    monkeypatch.setattr(changes, "LISTING_BYTES", 100)
    summary = changes.summary(project.checkpoints, "create")
    assert summary.complete is False


def test_names_of_any_bytes_are_told(project: Project) -> None:
    project.take("create")
    names = {"-dash", "new\nline", "\udcff", "tab\there", "é", "*"}
    for name in names:
        project.write(name, "1")
    assert set(changed(project)) == names
    for name in names:
        assert changes.diff(project.checkpoints, "create", paths=[name]).text.count("+1\n") == 1


def test_a_diff_is_read_in_parts(project: Project) -> None:
    project.commit(a="ä\n", b="1\n")
    project.take("create")
    project.write("a", "ö\n" * 300)
    whole = changes.diff(project.checkpoints, "create")
    assert whole.next_offset is None
    assert whole.text.startswith("diff --git a/a b/a\nindex ")
    assert whole.text.count("\n+ö") == 300
    text, offset, until = "", 0, None
    while True:
        part = changes.diff(project.checkpoints, "create", until, offset=offset, limit=101)
        project.write("b", "changed meanwhile\n")
        text, until = text + part.text, part.until
        if part.next_offset is None:
            break
        assert len(part.text) == 101
        offset = part.next_offset
    assert text == whole.text


def test_a_diff_names_binary_files_and_obeys_no_attributes(project: Project) -> None:
    project.commit(**{".gitattributes": "hidden -diff\n", "hidden": "1\n"})
    project.take("create")
    project.write("hidden", "2\n")
    (project.path / "binary").write_bytes(b"\0secret")
    project.write("latin", "\udce4\n")
    text = changes.diff(project.checkpoints, "create").text
    assert "Binary files /dev/null and b/binary differ" in text
    assert "secret" not in text
    assert "-1\n+2\n" in text
    assert "+\ufffd\n" in text


def test_a_file_that_was_lost_with_the_repository_is_an_error(project: Project) -> None:
    project.commit(a="1")
    os.utime(project.path / "a", (1, 1))
    project.git("update-index", "--refresh")
    project.take("create")
    project.write("a", "2")
    (project.path / ".git").rename(project.home / "moved")
    with pytest.raises(GitFailed, match="unable to read"):
        changes.diff(project.checkpoints, "create")


def test_unsaved_work_of_a_clone_is_told(project: Project) -> None:
    checkpoints = as_clone(project)
    project.commit(a="1")
    project.take("create")
    assert changes.work_elsewhere(checkpoints) == Unsaved((), 0, (), 0, "")
    first = project.commit(a="2")
    project.git("checkout", "-q", "-b", "side")
    second = project.commit(a="3")
    project.git("checkout", "-q", "main")
    project.write("a", "stashed")
    project.git("stash", "-q")
    project.write("untracked", "1")
    project.write("staged", "1")
    project.git("add", "staged")
    unsaved = changes.work_elsewhere(checkpoints)
    assert {commit.oid for commit in unsaved.commits} >= {first, second}
    assert len(unsaved.commits) == 4  # a stash is two commits
    assert unsaved.files == ("staged", "untracked")
    assert changes.work_elsewhere(checkpoints, [first, "0" * 40], limit=1)._replace(
        commits=()
    ) == Unsaved((), 2, ("staged",), 1, "")
    project.git("stash", "drop", "-q")
    assert changes.work_elsewhere(checkpoints, [second]).commits == ()


def test_what_came_from_the_host_uncommitted_is_not_the_clones_own(project: Project) -> None:
    checkpoints = as_clone(project)
    project.commit(a="1", b="1", c="1")
    project.write("a", "of the host")
    project.write("b", "of the host")
    (project.path / "c").unlink()
    for number in range(3):
        project.write(f"d/{number}", "of the host")
    project.write("d.txt", "of the host")
    project.take("create")
    assert changes.work_elsewhere(checkpoints) == Unsaved((), 0, (), 0, "")
    project.write("b", "of the session")
    project.write("d/1", "of the session")
    (project.path / "d/2").unlink()
    assert changes.work_elsewhere(checkpoints).files == ("b", "d/1")
    project.git("add", "-A")
    assert changes.work_elsewhere(checkpoints).files == ("b", "d/1")


def test_unsaved_work_in_submodules_of_a_clone_is_told(project: Project) -> None:
    checkpoints = as_clone(project)
    project.commit(a="1")
    project.git("init", "-q", "lib")
    project.write("lib/inside", "1")
    project.git("add", "-A", cwd=project.path / "lib")
    project.git("commit", "-q", "-m", "library", cwd=project.path / "lib")
    project.git("submodule", "--quiet", "add", str(project.path / "lib"), "lib")
    project.git("commit", "-q", "-m", "with a submodule")
    project.take("create")
    assert changes.work_elsewhere(checkpoints) == Unsaved((), 0, (), 0, "")
    project.write("lib/inside", "2")
    project.write("a", "2")
    assert changes.work_elsewhere(checkpoints).files == ("a", "lib/inside")
    project.git("init", "-q", "new")
    project.write("new/file", "1")
    assert changes.work_elsewhere(checkpoints).files == ("a", "new/", "lib/inside")


def test_unsaved_work_of_a_copy_is_what_changed(project: Project) -> None:
    project.write("a", "1")
    project.take("create")
    project.write("b", "2")
    assert changes.work_elsewhere(project.checkpoints) == Unsaved((), 0, ("b",), 0, "")
    since = project.checkpoints.now().commit
    assert changes.work_elsewhere(project.checkpoints, since=since) == Unsaved((), 0, (), 0, "")


def test_nothing_is_run_or_written_to_tell(project: Project) -> None:
    marker = project.home / "ran"
    program = project.write("program", f"#!/bin/sh\ntouch '{marker}'\ncat\n")
    program.chmod(0o755)
    checkpoints = as_clone(project)
    project.commit(a="1\n", **{".gitattributes": "a filter=evil diff=evil\n"})
    project.take("create")
    project.commit(b="2\n")
    for name in ("filter.evil.clean", "filter.evil.process", "core.fsmonitor", "diff.external",
                 "diff.evil.textconv", "diff.evil.command", "log.showSignature", "gpg.program",
                 "core.alternateRefsCommand"):  # fmt: skip
        project.git("config", name, "true" if name == "log.showSignature" else str(program))
    marker.unlink(missing_ok=True)
    os.utime(project.path / "a", (1, 1))
    project.write("b", "changed\n")
    before = project.files(git=True)
    summary = changes.summary(checkpoints, "create")
    changes.diff(checkpoints, "create")
    changes.work_elsewhere(checkpoints)
    assert summary.repository is not None
    assert summary.repository.committed is False
    assert without_times(project.files(git=True)) == without_times(before)
    assert not marker.exists()
    subprocess.run(["git", "status"], cwd=project.path, capture_output=True, check=False)
    assert marker.exists(), "the same for git without our settings"


@pytest.mark.parametrize("command", ["gc", "rebase", "reset"])
def test_what_claude_does_in_the_clone_does_no_harm(project: Project, command: str) -> None:
    checkpoints = as_clone(project)
    project.commit(a="1\n")
    project.take("create")
    project.commit(a="2\n")
    project.take("one")
    project.commit(b="3\n")
    project.take("two")
    if command == "rebase":
        project.git("rebase", "-q", "--onto", "HEAD~2", "HEAD~1")
    else:
        project.git("reset", "-q", "--hard", "HEAD~2")
    if command == "gc":
        project.git("reflog", "expire", "--expire=now", "--all")
        project.git("gc", "-q", "--prune=now")
    assert changed(project, "create", "two") == {"a": "M", "b": "A"}
    assert changes.diff(checkpoints, "one", "two").text.endswith("+3\n")
    assert changed(project) == ({"b": "A"} if command == "rebase" else {})
