"""Checkpoints: what they hold, and what they leave alone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_mcp.agent.workspace import checkpoints as module
from claude_mcp.agent.workspace import snapshot
from claude_mcp.agent.workspace.checkpoints import Checkpoints
from claude_mcp.agent.workspace.git import GitStopped

if TYPE_CHECKING:
    from tests.unit.agent.workspace.conftest import Project

REPOSITORY = Path(__file__).parents[4]
PATIENCE_SECONDS = 60.0


def test_a_checkpoint_holds_tracked_and_untracked_but_no_ignored_files(project: Project) -> None:
    project.commit(tracked="1", **{".gitignore": "ignored\n"})
    (project.path / ".git/info/exclude").write_text("mine\n")
    for name in ("ignored", "mine", "new", "sub/new"):
        project.write(name, "2")
    assert project.names("create") == [".gitignore", "new", "sub/new", "tracked"]


def test_files_that_are_tracked_although_ignored_are_kept(project: Project) -> None:
    project.git("init", "-q", "-b", "main")
    project.write(".gitignore", "*.log\n")
    project.write("before.log", "1")
    project.git("add", "-f", "before.log")
    project.commit(a="1")
    assert project.names("create") == [".gitignore", "a", "before.log"]
    project.write("-later*.log", "2")
    project.write("never.log", "3")
    assert "-later*.log" not in project.names("one")
    project.git("add", "-f", "--", "-later*.log")
    assert project.names("two") == ["-later*.log", ".gitignore", "a", "before.log"]
    project.write("-later*.log", "changed")
    project.take("three")
    assert project.content("three", "-later*.log") == "changed"


def test_it_works_without_a_repository(project: Project) -> None:
    assert project.names("create") == []
    project.write("a", "1")
    taken = project.take("one")
    assert (taken.head, taken.branch) == (None, None)
    assert project.content("one", "a") == "1"


def test_nothing_is_written_to_the_workspace(project: Project) -> None:
    project.commit(a="1", b="2")
    project.write("a", "changed")
    project.write("staged", "3")
    project.git("add", "staged")
    project.write("untracked", "4")
    before = project.files(git=True)
    project.take("create")
    project.write("a", "changed again")
    after_write = project.files(git=True)
    project.take("two")
    assert project.files(git=True) == after_write
    assert {**after_write, "a": None} == {**before, "a": None}


def test_an_unchanged_workspace_costs_no_new_commit(project: Project) -> None:
    project.commit(a="1")
    first = project.take("create")
    turn = str(uuid.uuid4())
    assert project.take(turn) == first
    assert project.checkpoints.find(turn) == first
    project.write("b", "2")
    assert project.take("other").tree != first.tree


def test_files_that_the_projects_index_knows_are_not_read_again(project: Project) -> None:
    project.commit(a="1", b="2")
    os.utime(project.path / "a", (1_000_000_000, 1_000_000_000))
    os.utime(project.path / "b", (1_000_000_000, 1_000_000_000))
    project.git("update-index", "--refresh")
    project.take("create")
    blobs = project.shadow("cat-file", "--batch-all-objects", "--batch-check=%(objecttype)")
    assert "blob" not in blobs
    assert project.take("create").tree == project.git("rev-parse", "HEAD^{tree}")


def test_head_and_branch_are_recorded(project: Project) -> None:
    head = project.commit(a="1")
    assert project.take("one")[2:4] == (head, "main")
    project.git("pack-refs", "--all")
    assert project.take("two")[2:4] == (head, "main")
    project.git("checkout", "-q", "--detach")
    detached = project.take("three")
    assert detached[2:4] == (head, None)
    again = Checkpoints(str(project.state), str(project.path))
    assert again.find("three") == detached
    project.git("checkout", "-q", "--orphan", "fresh")
    assert project.take("four")[2:4] == (None, "fresh")


def test_an_empty_repository_is_kept(project: Project) -> None:
    project.git("init", "-q", "-b", "main")
    assert project.take("create")[2:4] == (None, "main")
    project.write("a", "1")
    assert project.names("one") == ["a"]


def test_the_project_may_be_a_worktree(project: Project, tmp_path: Path) -> None:
    project.commit(a="1")
    head = project.git("rev-parse", "HEAD")
    other = tmp_path / "other"
    project.git("worktree", "add", "-q", "-b", "side", str(other))
    state = tmp_path / "other-state"
    state.mkdir()
    taken = Checkpoints(str(state), str(other)).take("create")
    assert taken.checkpoint is not None
    assert taken.checkpoint[1:4] == (project.git("rev-parse", "HEAD^{tree}"), head, "side")


def test_a_git_directory_that_is_a_link_works(project: Project, tmp_path: Path) -> None:
    head = project.commit(a="1")
    (project.path / ".git").rename(tmp_path / "elsewhere")
    (project.path / ".git").symlink_to(tmp_path / "elsewhere")
    assert project.take("create").head == head


@pytest.mark.parametrize("content", ["", "gitdir: /nowhere", "gitdir: \0", "junk\n" * 3000])
def test_a_git_file_that_makes_no_sense_is_no_repository(project: Project, content: str) -> None:
    project.write(".git", content)
    project.write("a", "1")
    assert project.names("create") == ["a"]


def test_names_of_any_bytes_are_kept(project: Project) -> None:
    names = ["-dash", "new\nline", "\udcff\udcfe", "a:b", "*", "é", '"q"', ":(top)x", "git~1"]
    for name in names:
        project.write(name, name)
    assert sorted(project.names("create")) == sorted(names)
    for name in names:
        project.write(name, "changed")
    assert project.take("one").left_out == ()


def test_links_and_executable_bits_are_kept(project: Project) -> None:
    project.write("run", "x").chmod(0o755)
    (project.path / "link").symlink_to("/etc/passwd")
    (project.path / "directory").symlink_to("/etc")
    project.take("create")
    listing = project.shadow(
        "ls-tree", "-r", "--format=%(objectmode) %(path)", "refs/checkpoints/create"
    )
    assert listing.splitlines() == ["120000 directory", "120000 link", "100755 run"]


def test_nothing_that_the_project_configures_is_run(project: Project, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 $* >> '{marker}'\ncat\n")
    program.chmod(0o755)
    project.commit(a="1", **{"b.bin": "2\n"})
    for name in ("filter.evil.clean", "filter.evil.smudge", "filter.evil.process",
                 "core.fsmonitor", "diff.evil.textconv", "diff.evil.command", "diff.external",
                 "core.pager", "core.sshCommand", "credential.helper"):  # fmt: skip
        project.git("config", name, str(program))
    project.git("config", "filter.evil.required", "true")
    hooks = project.path / ".git/hooks"
    for name in ("post-index-change", "pre-commit", "reference-transaction", "post-checkout"):
        (hooks / name).unlink(missing_ok=True)
        (hooks / name).symlink_to(program)
    marker.unlink(missing_ok=True)
    project.write(".gitattributes", "* filter=evil diff=evil\n")
    project.write("b.bin", "changed\n")
    project.take("create")
    project.write("b.bin", "again\n")
    project.take("one")
    assert not marker.exists()
    assert project.content("one", "b.bin") == "again"
    (project.path / "b.bin").touch()
    os.utime(project.path / "b.bin", (1, 1))
    subprocess.run(["git", "add", "b.bin"], cwd=project.path, capture_output=True, check=False)
    assert marker.exists(), "the same for git without our settings"


def test_content_is_kept_as_it_is_on_disk(project: Project) -> None:
    """Not as the project's own repository would keep it, which its index says."""
    project.git("init", "-q", "-b", "main")
    project.git("config", "filter.lfs.clean", "echo pointer")
    project.git("config", "filter.same.clean", "tr ab ba")
    attributes = "crlf text eol=crlf\nbig filter=lfs\nsame filter=same\nid ident\n"
    attributes += "utf working-tree-encoding=UTF-16\n"
    contents = {"crlf": b"1\r\n2\r\n", "big": b"large", "same": b"aabb", "id": b"$Id$\n",
                "utf": "text\n".encode("utf-16")}  # fmt: skip
    project.write(".gitattributes", attributes)
    for name, content in contents.items():
        (project.path / name).write_bytes(content)
        os.utime(project.path / name, (1_000_000_000, 1_000_000_000))
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "converted")
    assert project.git("cat-file", "blob", "HEAD:same") == "bbaa", "git does convert"
    project.take("create")
    for name, content in contents.items():
        command = ["git", "--git-dir", f"{project.state}/checkpoints.git", "cat-file", "blob",
                   f"refs/checkpoints/create:{name}"]  # fmt: skip
        assert subprocess.run(command, capture_output=True, check=True).stdout == content


