"""The agent's half of the exchange in which a session gets its workspace; git is the real one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.workspace import seed as module
from claude_mcp.agent.workspace.checkpoints import CREATE, Checkpoints
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.workspaces import CLONE, COPY, FILES, LFS, PACKS, SEED_REF, Seed

if TYPE_CHECKING:
    from tests.unit.agent.workspace.conftest import Project

BRANCH = "claude/fix"


class Host:
    """The other half: ``unpack`` fills the staging directory before ``answer`` is sent."""

    def __init__(self, unpack: Callable[[Path], None], answer: str) -> None:
        self._unpack, self._answer = unpack, answer
        self.said: list[tuple[str, Any]] = []

    def say(self, line: str) -> None:
        word, _, value = line.partition(" ")
        self.said.append((word, json.loads(value or "null")))

    def readline(self) -> str:
        """The agent's stdin: the answer to what was said last."""
        if self.said[-1][0] == "seeded":
            return "the seal\n"
        ((word, staging),) = self.said
        assert (word, {*staging}) == ("staging", {"staging", "uid", "gid"})
        self._unpack(Path(staging["staging"]))
        return self._answer


class World:
    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        self.project = project
        self.workspace = project.path.parent / "session"
        self.workspace.mkdir()
        self._monkeypatch = monkeypatch
        self.contents: dict[str, str] = {}

    def unpack(self, staged: Path) -> None:
        assert sorted(each.name for each in staged.iterdir()) == [FILES, LFS, PACKS]
        if (self.project.path / ".git").exists() and self.project.git("rev-list", "--all"):
            self.project.git("pack-objects", "-q", "--all", str(staged / PACKS / "pack"))
        for name, content in self.contents.items():
            path = staged / FILES / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def exchange(self, answer: str) -> tuple[str, Any]:
        """What the agent says in the end."""
        host = Host(self.unpack, answer)
        self._monkeypatch.setattr(sys, "stdin", host)
        module.receive(str(self.workspace), str(self.project.state), host.say)
        _, end = host.said
        assert not [each for each in self.workspace.iterdir() if "transfer" in each.name]
        return end

    def seed(self, seed: Seed) -> tuple[str, Any]:
        return self.exchange(json.dumps(to_json(seed)) + "\n")

    def seeded(self, seed: Seed) -> None:
        """The agent says which state it kept, and keeps the host's seal if there is no commit."""
        said = self.seed(seed)
        created = Checkpoints(str(self.project.state), str(self.workspace)).find(CREATE)
        assert created is not None
        assert said == ("seeded", created.tree)
        seal = self.project.state / module.SEAL
        assert (seal.read_text() if seal.exists() else None) == (
            "the seal" if seed.base is None else None
        )

    def git(self, *arguments: str) -> str:
        return self.project.git(*arguments, cwd=self.workspace)

    def created(self) -> list[str]:
        """The paths of the checkpoint of the creation."""
        assert Checkpoints(str(self.project.state), str(self.workspace)).find(CREATE)
        names = self.project.shadow("ls-tree", "-r", "--name-only", f"refs/checkpoints/{CREATE}")
        return names.split("\n")


