"""The agent's operations on the workspace, called over a channel; git is the real one."""

from __future__ import annotations

import os
import subprocess
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.main import Agent
from claude_mcp.agent.workspace import changes, work
from claude_mcp.contract import places
from claude_mcp.contract.messages import from_json
from claude_mcp.contract.settings import Settings
from claude_mcp.contract.wording import named
from claude_mcp.contract.workspaces import BIND, CLONE, COPY
from tests.unit.agent.scripted import SETTINGS

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Connect, Message
    from tests.unit.agent.workspace.conftest import Project

BRANCH = "claude/fix"
GENEROUS_SECONDS = 100.0
IDENTITY = "[user]\n\tname = Session\n\temail = session@example.com\n"
CREATED = {"code": "no-changes", "message": "there is no checkpoint of the session's creation"}


class World:
    """A session of one kind of workspace: its agent, and a front end of it."""

    def __init__(self, project: Project, connect: Connect) -> None:
        self.project = project
        self.state = project.home / places.STATE_DIRECTORY
        self._connect = connect
        (project.home / ".gitconfig").write_text(IDENTITY)

    def start(self, workspace: str, base: str | None = None) -> Caller:
        """A start of the agent, as after a restart of the container."""
        settings = {**SETTINGS, "workspace": workspace, "base": base}
        self.agent = Agent(from_json(Settings, settings), str(self.project.home))
        return self._connect(self.agent.operations)

    def begin(self, workspace: str, base: str | None = None) -> Caller:
        caller = self.start(workspace, base)
        self.agent.work.begin()
        return caller

    def clone(self) -> Caller:
        """A session on its own branch, which begins with one file, ``a``."""
        base = self.project.commit(a="1\n")
        self.project.git("checkout", "-q", "-b", BRANCH)
        return self.begin(CLONE, base)

    def turn(self) -> str:
        turn_id = str(uuid.uuid4())
        self.agent._before_turn(turn_id)
        return turn_id

    def damage_checkpoints(self) -> None:
        for path in (self.state / "checkpoints.git/objects").glob("??/*"):
            path.unlink()