def test_sparse_and_assumed_files_are_kept_as_they_are_on_disk(project: Project) -> None:
    project.commit(**{"in/a": "1", "out/b": "2", "assumed": "3"})
    project.git("sparse-checkout", "set", "in")
    project.git("update-index", "--assume-unchanged", "assumed")
    project.write("assumed", "changed")
    assert project.names("create") == ["assumed", "in/a"]
    assert project.content("create", "assumed") == "changed"


def test_a_shallow_clone_works(project: Project, tmp_path: Path) -> None:
    project.commit(a="1")
    project.commit(a="2")
    shallow, state = tmp_path / "shallow", tmp_path / "shallow-state"
    project.git("clone", "-q", "--depth=1", f"file://{project.path}", str(shallow))
    state.mkdir()
    taken = Checkpoints(str(state), str(shallow), clone=True).take("create")
    assert taken.tree == project.git("rev-parse", "HEAD^{tree}")


def test_sha256_repositories_work(project: Project) -> None:
    project.git("init", "-q", "--object-format=sha256")
    head = project.commit(a="1")
    taken = project.take("create")
    assert taken.head == head
    assert taken.tree == project.git("rev-parse", "HEAD^{tree}")
    project.write("b", "2")
    again = Checkpoints(str(project.state), str(project.path))
    assert again.take("one").checkpoint is not None


