"""Restoring: the workspace is as it was, and what was discarded can be brought back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_mcp.agent.workspace import restoring, snapshot
from claude_mcp.agent.workspace.changes import NoCheckpoint
from claude_mcp.agent.workspace.checkpoints import Checkpoints
from claude_mcp.agent.workspace.restoring import CannotDiscard, Left, restore

if TYPE_CHECKING:
    from tests.unit.agent.workspace.conftest import Project

REPOSITORY = Path(__file__).parents[4]


def as_clone(project: Project) -> Checkpoints:
    project.checkpoints = Checkpoints(str(project.state), str(project.path), clone=True)
    return project.checkpoints


def rich(project: Project) -> None:
    """Files of all kinds."""
    project.write("file", "1\n")
    project.write("run", "#!/bin/sh\n").chmod(0o755)
    project.write("private", "key").chmod(0o600)
    project.write("deep/er/file", "2")
    project.write("new\nline\udcff", "3")
    project.write("-dash", "4")
    project.write("empty", "")
    (project.path / "crlf").write_bytes(b"1\r\n2\n\0")
    (project.path / "link").symlink_to("file")
    (project.path / "dangling").symlink_to("/nowhere/\udcff")


def ruin(project: Project) -> None:
    """Change, replace or delete all of them, and add more."""
    project.write("file", "changed")
    (project.path / "run").chmod(0o644)
    project.write("private", "other key")
    (project.path / "deep/er/file").unlink()
    (project.path / "deep/er").rmdir()
    project.write("deep/er", "a file now")
    (project.path / "new\nline\udcff").unlink()
    (project.path / "-dash").unlink()
    project.write("-dash/inside/deeper", "a directory now")
    project.write("empty", "full")
    (project.path / "crlf").write_bytes(b"1\n2\n")
    (project.path / "link").unlink()
    project.write("link", "a file now")
    (project.path / "dangling").unlink()
    (project.path / "dangling").symlink_to("elsewhere")
    project.write("added/by/claude", "5")
    (project.path / "added/link").symlink_to("/etc/passwd")


@pytest.mark.parametrize("repository", [True, False])
def test_everything_is_as_it_was_and_can_be_undone(project: Project, repository: bool) -> None:
    rich(project)
    if repository:
        project.commit(**{".gitattributes": "* text=auto eol=crlf\n"})
    before = project.files()
    project.take("create")
    ruin(project)
    project.write("a", "ignored by nobody")
    after = project.files()
    restored = restore(project.checkpoints, "create")
    assert project.files() == before
    assert restored.left == ()
    assert set(restored.removed) == {"a", "added/by/claude", "added/link", "deep/er",
                                     "-dash/inside/deeper"}  # fmt: skip
    assert len(restored.restored) == 10
    assert not (project.path / "added").exists()
    undone = restore(project.checkpoints, restored.undo)
    assert (restored.undo, undone.undo) == ("before-discard-1", "before-discard-2")
    assert project.files() == after
    kept = project.checkpoints.find("before-discard-1")
    assert kept is not None
    assert project.take("one").tree == kept.tree


def test_only_chosen_paths_are_restored(project: Project) -> None:
    for name in ("a", "b", "sub/a", "sub/b", "sub/*"):
        project.write(name, "1")
    project.take("create")
    for name in ("a", "b", "sub/a", "sub/b", "sub/*", "sub/new", "new"):
        project.write(name, "2")
    restored = restore(project.checkpoints, "create", ["a", "sub/*", "new"])
    assert (restored.restored, restored.removed) == (("a", "sub/*"), ("new",))
    restored = restore(project.checkpoints, "create", ["sub"])
    assert (restored.restored, restored.removed) == (("sub/a", "sub/b"), ("sub/new",))
    assert (project.path / "b").read_text() == "2"


def test_ignored_files_are_left_alone(project: Project) -> None:
    project.commit(**{".gitignore": "ignored\n", "a": "1"})
    project.take("create")
    project.write("ignored", "mine")
    project.write("new/ignored", "mine")
    project.write("new/file", "2")
    restored = restore(project.checkpoints, "create")
    assert restored.removed == ("new/file",)
    assert project.files().keys() == {".gitignore", "a", "ignored", "new/ignored"}


def test_no_link_is_followed_out_of_the_workspace(project: Project, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("file", "other"):
        (outside / name).write_text("not ours")
    project.write("dir/file", "1")
    project.write("hidden/file", "1")
    project.write("linked", "1")
    project.write(".gitignore", "/hidden\n")
    project.git("init", "-q")
    project.git("add", "-f", "-A")
    project.take("create")
    for name in ("dir", "hidden"):
        (project.path / name / "file").unlink()
        (project.path / name).rmdir()
        (project.path / name).symlink_to(outside)
    (project.path / "linked").unlink()
    (project.path / "linked").symlink_to(outside / "other")
    restored = restore(project.checkpoints, "create")
    assert {path.name: path.read_text() for path in outside.iterdir()} == {
        "file": "not ours", "other": "not ours",
    }  # fmt: skip
    assert (project.path / "dir/file").read_text() == "1"
    assert (project.path / "linked").read_text() == "1"
    assert not (project.path / "linked").is_symlink()
    # The link is ignored, so it is in no checkpoint and must stay.
    assert restored.left == (Left("hidden/file", "Not a directory"),)
    assert os.readlink(project.path / "hidden") == str(outside)


def test_a_directory_with_ignored_files_is_not_replaced(project: Project) -> None:
    project.git("init", "-q")
    project.write(".gitignore", "ignored\n")
    project.write("a", "1")
    project.take("create")
    (project.path / "a").unlink()
    project.write("a/ignored", "mine")
    restored = restore(project.checkpoints, "create")
    assert restored.left == (Left("a", "Is a directory"),)
    assert (project.path / "a/ignored").read_text() == "mine"


def test_a_forged_checkpoint_reaches_no_git_directory(project: Project, tmp_path: Path) -> None:
    project.commit(a="1")
    project.take("create")
    checkpoints = project.checkpoints
    blob = project.checkpoints._shadow.write("blob", b"evil")
    entry = b"100755 evil\0" + bytes.fromhex(blob)
    inner = bytes.fromhex(checkpoints._shadow.write("tree", entry))
    for name in (b".git", b"..", b".GIT"):
        tree = checkpoints._shadow.write("tree", b"40000 " + name + b"\0" + inner)
        commit = checkpoints._commit(tree, None, [])
        checkpoints._shadow.label("forged", commit.commit)
        checkpoints._shadow.head = project.take("create").commit
        restored = restore(checkpoints, "forged", [os.fsdecode(name)] if name != b".." else None)
        assert (f"{name.decode()}/evil", "this is not a path of the workspace") in restored.left
    assert not (project.path / ".git/evil").exists()
    assert not (tmp_path / "evil").exists()


def test_an_unknown_checkpoint_is_an_error(project: Project) -> None:
    with pytest.raises(NoCheckpoint, match="create"):
        restore(project.checkpoints, "create")


def test_nothing_is_discarded_that_cannot_be_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("a", "1")
    project.take("create")
    project.write("a", "22")
    monkeypatch.setattr(snapshot, "MAX_NEW_BYTES", 1)
    with pytest.raises(CannotDiscard, match="the present state cannot be kept: more than"):
        restore(project.checkpoints, "create")
    assert (project.path / "a").read_text() == "22"


def test_lost_content_is_left_and_told(project: Project) -> None:
    project.commit(a="1", b="1")
    for name in "ab":
        os.utime(project.path / name, (1, 1))
    project.git("update-index", "--refresh")
    project.take("create")
    (project.path / "a").unlink()
    (project.path / ".git").rename(project.home / "moved")
    restored = restore(project.checkpoints, "create")
    assert restored.left == (Left("a", "its content is no longer in the project's repository"),)
    assert (project.path / "b").read_text() == "1"


@pytest.mark.parametrize("state", ["commits", "branch", "detached", "merge", "rebase"])
def test_the_branch_of_a_clone_is_reset(project: Project, state: str) -> None:
    checkpoints = as_clone(project)
    project.commit(a="1\n", b="1\n")
    project.git("checkout", "-q", "-b", "claude/name")
    head = project.git("rev-parse", "HEAD")
    project.write("a", "uncommitted\n")
    project.take("create")
    project.git("checkout", "-q", "-b", "other")
    theirs = project.commit(a="2\n", c="2\n")
    project.git("checkout", "-q", "claude/name")
    if state in ("merge", "rebase"):
        project.commit(a="3\n")
        command = [state, "other"]
        subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *command],
            cwd=project.path, capture_output=True, check=False,
        )  # fmt: skip
    elif state == "branch":
        project.git("checkout", "-q", "other")
    elif state == "detached":
        project.git("checkout", "-q", "--detach", "other")
    else:
        project.commit(d="4\n")
    restored = restore(checkpoints, "create")
    assert (restored.branch, restored.head, restored.left) == ("claude/name", head, ())
    assert project.git("symbolic-ref", "HEAD") == "refs/heads/claude/name"
    assert project.git("rev-parse", "HEAD") == head
    assert project.git("rev-parse", "other") == theirs
    assert project.git("status", "--porcelain") == " M a"
    assert "rebase" not in project.git("status")
    assert project.git("fsck", "--strict", "--no-dangling") == ""
    undone = restore(checkpoints, restored.undo)
    assert undone.left == ()


def test_a_detached_head_of_a_clone_is_reset(project: Project) -> None:
    checkpoints = as_clone(project)
    head = project.commit(a="1")
    project.git("checkout", "-q", "--detach")
    project.take("create")
    project.git("checkout", "-q", "main")
    moved = project.commit(a="2")
    assert restore(checkpoints, "create")[-2:] == (None, head)
    assert project.git("rev-parse", "HEAD", "main").split() == [head, moved]
    assert project.git("status", "--porcelain") == ""


def test_a_project_that_is_mounted_keeps_its_repository(project: Project) -> None:
    project.commit(a="1")
    project.take("create")
    head = project.commit(a="2")
    before = {name: facts for name, facts in project.files(git=True).items() if ".git" in name}
    restored = restore(project.checkpoints, "create")
    after = {name: facts for name, facts in project.files(git=True).items() if ".git" in name}
    assert (restored.branch, restored.head) == (None, None)
    assert after == before
    assert project.git("rev-parse", "HEAD") == head
    assert project.git("status", "--porcelain") == " M a"


def test_a_reset_runs_nothing_that_the_clone_configures(project: Project) -> None:
    checkpoints = as_clone(project)
    marker, program = project.home / "ran", project.home / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> '{marker}'\ncat\n")
    program.chmod(0o755)
    project.commit(a="1", **{".gitattributes": "* filter=evil\n"})
    project.take("create")
    project.commit(a="2")
    for name in ("filter.evil.smudge", "filter.evil.clean", "filter.evil.process",
                 "core.fsmonitor", "core.editor", "core.pager"):  # fmt: skip
        project.git("config", name, str(program))
    for name in ("post-index-change", "reference-transaction", "post-checkout", "post-rewrite"):
        (project.path / ".git/hooks" / name).symlink_to(program)
    marker.unlink(missing_ok=True)
    assert restore(checkpoints, "create").left == ()
    assert not marker.exists()
    subprocess.run(["git", "status"], cwd=project.path, capture_output=True, check=False)
    assert marker.exists(), "the same for git without our settings"


def test_a_locked_index_of_a_clone_is_told(project: Project) -> None:
    checkpoints = as_clone(project)
    project.commit(a="1")
    project.take("create")
    head = project.commit(a="2")
    (project.path / ".git/index.lock").touch()
    restored = restore(checkpoints, "create")
    assert [(each.path, "index.lock" in each.reason) for each in restored.left] == [(".git", True)]
    assert (project.path / "a").read_text() == "1"
    assert project.git("rev-parse", "HEAD") == head
    (project.path / ".git/index.lock").unlink()
    assert restore(checkpoints, "create").left == ()
    assert project.git("status", "--porcelain") == ""


KILLED = """
import sys
from claude_mcp.agent.workspace.checkpoints import Checkpoints
from claude_mcp.agent.workspace import restoring
original, left = restoring._Restoring._write, [int(sys.argv[3])]
def write(*args):
    left[0] -= 1
    if not left[0]:
        print("now", flush=True)
        sys.stdin.read()
    original(*args)