@pytest.fixture
def world(project: Project, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(project.path)
    monkeypatch.setattr(work, "BEFORE_TURN_SECONDS", GENEROUS_SECONDS)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for variable in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(variable, raising=False)
    return World(project, connect)


def paths(answer: Message) -> list[str]:
    return [each["path"] for each in answer["ok"]["files"]]


def more(answer: Message) -> int:
    return int(answer["ok"].get("more", 0))


def refusal(answer: Message) -> tuple[str, str]:
    return answer["error"]["code"], answer["error"]["message"]


# What changed.


def test_the_agent_has_one_workspace(world: World) -> None:
    world.start(COPY)
    assert world.agent.work is world.agent.work


def test_changes_since_the_creation_and_by_one_turn_are_told(world: World) -> None:
    caller = world.clone()
    world.project.write("a", "2\n")
    first = world.turn()
    world.project.write("b", "1\n")
    second = world.turn()
    head = world.project.commit(c="1\n")
    answer = caller.ask("changes")
    assert paths(answer) == ["a", "b", "c"]
    repository = {key: answer["ok"][key] for key in ("isRepository", "branch", "head", "ahead")}
    assert repository == {"isRepository": True, "branch": BRANCH, "head": head, "ahead": 1}
    assert answer["ok"]["committed"] is True
    assert paths(caller.ask("changes", turnId=first)) == ["b"]
    assert paths(caller.ask("changes", turnId=second)) == ["c"]
    (change,) = caller.ask("changes", turnId=first)["ok"]["files"]
    assert (change["status"], change["added"], change["deleted"]) == ("A", 1, 0)


def test_changes_outlive_a_restart_of_the_agent(world: World) -> None:
    world.clone()
    first = world.turn()
    world.project.write("b", "1\n")
    caller = world.start(CLONE)
    world.turn()
    world.project.write("c", "1\n")
    assert paths(caller.ask("changes", turnId=first)) == ["b"]
    assert paths(caller.ask("changes")) == ["b", "c"]


def test_a_copy_has_changes_but_no_repository(world: World) -> None:
    world.project.write("a", "1\n")
    caller = world.begin(COPY)
    world.project.write("b", "1\n")
    answer = caller.ask("changes")
    assert (paths(answer), more(answer)) == (["b"], 0)
    assert not answer["ok"].get("isRepository")


def test_some_paths_are_told_even_if_far_more_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = world.clone()
    for name in ("a", "dir/one", "dir/two", "dirty", "z"):
        world.project.write(name, "new\n")
    monkeypatch.setattr(changes, "MAX_FILES", 2)
    answer = caller.ask("changes")
    assert (paths(answer), more(answer)) == (["a", "dir/one"], 3)
    for chosen, expected, rest in (
        (["z"], ["z"], 0),
        (["dir"], ["dir/one", "dir/two"], 0),
        (["dir/", "z"], ["dir/one", "dir/two"], 1),
        (["nowhere", "*"], [], 0),
        (["."], ["a", "dir/one"], 3),
    ):
        answer = caller.ask("changes", paths=chosen)
        assert (paths(answer), more(answer)) == (expected, rest)


def test_a_diff_is_read_in_parts_although_the_workspace_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = world.clone()
    world.project.write("a", "2\n")
    world.project.write("b", "3\n")
    whole = caller.ask("changes", diff=True)["ok"]
    assert "-1\n+2\n" in whole["diff"]
    assert (whole["files"], whole.get("nextOffset")) == ([], None)
    monkeypatch.setattr(changes.diff, "__defaults__", (None, None, 0, 50))
    part = caller.ask("changes", diff=True)["ok"]
    assert part["nextOffset"] == 50
    world.project.write("a", "other\n")
    text = part["diff"]
    while part.get("nextOffset") is not None:
        part = caller.ask("changes", diff=True, offset=part["nextOffset"], until=part["until"])[
            "ok"
        ]
        text += part["diff"]
    assert text == whole["diff"]


def test_a_diff_of_some_paths_has_no_others(world: World) -> None:
    caller = world.clone()
    world.project.write("a", "2\n")
    world.project.write("b", "3\n")
    only = caller.ask("changes", diff=True, paths=["b"])["ok"]["diff"]
    assert "+++ b/b" in only
    assert "+++ b/a" not in only


def test_a_diff_of_one_turn_ends_with_it(world: World) -> None:
    caller = world.clone()
    first = world.turn()
    world.project.write("a", "2\n")
    world.turn()
    world.project.write("a", "3\n")
    diff = caller.ask("changes", diff=True, turnId=first)["ok"]["diff"]
    assert "+2\n" in diff
    assert "+3\n" not in diff


def test_a_turn_without_checkpoint_is_named(world: World) -> None:
    caller = world.clone()
    message = "there is no checkpoint before another"
    assert refusal(caller.ask("changes", turnId="another")) == ("no-changes", message)
    assert refusal(caller.ask("discard", turnId="another")) == ("not-discarded", message)


def test_nothing_is_told_before_the_first_checkpoint(world: World) -> None:
    caller = world.start(COPY)
    assert caller.ask("changes")["error"] == CREATED
    assert caller.ask("unsaved")["error"] == CREATED
    assert caller.ask("discard")["error"] == {**CREATED, "code": "not-discarded"}


@pytest.mark.parametrize("op", ["changes", "discard", "unsaved"])
def test_damaged_checkpoints_are_a_refusal(world: World, op: str) -> None:
    world.clone()
    caller = world.start(CLONE)
    world.damage_checkpoints()
    code, message = refusal(caller.ask(op))
    assert code == ("not-discarded" if op == "discard" else "no-changes")
    assert message.startswith("git cat-file failed: ")


def test_without_git_nothing_is_kept_and_turns_go_on(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    caller = world.begin(COPY)
    assert capsys.readouterr().err.startswith("changes cannot be told: ")
    world.turn()
    assert capsys.readouterr().err == ""
    assert caller.ask("changes")["error"] == CREATED


# A mounted project.


def test_a_mounted_directory_without_a_repository_is_never_read(world: World) -> None:
    world.project.write("a", "1\n")
    caller = world.begin(BIND)
    world.turn()
    world.agent.work.before_turn("turn")
    assert not (world.state / "checkpoints.git").exists()
    why = ("no-changes", "the project is mounted and is no git repository of its own")
    assert refusal(caller.ask("changes")) == why
    assert refusal(caller.ask("discard")) == why
    assert caller.ask("unsaved") == {"ok": {}}
    # One that the session makes later tells nothing of the time before.
    world.project.commit(a="2\n")
    world.turn()
    assert caller.ask("changes")["error"] == CREATED


def test_a_mounted_repository_has_changes_and_a_way_back(world: World) -> None:
    world.project.commit(a="1\n")
    caller = world.begin(BIND)
    head = world.project.commit(a="2\n", b="1\n")
    assert paths(caller.ask("changes")) == ["a", "b"]
    answer = caller.ask("discard")["ok"]
    assert answer == {"restored": ["a"], "removed": ["b"]}
    assert world.project.git("rev-parse", "HEAD") == head
    assert caller.ask("unsaved") == {"ok": {}}


# Before and after turns.


@pytest.mark.parametrize("when", ["found", "taken"])
def test_a_turn_goes_on_without_a_checkpoint(
    world: World, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    world.clone()
    if when == "found":
        world.start(CLONE)  # which has not read them yet
    world.project.write("a", "2\n")
    world.damage_checkpoints()
    (world.state / "checkpoints.git/index").write_bytes(b"damaged")
    turn_id = world.turn()
    assert capsys.readouterr().err.startswith(f"no checkpoint before turn {turn_id}: git ")


def test_checkpoints_are_tidied_some_time_after_a_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.clone()
    tidied = threading.Event()
    monkeypatch.setattr(world.agent.work.checkpoints, "tidy", tidied.set)
    monkeypatch.setattr(work, "TIDY_DELAY_SECONDS", 0.0)
    world.agent._after_turn()
    assert world.agent.work._tidying is None  # the interval has only begun
    monkeypatch.setattr(work, "TIDY_INTERVAL_SECONDS", 0.0)
    world.agent._after_turn()
    assert tidied.wait(60)


def test_a_turn_that_begins_meanwhile_puts_tidying_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.clone()
    tidied = threading.Event()
    monkeypatch.setattr(world.agent.work.checkpoints, "tidy", tidied.set)
    monkeypatch.setattr(work, "TIDY_INTERVAL_SECONDS", 0.0)
    world.agent._after_turn()
    timer = world.agent.work._tidying
    assert timer is not None
    world.turn()
    timer.join(60)
    assert not timer.is_alive()
    assert not tidied.is_set()


def test_tidying_keeps_every_checkpoint_and_reports_what_fails(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    caller = world.clone()
    turn_id = world.turn()
    world.project.write("b", "1\n")
    world.agent.work._tidy()
    assert paths(caller.ask("changes", turnId=turn_id)) == ["b"]
    (world.state / "checkpoints.git/config").write_text("[damaged")
    world.agent.work._tidy()
    assert capsys.readouterr().err.startswith("the checkpoints could not be tidied: git ")


# The way back.


def test_work_is_discarded_as_a_whole_by_turn_and_by_path(world: World) -> None:
    caller = world.clone()
    base = world.project.git("rev-parse", "HEAD")
    world.project.commit(a="2\n")
    turn_id = world.turn()
    for name in ("a", "b", "c"):
        world.project.write(name, "3\n")
    assert caller.ask("discard", paths=["b"])["ok"]["removed"] == ["b"]
    assert (world.project.path / "c").exists()
    answer = caller.ask("discard", turnId=turn_id)["ok"]
    assert (answer["restored"], answer["removed"]) == (["a"], ["c"])
    assert (world.project.path / "a").read_text() == "2\n"
    answer = caller.ask("discard")["ok"]
    assert (answer["restored"], answer["branch"]) == (["a"], BRANCH)
    assert world.project.git("rev-parse", "HEAD") == base


def test_what_cannot_be_brought_back_is_named(world: World) -> None:
    caller = world.clone()
    (world.project.path / "a").unlink()
    world.project.write("a/in the way", "1\n")
    world.project.write(".gitignore", "/a/\n")
    assert caller.ask("discard", paths=["a"])["ok"]["left"] == ["a: Is a directory"]


def test_a_state_that_cannot_be_kept_is_not_discarded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = world.clone()
    world.project.write("a", "2\n")
    world.project.write("b", "2\n")
    monkeypatch.setattr("claude_mcp.agent.workspace.snapshot.MAX_NEW_FILES", 1)
    code, message = refusal(caller.ask("discard"))
    assert code == "not-discarded"
    assert message.startswith("the present state cannot be kept: more than 1 files are new")
    assert (world.project.path / "a").read_text() == "2\n"


# Work for the host.


def fetched(world: World, answer: Message) -> list[str]:
    """The subjects of the commits in a bundle, for a clone that has their base."""
    packed = answer["ok"]
    host = world.project.path.parent / "host"
    world.project.git("clone", "-q", "--mirror", str(world.project.path), str(host))
    world.project.git("update-ref", "-d", f"refs/heads/{packed['branch']}", cwd=host)
    reference = f"refs/heads/{packed['branch']}:refs/taken"
    world.project.git("fetch", "-q", packed["path"], reference, cwd=host)
    return world.project.git("log", "--format=%s", "main..refs/taken", cwd=host).split("\n")


def bundles(world: World) -> list[Path]:
    return list(world.state.glob("*.bundle*"))


def test_commits_are_packed_and_unpacked(world: World) -> None:
    caller = world.clone()
    world.project.commit(a="2\n")
    world.project.write("b", "1\n")
    answer = caller.ask("pack")
    (bundle,) = bundles(world)
    assert answer == {"ok": {"path": str(bundle), "branch": BRANCH, "uncommitted": 1}}
    assert fetched(world, answer) == ["work"]
    for _ in range(2):
        assert caller.ask("drop", path=str(bundle)) == {"ok": {}}
        assert bundles(world) == []


def test_nothing_but_a_bundle_is_dropped(world: World) -> None:
    caller = world.clone()
    world.project.commit(a="2\n")
    bundle = Path(caller.ask("pack")["ok"]["path"])
    there = {*world.state.iterdir()}
    victim = world.project.write("work-00.bundle", "1\n")
    for path in ("", "..", f"{bundle}/..", str(world.project.path / "a"), str(victim), "state"):
        assert caller.ask("drop", path=path) == {"ok": {}}
    assert caller.ask("drop") == {"ok": {}}
    assert {*world.state.iterdir()} == there
    assert victim.exists()


def test_uncommitted_work_is_committed_on_request_without_hooks(world: World) -> None:
    caller = world.clone()
    hook = world.project.write(".git/hooks/pre-commit", "#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    world.project.write("b", "1\n")
    (world.project.path / "a").unlink()
    answer = caller.ask("pack", commit="All of it\n\nMore about it.")
    assert answer["ok"].get("uncommitted", 0) == 0
    assert fetched(world, answer) == ["All of it"]
    author = world.project.git("log", "-1", "--format=%an %ae")
    assert author == "Session session@example.com"
    assert world.project.git("ls-tree", "--name-only", "HEAD") == "b"
    # There is nothing to commit any more.
    assert caller.ask("pack", commit="Again")["ok"]["branch"] == BRANCH
    assert world.project.git("log", "-1", "--format=%s") == "All of it"


def test_what_git_cannot_add_does_not_keep_commits_back(world: World) -> None:
    world.project.commit(a="1\n")
    other = world.project.path.parent / "other"
    world.project.git("clone", "-q", str(world.project.path), str(other))
    world.project.git("submodule", "--quiet", "add", str(other), "sub")
    caller = world.clone()
    world.project.commit(b="1\n")
    world.project.write("sub/a", "2\n")
    answer = caller.ask("pack", commit="more")
    assert answer["ok"]["uncommitted"] == 1
    assert fetched(world, answer) == ["work"]


def test_what_killed_callers_left_long_ago_is_removed(world: World) -> None:
    caller = world.clone()
    world.project.commit(a="2\n")
    old, lock, young = (
        world.state / name for name in ("work-1a.bundle", "work-1b.bundle.lock", "work-2c.bundle")
    )
    for path in (old, lock, young):
        path.write_text("half")
    for path in (old, lock):
        os.utime(path, (time.time() - work.BUNDLE_SECONDS - 1,) * 2)
    answer = caller.ask("pack")
    assert fetched(world, answer) == ["work"]
    assert {*bundles(world)} == {young, Path(answer["ok"]["path"])}


def test_each_of_several_callers_gets_a_bundle_of_its_own(world: World) -> None:
    caller = world.clone()
    world.project.commit(a="2\n")
    numbers = [caller.send("pack") for _ in range(3)]
    paths = {caller.answer(number)["ok"]["path"] for number in numbers}
    first, *others = paths
    caller.ask("drop", path=first)
    assert {*map(str, bundles(world))} == {*others}
    assert len(others) == 2


@pytest.mark.parametrize("workspace", [BIND, COPY])
def test_only_a_clone_has_work_to_pack(world: World, workspace: str) -> None:
    world.project.commit(a="1\n")
    caller = world.begin(workspace)
    assert refusal(caller.ask("pack")) == ("no-work", "the workspace is not a clone")


def test_a_clone_of_a_project_without_commits_has_none_to_begin_at(world: World) -> None:
    world.project.git("init", "-q")
    caller = world.begin(CLONE)
    assert refusal(caller.ask("pack", commit="x")) == (
        "no-work",
        "the project has no commit to begin at",
    )


def test_a_detached_head_is_refused_and_nothing_committed(world: World) -> None:
    caller = world.clone()
    world.project.git("checkout", "-q", "--detach")
    world.project.write("a", "2\n")
    head = world.project.git("rev-parse", "HEAD")
    assert refusal(caller.ask("pack", commit="x")) == (
        "no-work",
        "HEAD is detached; check out a branch in the session",
    )
    assert world.project.git("rev-parse", "HEAD") == head


def test_no_work_is_told_with_what_is_uncommitted(world: World) -> None:
    caller = world.clone()
    assert refusal(caller.ask("pack")) == ("no-work", "nothing was committed there")
    world.project.write("b", "1\n")
    assert refusal(caller.ask("pack")) == (
        "no-work",
        f"nothing was committed there; to take what is uncommitted, pass {named('commit')} with a "
        "message",
    )
    assert bundles(world) == []


def test_conflicts_are_not_committed(world: World) -> None:
    caller = world.clone()
    world.project.commit(a="2\n")
    world.project.git("checkout", "-q", "-b", "other", "main")
    world.project.commit(a="3\n")
    world.project.git("checkout", "-q", BRANCH)
    environment = {"HOME": str(world.project.home), "PATH": os.environ["PATH"]}
    subprocess.run(
        ["git", "merge", "-q", "other"], env=environment, capture_output=True, check=False
    )
    assert refusal(caller.ask("pack", commit="x")) == (
        "no-work",
        "there are conflicts; resolve them in the session",
    )
    assert world.project.git("diff", "--name-only", "--diff-filter=U") == "a"


def test_what_git_says_is_in_the_refusal(world: World) -> None:
    caller = world.clone()
    world.project.write("b", "1\n")
    code, message = refusal(caller.ask("pack", commit=""))
    assert code == "no-work"
    assert message.startswith("git commit failed: Aborting commit due to empty commit message")
    code, message = refusal(caller.ask("pack", commit="a\0b"))
    assert (code, message) == ("no-work", "git commit cannot be started: embedded null byte")
    (world.project.path / ".git/HEAD").unlink()
    code, message = refusal(caller.ask("pack"))
    assert message.startswith("git symbolic-ref failed: fatal: not a git repository")


def test_without_git_nothing_is_packed(world: World, tmp_path: Path) -> None:
    caller = world.clone()
    world.agent.environment["PATH"] = str(tmp_path)
    code, message = refusal(caller.ask("pack"))
    assert code == "no-work"
    assert message.startswith("git is not installed in the session's image")


@pytest.mark.parametrize("op", ["pack", "collect"])
def test_a_caller_that_gives_up_stops_git_and_lets_the_next_one_in(
    world: World, tmp_path: Path, op: str
) -> None:
    caller = world.clone()
    world.project.commit(a="2\n")
    fifo = tmp_path / "started"
    os.mkfifo(fifo)
    (tmp_path / "git").write_text(
        f"#!/bin/sh\nrm '{tmp_path}/git'; echo x >'{fifo}'; exec sleep 1000\n"
    )
    (tmp_path / "git").chmod(0o755)
    world.agent.environment["PATH"] = f"{tmp_path}:/usr/bin:/bin"
    given_up = caller.send(op)
    fifo.read_text()
    waiting = caller.send(op)
    caller.send("cancel", id=given_up)
    assert refusal(caller.answer(given_up))[1].endswith("was stopped")
    assert "ok" in caller.answer(waiting)


def test_a_git_that_does_not_end_is_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caller = world.clone()
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "git").chmod(0o755)
    world.agent.environment["PATH"] = f"{tmp_path}:/usr/bin:/bin"
    monkeypatch.setattr(work, "COMMIT_SECONDS", 0.2)
    why = "git symbolic-ref was stopped: the time limit of 0.2 s is over"
    assert refusal(caller.ask("pack")) == ("no-work", why)


# What only the session has.


def test_commits_and_files_that_only_the_session_has_are_named(world: World) -> None:
    caller = world.clone()
    unsaved: dict[str, Any] = {"commits": [], "files": [], "more": 0, "reason": ""}
    assert {**unsaved, **caller.ask("unsaved")["ok"]} == unsaved
    tip = world.project.commit(a="2\n")
    world.project.write("b", "1\n")
    found = {**unsaved, "commits": [f"{tip[:10]} work"], "files": ["b"]}
    assert {**unsaved, **caller.ask("unsaved")["ok"]} == found
    assert caller.ask("applied", commit=tip) == {"ok": {}}
    assert {**unsaved, **caller.ask("unsaved")["ok"]} == {**unsaved, "files": ["b"]}
    later = world.project.commit(a="3\n")
    caller = world.start(CLONE, None)
    found = {**unsaved, "commits": [f"{later[:10]} work"]}
    assert {**unsaved, **caller.ask("unsaved")["ok"]} == found


def test_files_that_only_a_copy_has_are_counted(world: World) -> None:
    world.project.write("a", "1\n")
    caller = world.begin(COPY)
    for number in range(changes.MAX_COMMITS + 2):
        world.project.write(f"new/{number:03}", "1\n")
    answer = caller.ask("unsaved")["ok"]
    assert len(answer["files"]) == changes.MAX_COMMITS
    assert answer["more"] == 2


def test_the_latest_applied_commits_are_remembered_once(world: World) -> None:
    caller = world.start(CLONE, base="1" * 40)
    commits = [f"{number:040}" for number in range(22)]
    for commit in (*commits, commits[5]):
        assert caller.ask("applied", commit=commit) == {"ok": {}}
    expected = [*(each for each in commits[2:] if each != commits[5]), commits[5]]
    world.start(CLONE, base="1" * 40)
    assert world.agent.state.applied == expected
    assert refusal(caller.ask("applied"))[0] == "malformed"


@pytest.mark.parametrize("kept", ['{"applied": "abc"}', "{}", "[]"])
def test_forged_applied_commits_are_ignored(world: World, kept: str) -> None:
    world.state.mkdir()
    (world.state / places.STATE_FILE).write_text(kept)
    world.start(CLONE)
    assert world.agent.state.applied == []


def test_a_session_knows_at_its_end_whether_it_holds_work(world: World) -> None:
    world.clone()
    assert not world.agent.work.holds_work()
    world.project.write("b", "1\n")
    assert world.agent.work.holds_work()
    (world.project.path / "b").unlink()
    assert not world.agent.work.holds_work()
    world.damage_checkpoints()
    assert world.agent.work.holds_work()