def test_files_of_submodules_are_kept(project: Project, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    project.git("init", "-q", cwd=library)
    (library / "inside").write_text("1")
    project.git("add", "-A", cwd=library)
    project.git("commit", "-q", "-m", "library", cwd=library)
    project.commit(a="1")
    project.git("submodule", "--quiet", "add", str(library), "lib")
    project.git("commit", "-q", "-m", "with a submodule")
    assert project.names("create") == [".gitmodules", "a", "lib/inside"]
    project.write("lib/inside", "2")
    project.take("one")
    assert project.content("one", "lib/inside") == "2"


def test_files_of_nested_repositories_are_kept(project: Project) -> None:
    project.commit(a="1")
    for name in ("empty", "new/deep", "new/deep/deeper", "with-head"):
        (project.path / name).mkdir(parents=True)
        project.git("init", "-q", cwd=project.path / name)
        project.write(f"{name}/file", "1")
    project.git("add", "-A", cwd=project.path / "with-head")
    project.git("commit", "-q", "-m", "nested", cwd=project.path / "with-head")
    (project.path / "nothing").mkdir()
    project.git("init", "-q", cwd=project.path / "nothing")
    project.write("odd/.git", "gitdir: ../empty/.git\n")
    project.write("odd/file", "1")
    project.write("bare/.git/HEAD", "not a repository")
    project.write("bare/file", "1")
    kept = ["a", "bare/file", "empty/file", "new/deep/deeper/file", "new/deep/file", "odd/file",
            "with-head/file"]  # fmt: skip
    assert project.names("create") == kept
    assert project.names("one") == kept
    assert project.take("two").left_out == ()
    (project.path / "empty/file").unlink()
    assert "empty/file" not in project.names("three")
    project.write("empty/again", "2")
    assert "empty/again" in project.names("four")
    (project.path / "new/deep/deeper/file").rename(project.path / "new/deep/deeper/renamed")
    assert "new/deep/deeper/renamed" in project.names("five")
    assert "160000" not in project.shadow("ls-tree", "-r", "refs/checkpoints/five")


def test_nested_repositories_are_kept_after_the_cache_has_seen_them(project: Project) -> None:
    """The cache of untracked files is trusted only if it is older than a second."""
    project.write("a/b/file", "1")
    project.take("create")
    for path in ("a", "a/b", "."):
        os.utime(project.path / path, (1_000_000_000, 1_000_000_000))
    project.take("one")
    (project.path / "a/b/file").unlink()
    project.git("init", "-q", cwd=project.path / "a/b")
    for path in ("a", "a/b", "."):
        os.utime(project.path / path, (1_000_000_000, 1_000_000_000))
    project.take("two")
    project.write("a/b/new", "2")
    assert project.names("three") == ["a/b/new"]
    project.write("a/b/newer", "2")
    assert project.names("four") == ["a/b/new", "a/b/newer"]


def test_fifos_sockets_and_unreadable_files_do_no_harm(project: Project) -> None:
    project.commit(a="1", was_file="2", secret="3")
    project.take("create")
    os.mkfifo(project.path / "fifo")
    (project.path / "was_file").unlink()
    os.mkfifo(project.path / "was_file")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(project.path / "socket"))
        project.write("new", "4")
        assert project.names("one") == ["a", "new", "secret"]
    assert project.take("two").left_out == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_left_out(project: Project) -> None:
    project.write("secret", "1").chmod(0)
    project.write("a", "2")
    assert project.take("create").left_out == ("secret",)
    assert project.names("create") == ["a"]


