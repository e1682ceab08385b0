"""Work of a copy, and of a clone whose host has lost its git: checked and taken without git."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.agent.workspace import collecting
from claude_mcp.agent.workspace.git import Deadline, Git
from claude_mcp.errors import GitNotFound, TransferError, UsageError, WorkRefused
from claude_mcp.sessions import labels
from claude_mcp.sessions.git import sealing
from claude_mcp.sessions.registry import open_sessions
from claude_mcp.sessions.workspaces.collected import UNSEALED
from tests.unit.sessions.conftest import container
from tests.unit.sessions.git.conftest import git
from tests.unit.sessions.workspaces.test_applying import SEND, Scene, scene, world

__all__ = ["scene", "world"]
pytestmark = pytest.mark.anyio
KEY = sealing.new_key()


class Taken:
    """The session's work since its base, as its agent collects it."""

    def __init__(self, scene: Scene) -> None:
        self.scene, world = scene, scene.world
        self.host = world.host
        self.tip = git(world.session, "rev-parse", "HEAD")
        self.trees = [git(world.session, "rev-parse", f"{each}^{{tree}}")
                      for each in (world.base, self.tip)]  # fmt: skip

    def holds(self, kind: str, *, seal: str | None = None) -> None:
        """A session of this kind; ``seal`` is what it says of its beginning."""
        made = container("abcd1", "fix")
        made["labels"][labels.PROJECT] = str(self.host)
        made["labels"][labels.WORKSPACE] = kind
        before, after = self.trees
        if kind == "clone":
            before, after = self.scene.world.base, self.tip
            made["labels"][labels.BASE] = before
        else:
            made["labels"][labels.SEAL] = KEY
        self.scene.scripted.holds(made)
        self.collects(before, after, sealing.seal(KEY, before) if seal is None else seal)

    def collects(self, before: str, after: str, seal: str = "") -> None:
        file = self.scene.world.bundle
        program = Git({"GIT_DIR": str(self.scene.world.session / ".git")}, {})
        collecting.collect(program, before, after, (), True, str(file), Deadline(60))
        told = {"path": "/run/work", "before": before, "after": after, "seal": seal}
        self.scene.says("collect", ok={**told, "state": "5" * 40})
        self.scene.sends(SEND)


@pytest.fixture
async def taken(scene: Scene, tmp_path: Path) -> AsyncIterator[Taken]:
    programs = tmp_path / "programs"
    programs.mkdir()
    for each in ("cat", "ls", "sed", "rm", "head", "tail", "grep"):  # of the scripted engine
        (programs / each).symlink_to(shutil.which(each) or "")
    config = scene.sessions.config
    without = replace(config, environment={**config.environment, "PATH": str(programs)})
    async with open_sessions(without) as sessions:
        scene.sessions = sessions
        yield Taken(scene)


@pytest.mark.parametrize("kind", ["copy", "clone"])
async def test_files_are_taken_unless_the_host_changed_them(taken: Taken, kind: str) -> None:
    taken.holds(kind)
    (taken.host / "a").write_text("mine\n")
    done = await taken.scene.apply("files", paths=["."])
    assert (sorted(done.files), done.commits) == (["b", "new"], 0)
    assert done.left == ("a: it changed on the host since the session began",)
    assert (taken.host / "a").read_text() == "mine\n"
    assert (taken.host / "new").read_text() == "1\n"
    assert not (taken.host / "b").exists()
    assert [op for op, _ in taken.scene.asked] == ["collect", "drop"]
    done = await taken.scene.apply("files", paths=["."], overwrite=True)
    assert (done.left, (taken.host / "a").read_text()) == ((), "new\n")
    assert taken.scene.asked[-1] == ["applied", {"commit": "5" * 40}]


@pytest.mark.parametrize("kind", ["copy", "clone", "bind"])
async def test_a_patch_is_made(taken: Taken, kind: str, tmp_path: Path) -> None:
    taken.holds(kind)
    done = await taken.scene.apply("patch", patch=str(tmp_path / "x"))
    assert (done.path, sorted(done.files), done.warnings) == (
        str(tmp_path / "x"), ["a", "b", "new"], ()
    )  # fmt: skip
    git(taken.host, "apply", "--index", str(tmp_path / "x"))
    assert git(taken.host, "write-tree") == taken.trees[1]
    assert (["applied", {"commit": "5" * 40}] in taken.scene.asked) == (kind != "bind")


async def test_another_beginning_than_the_sealed_one_replaces_nothing(taken: Taken) -> None:
    """The control is the first test: with its seal, the beginning counts."""
    taken.holds("copy", seal="0" * 64)
    done = await taken.scene.apply("files", paths=["."])
    assert (done.files, len(done.left), done.warnings) == (("new",), 2, (UNSEALED,))
    assert (taken.host / "b").exists()


async def test_a_clone_cannot_name_another_beginning(taken: Taken) -> None:
    taken.holds("clone")
    taken.collects(taken.tip, taken.scene.world.base)
    error = await taken.scene.refusal(WorkRefused, "files", paths=["."])
    assert "another commit" in error.message


@pytest.mark.parametrize("mode", ["branch", "merge"])
async def test_a_branch_needs_git(taken: Taken, mode: str) -> None:
    taken.holds("clone")
    error = await taken.scene.refusal(GitNotFound, mode)
    assert error.hint == "Install git, and try again. Or take the work as files, or as a patch."
    assert "exec" not in taken.scene.scripted.calls


@pytest.mark.parametrize("mode", ["branch", "merge"])
async def test_a_copy_is_no_branch(taken: Taken, mode: str) -> None:
    taken.holds("copy")
    error = await taken.scene.refusal(UsageError, mode)
    assert error.hint == "Take it as files, or as a patch."


async def test_only_a_clone_can_commit(taken: Taken) -> None:
    taken.holds("copy")
    error = await taken.scene.refusal(UsageError, "files", paths=["."], commit="All")
    assert error.message == "commit belongs to the workspace 'clone', not to 'copy'."


@pytest.mark.parametrize("answer", [{"before": "x"}, {"after": "5" * 64}, {"state": "-x"}])
async def test_forged_names_are_refused(taken: Taken, answer: dict[str, Any]) -> None:
    taken.holds("copy")
    told = {"path": "/run/work", "before": "1" * 40, "after": "2" * 40, "state": "3" * 40}
    taken.scene.says("collect", ok={**told, **answer})
    error = await taken.scene.refusal(WorkRefused, "files", paths=["."])
    assert "cannot exist" in error.message


async def test_what_would_run_on_the_host_is_refused(taken: Taken) -> None:
    session = taken.scene.world.session
    blob = git(session, "hash-object", "-w", "--stdin", data=b"evil")
    hooks = git(session, "mktree", data=f"100755 blob {blob}\thook\n".encode())
    root = git(session, "mktree", data=f"040000 tree {hooks}\t.GIT\n".encode())
    taken.holds("copy")
    taken.collects(taken.trees[0], root, sealing.seal(KEY, taken.trees[0]))
    error = await taken.scene.refusal(WorkRefused, "files", paths=["."], overwrite=True)
    assert "read as .git" in error.message
    assert not (taken.host / ".GIT" / "hook").exists()


async def test_a_project_that_is_gone_is_said(taken: Taken) -> None:
    taken.holds("copy")
    taken.host.rename(taken.host.with_name("elsewhere"))
    with pytest.raises(TransferError, match="No such file or directory"):
        await taken.scene.apply("files", paths=["."])
    os.rename(taken.host.with_name("elsewhere"), taken.host)
