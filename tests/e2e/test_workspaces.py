"""Work of the real Claude Code in clones, and how it comes back to the host's repository."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.peers import Peer, script
from tests.snapshots import NEW_OBJECTS, differences, git, is_sound, ref_files, snapshot

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

pytestmark = pytest.mark.usefixtures("committer")
Call = Callable[..., Any]
START = {"a.txt": "one\n", "b.txt": "one\n", "run.sh": "#!/bin/sh\n", ".gitignore": "secret\n"}


@pytest.fixture
def repository(project: Path) -> Path:
    git(project, "init", "--quiet", "--initial-branch=main")
    for name, content in START.items():
        (project / name).write_text(content)
    (project / "run.sh").chmod(0o755)
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    git(project, "branch", "other")
    (project / "secret").write_text("ignored")
    (project / "draft").write_text("untracked")
    return project


@pytest.fixture
async def names(name: str, bare: Bare) -> AsyncIterator[list[str]]:
    """Of four sessions, which are removed whatever happens."""
    four = [f"{name}-{number}" for number in range(4)]
    yield four
    for each in four:
        bare.remove_all(each)


def write(path: str, content: str) -> dict[str, Any]:
    return {"tool": "Write", "input": {"file_path": f"/workspace/{path}", "content": content}}


def run(command: str) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": command, "description": "work"}}


def commit(message: str) -> dict[str, Any]:
    return run(f"git add -A && git commit -qm '{message}'")


async def do(call: Peer, session: str, *steps: dict[str, Any]) -> str:
    """Have Claude do some work; returns the turn."""
    turn = await call(
        "execute_in_session", sessionId=session, prompt=script(*steps, {"say": "done"})
    )
    assert (turn["status"], turn["result"]) == ("completed", "done")
    return str(turn["turnId"])


async def test_four_sessions_at_once_come_back_and_nothing_else_changes(
    start: Call, repository: Path, names: list[str]
) -> None:
    """The third and the fourth change the same line; the second does not commit."""
    before = snapshot(repository)
    tasks = [
        (write("new/one.py", "print(1)\n"), commit("one")),
        (write("a.txt", "one\ntwo\n"), run("rm run.sh")),
        (write("b.txt", "three\n"), commit("three")),
        (write("b.txt", "four\n"), commit("four"), write("four.txt", "4"), commit("more")),
    ]

    async def work(call: Peer, session: str, steps: tuple[dict[str, Any], ...]) -> None:
        await call(
            "create_session", projectPath=str(repository), sessionName=session, workspace="clone"
        )
        await do(call, session, *steps)

    async with start() as call:
        async with anyio.create_task_group() as group:
            for session, steps in zip(names, tasks, strict=True):
                group.start_soon(work, call, session, steps)
        assert differences(before, snapshot(repository)) == []

        first, second, third, fourth = names
        made = await call("apply_changes", sessionId=first)
        assert (made["outcome"], made["branch"]) == ("created", f"claude/{first}")
        asked = ref_files(f"refs/heads/claude/{first}")
        assert differences(before, snapshot(repository), (*NEW_OBJECTS, *asked)) == []

        assert "nothing was committed there" in await call.refused(
            "apply_changes", sessionId=second, mode="merge"
        )
        merged = await call("apply_changes", sessionId=second, mode="merge", commit="two")
        assert (merged["outcome"], merged["branch"]) == ("forwarded", "main")
        merged = await call("apply_changes", sessionId=third, mode="merge")
        assert merged["outcome"] == "merged"
        here = snapshot(repository)
        conflict = await call.refused("apply_changes", sessionId=fourth, mode="merge")
        assert "conflicts with the current branch in b.txt" in conflict
        assert differences(here, snapshot(repository), NEW_OBJECTS) == []

        # As the message says: the work as a branch, which is merged by hand.
        await call("apply_changes", sessionId=fourth)
        git(repository, "merge", "--quiet", f"claude/{first}", "-m", "by hand")
        git(repository, "merge", "--quiet", f"claude/{fourth}", check=False)
        (repository / "b.txt").write_text("three and four\n")
        git(repository, "commit", "--quiet", "--all", "-m", "resolved")
        for each in names:
            await call("destroy_session", sessionId=each)

    branches = {f"claude/{first}", f"claude/{fourth}", "main", "other"}
    assert set(git(repository, "branch", "--format=%(refname:short)").split()) == branches
    assert git(repository, "status", "--porcelain") == "?? draft"
    after = snapshot(repository)
    assert {name for name in ("a.txt", "b.txt", "new/one.py", "four.txt") if name in after}
    assert [after[name][2] for name in ("a.txt", "b.txt", "new/one.py", "four.txt")] == [
        b"one\ntwo\n", b"three and four\n", b"print(1)\n", b"4",
    ]  # fmt: skip
    assert "run.sh" not in after
    for name in (".git/config", ".git/refs/heads/other", "draft", "secret", ".gitignore"):
        assert after[name] == before[name]
    is_sound(repository)