def test_a_name_that_git_refuses_is_left_out(project: Project) -> None:
    project.write(".GIT/config", "x")
    project.write("a", "1")
    assert project.take("create").left_out == (".GIT/config",)
    assert project.names("one") == ["a"]


def test_a_hanging_gitignore_ends_at_the_deadline(project: Project) -> None:
    project.take("create")
    os.mkfifo(project.path / ".gitignore")
    taken = project.checkpoints.take("one", 0.5)
    assert taken.tree is None
    assert taken.reason == "git status was stopped: the time limit of 0.5 s is over"


def test_too_much_at_once_is_refused_with_a_reason(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.take("create")
    monkeypatch.setattr(snapshot, "MAX_NEW_FILES", 2)
    for name in "abc":
        project.write(name, "1")
    taken = project.checkpoints.take("one")
    assert taken.tree is None
    assert taken.reason.startswith("more than 2 files are new or changed")
    monkeypatch.setattr(snapshot, "MAX_NEW_FILES", 3)
    monkeypatch.setattr(snapshot, "MAX_NEW_BYTES", 2)
    assert project.checkpoints.take("one").reason.startswith("more than 0 MiB are new")
    monkeypatch.setattr(snapshot, "MAX_NEW_BYTES", 3)
    monkeypatch.setattr(snapshot, "LISTING_BYTES", 4)
    assert "files are new" in project.checkpoints.take("one").reason
    assert project.checkpoints.kept() == ["create"]


def test_a_large_file_is_left_out_and_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MAX_FILE_BYTES", 10)
    project.write(":(top)*large", "x" * 11)
    project.write("small", "x")
    first = project.take("create")
    assert first.left_out == (":(top)*large",)
    assert project.names("create") == ["small"]
    assert project.take("one") == first
    monkeypatch.setattr(snapshot, "MAX_LEFT_OUT", 0)
    assert "larger than" in project.checkpoints.take("two").reason


def test_old_checkpoints_are_dropped_but_not_the_first(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 3)
    project.take("create")
    for number in range(5):
        project.write("a", str(number))
        project.take(f"turn-{number}")
    assert project.checkpoints.kept() == ["create", "turn-2", "turn-3", "turn-4"]
    assert project.checkpoints.next_after("turn-2") == "turn-3"
    assert project.checkpoints.next_after("turn-4") is None
    assert project.checkpoints.find("turn-0") is None
    monkeypatch.setattr(module, "LOOSE_OBJECTS", 0)
    project.checkpoints.tidy()
    objects = project.shadow("cat-file", "--batch-all-objects", "--batch-check=%(objecttype)")
    assert objects.split().count("commit") == 4
    assert project.content("turn-2", "a") == "2"
    project.write("a", "5")
    project.take("turn-5")
    assert project.content("turn-5", "a") == "5"


@pytest.mark.parametrize("label", ["", "../x", "a/b", "-x", "a.lock", "x" * 65, "a\n"])
def test_a_label_is_no_path(project: Project, label: str) -> None:
    assert project.checkpoints.take(label).tree is None
    assert project.checkpoints.find(label) is None


def test_a_gc_in_the_project_takes_nothing_from_later_checkpoints(project: Project) -> None:
    project.commit(a="1")
    project.take("create")
    project.write("a", "staged only")
    project.git("add", "a")
    project.take("one")
    project.git("reset", "-q", "--hard")
    project.git("reflog", "expire", "--expire=now", "--all")
    project.git("gc", "-q", "--prune=now")
    assert project.content("one", "a") == "staged only"


def test_a_gc_in_a_clone_takes_nothing_at_all(project: Project) -> None:
    checkpoints = Checkpoints(str(project.state), str(project.path), clone=True)
    project.commit(a="1")
    os.utime(project.path / "a", (1_000_000_000, 1_000_000_000))
    project.git("update-index", "--refresh")
    assert checkpoints.take("create").checkpoint is not None
    project.git("checkout", "-q", "--orphan", "fresh")
    project.commit(a="2")
    project.git("branch", "-D", "main")
    project.git("reflog", "expire", "--expire=now", "--all")
    project.git("gc", "-q", "--prune=now")
    assert project.content("create", "a") == "1"


def test_a_repository_that_disappears_does_no_harm(project: Project) -> None:
    project.commit(a="1")
    project.take("create")
    (project.path / ".git").rename(project.home / "moved")
    project.write("b", "2")
    assert project.names("one") == ["a", "b"]


def test_an_index_that_is_a_fifo_does_not_hold_up(project: Project) -> None:
    project.commit(a="1")
    project.take("create")
    (project.path / ".git/index").unlink()
    os.mkfifo(project.path / ".git/index")
    project.write("b", "2")
    assert project.names("one") == ["a", "b"]


def test_a_damaged_index_of_the_project_is_not_needed(project: Project) -> None:
    project.commit(a="1")
    (project.path / ".git/index").write_bytes(b"DIRC\0\0\0\2 and nothing else")
    assert project.names("create") == ["a"]


def test_a_damaged_shadow_repository_is_a_reason(project: Project) -> None:
    project.write("a", "1")
    project.take("create")
    (project.state / "checkpoints.git/index").write_bytes(b"junk")
    project.write("a", "2")
    taken = project.checkpoints.take("one")
    assert taken.tree is None
    assert taken.reason.startswith("git status failed: fatal: ")


def test_a_missing_workspace_is_a_reason(project: Project) -> None:
    project.path.rmdir()
    assert project.checkpoints.take("create").tree is None


def test_a_stale_lock_does_not_hold_up(project: Project) -> None:
    project.take("create")
    (project.state / "checkpoints.git/index.lock").touch()
    project.write("a", "1")
    assert project.names("one") == ["a"]


def test_a_second_process_waits_for_the_first(project: Project) -> None:
    other = Checkpoints(str(project.state), str(project.path))
    with project.checkpoints._used(PATIENCE_SECONDS):
        assert other.take("one", 0.2).reason == "the checkpoints are in use"
        assert project.checkpoints.take("one", 0.2).reason == "the checkpoints are in use"
    assert other.take("one", PATIENCE_SECONDS).tree is not None


def test_threads_may_take_at_the_same_time(project: Project) -> None:
    project.commit(a="1")
    reasons: list[str] = []

    def take(number: int) -> None:
        project.write(f"file-{number}", str(number))
        reasons.append(project.checkpoints.take(f"turn-{number}", PATIENCE_SECONDS).reason)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reasons == [""] * 8
    assert len(project.names("end")) == 9


@pytest.mark.parametrize("many", [0, 500])
def test_files_that_change_meanwhile_do_no_harm(
    project: Project, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """They are truncated, removed and replaced while they are read."""
    monkeypatch.setattr(snapshot, "MANY_FILES", many)
    stop = threading.Event()
    ready = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            for name in ("a", "b", "c"):
                path = project.write(f"churn/{name}", "x" * (number % 7) * 100_000)
                if number % 3 == 0:
                    path.unlink()
            number += 1
            ready.set()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        assert ready.wait(PATIENCE_SECONDS)
        for number in range(10):
            taken = project.checkpoints.take(f"turn-{number}", PATIENCE_SECONDS)
            assert taken.tree is not None or "failed" in taken.reason
    finally:
        stop.set()
        thread.join()
    assert project.take("end").left_out == ()
    project.shadow("fsck", "--full")


KILLED = """
import os, sys
from claude_mcp.agent.workspace.checkpoints import Checkpoints
from claude_mcp.agent.workspace.git import GitStopped
checkpoints = Checkpoints(sys.argv[1], sys.argv[2])
for number in range(1000):
    print(number, flush=True)
    with open(os.path.join(sys.argv[2], f"file-{number % 50}"), "w") as file:
        file.write(str(number))
    checkpoints.take(f"turn-{number}")
"""


def test_a_process_that_is_killed_leaves_checkpoints_that_go_on(project: Project) -> None:
    for attempt in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(project.state), str(project.path)],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
        )
        with process:
            assert process.stdout is not None
            for _ in range(1 + 2 * attempt):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        project.write("after", str(attempt))
        assert "after" in project.names("after")
        assert project.content("after", "after") == str(attempt)
    project.shadow("fsck", "--full", "--strict")