restoring._Restoring._write = write
restoring.restore(Checkpoints(sys.argv[1], sys.argv[2], clone=True), "create")
"""


@pytest.mark.parametrize("moment", [1, 20, 49])
def test_a_restore_that_was_killed_can_be_repeated(project: Project, moment: int) -> None:
    checkpoints = as_clone(project)
    head = project.commit(**{f"file-{number}": str(number) for number in range(50)})
    before = project.files()
    project.take("create")
    project.commit(**{f"file-{number}": "changed" for number in range(50)})
    after = project.files()
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(project.state), str(project.path), str(moment)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    left = [name for name in os.listdir(project.path) if name.startswith(".claude-mcp-transfer-")]
    assert len(left) == 1
    assert restore(checkpoints, "create").left == ()
    assert project.git("rev-parse", "HEAD") == head
    assert project.checkpoints.kept() == ["create", "before-discard-1", "before-discard-2"]
    for name in left:
        (project.path / name).rmdir()
    assert project.files() == before
    restore(checkpoints, "before-discard-1")
    assert project.files() == after


def test_many_files_are_restored(project: Project) -> None:
    for number in range(2000):
        project.write(f"d{number // 100}/f{number}", f"content {number}\n" * 10)
    before = project.files()
    project.take("create")
    for number in range(20):
        (project.path / f"d{number}").rename(project.path / f"moved{number}")
    assert restore(project.checkpoints, "create").left == ()
    assert project.files() == before
    assert restoring.RESTORE_SECONDS > 0