@pytest.fixture
def world(project: Project, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("HOME", str(project.home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for variable in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(variable, raising=False)
    return World(project, monkeypatch)


def test_a_copy_is_what_the_host_unpacked(world: World) -> None:
    world.contents = {"a": "1\n", "dir/b": "2\n"}
    world.seeded(Seed(COPY))
    assert world.created() == ["a", "dir/b"]
    assert (world.workspace / "dir/b").read_text() == "2\n"
    assert not (world.workspace / ".git").exists()


def test_files_of_the_image_stay_unless_the_project_has_them(world: World) -> None:
    (world.workspace / "mine").write_text("image")
    (world.workspace / "a").write_text("image")
    world.contents = {"a": "1\n"}
    world.seeded(Seed(COPY))
    assert (world.workspace / "a").read_text() == "1\n"
    assert world.created() == ["a", "mine"]


def test_a_clone_has_commits_references_and_uncommitted_changes(world: World) -> None:
    old = world.project.commit(a="1\n", gone="1\n")
    world.project.write("deep/er/gone", "1\n")
    world.project.write("directory/x", "1\n")
    base = world.project.commit(a="2\n")
    world.contents = {"a": "3\n", "new": "1\n"}
    references = {"refs/remotes/origin/main": base, "refs/tags/old": old}
    deleted = ("gone", "deep/er/gone", "directory", "never/there", "a/below")
    seed = Seed(CLONE, BRANCH, base, references=references, deleted=deleted)
    world.seeded(seed)
    assert world.git("rev-parse", "HEAD", "origin/main", SEED_REF, "old").split() == [
        *[base] * 3,
        old,
    ]
    assert world.git("branch", "--show-current") == BRANCH
    assert world.git("status", "--porcelain", "--untracked-files=all").split("\n") == [
        " M a",
        " D deep/er/gone",
        " D directory/x",
        " D gone",
        "?? new",
    ]
    assert world.created() == ["a", "new"]
    assert sorted(each.name for each in world.workspace.iterdir()) == [".git", "a", "new"]
    created = Checkpoints(str(world.project.state), str(world.workspace), clone=True).find(CREATE)
    assert created is not None
    assert (created.head, created.branch) == (base, BRANCH)


def test_a_clone_of_a_project_without_commits_is_empty(world: World) -> None:
    world.contents = {"new": "1\n"}
    world.seeded(Seed(CLONE, BRANCH))
    assert world.git("symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
    assert world.created() == ["new"]


def test_a_shallow_clone_may_lack_parents(world: World) -> None:
    world.project.commit(a="1\n")
    base = world.project.commit(a="2\n")
    shallow = world.project.path.parent / "shallow"
    world.project.git("clone", "-q", "--depth=1", f"file://{world.project.path}", str(shallow))
    shutil.rmtree(world.project.path)
    shallow.rename(world.project.path)
    world.seeded(Seed(CLONE, BRANCH, base, shallow=(base,)))
    assert world.git("log", "--format=%H") == base


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "Seed is not an object"),
        ("\n", "Expecting value"),
        ("{\n", "Expecting property name"),
        ("[]\n", "Seed is not an object"),
        ("{}\n", "missing 1 required positional argument: 'kind'"),
    ],
)
def test_what_is_no_seed_is_refused(world: World, answer: str, why: str) -> None:
    word, said = world.exchange(answer)
    assert word == "unseeded"
    assert why in said
    assert [*world.workspace.iterdir()] == []


def test_a_commit_that_did_not_arrive_is_refused(world: World) -> None:
    world.project.commit(a="1\n")
    word, said = world.seed(Seed(CLONE, BRANCH, "1" * 40))
    assert word == "unseeded"
    assert said.startswith("git update-ref failed: fatal: ")
    assert len(said) <= module.SAID_CHARS


def test_a_branch_that_git_refuses_is_refused(world: World) -> None:
    word, said = world.seed(Seed(CLONE, "a..b"))
    assert (word, said[:16]) == ("unseeded", "git init failed:")


@pytest.mark.parametrize("kind", [CLONE, COPY])
def test_an_image_without_git_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    world.contents = {"a": "1\n"}
    monkeypatch.setenv("PATH", str(tmp_path))
    word, said = world.seed(Seed(kind, BRANCH))
    assert word == "unseeded"
    assert said.startswith(
        "git is not installed in the session's image"
        if kind == CLONE
        else "its first state cannot be kept: "
    )


def test_a_first_state_that_is_too_large_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_mcp.agent.workspace.snapshot.MAX_NEW_FILES", 1)
    world.contents = {"a": "1\n", "b": "2\n"}
    word, said = world.seed(Seed(COPY))
    assert word == "unseeded"
    assert said.startswith("its first state cannot be kept: more than 1 files are new or changed")


def test_a_workspace_that_is_missing_is_refused_before_anything_is_staged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.workspace.rmdir()
    host = Host(world.unpack, "")
    monkeypatch.setattr(sys, "stdin", host)
    module.receive(str(world.workspace), str(world.project.state), host.say)
    ((word, said),) = host.said
    assert word == "unseeded"
    assert "No such file or directory" in said


def test_a_directory_in_the_way_of_a_file_is_refused(world: World) -> None:
    (world.workspace / "a/below").mkdir(parents=True)
    world.contents = {"a": "1\n"}
    word, said = world.seed(Seed(COPY))
    assert word == "unseeded"
    assert str(world.workspace / "a") in said