def test_a_tree_of_thousands_of_files_is_kept(project: Project) -> None:
    for number in range(5000):
        project.write(f"d{number // 100}/f{number}", str(number))
    assert len(project.names("create")) == 5000
    assert project.content("create", "d7/f777") == "777"
    assert int(project.shadow("count-objects").split()[0]) < 200, "the rest is in one pack"


SLOW_GIT = """#!/bin/sh
case " $* " in *" prune "*) echo >started; exec sleep 600;; esac
exec {git} "$@"
"""


def test_a_checkpoint_does_not_wait_for_a_tidy(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.commit(a="1")
    project.take("create")
    programs = tmp_path / "programs"
    programs.mkdir()
    os.mkfifo(programs / "started")
    slow = SLOW_GIT.format(git=shutil.which("git")).replace(">started", f">{programs}/started")
    (programs / "git").write_text(slow)
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    stopped: list[BaseException] = []

    def tidy() -> None:
        try:
            project.checkpoints.tidy()
        except GitStopped as error:
            stopped.append(error)

    tidying = threading.Thread(target=tidy)
    tidying.start()
    (programs / "started").read_text()  # until git is running
    project.write("a", "2")
    taken = project.checkpoints.take("turn-1")
    tidying.join()
    assert (taken.reason, project.content("turn-1", "a")) == ("", "2")
    assert [str(each) for each in stopped] == ["git prune was stopped"]
