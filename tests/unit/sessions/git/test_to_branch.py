"""A branch of the host's repository is created or moved forward, and nothing else changes."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import anyio
import pytest

from claude_mcp.errors import GitError, UsageError, WorkConflict
from claude_mcp.sessions.git import to_branch as module
from claude_mcp.sessions.git.to_branch import Applied, Moved, to_branch
from tests.unit.conftest import Lifeline
from tests.unit.sessions.git.conftest import (
    BRANCH,
    World,
    attempt,
    commit,
    git,
    plant,
    slow_git,
    start,
)


async def apply(world: World, name: str = BRANCH) -> Applied:
    async with world.incoming() as work:
        return await to_branch(work, name)


async def conflict(world: World, name: str = BRANCH) -> str:
    before, refs = world.state(), git(world.host, "for-each-ref")
    with pytest.raises(WorkConflict) as refused:
        await apply(world, name)
    assert (world.state(), git(world.host, "for-each-ref")) == (before, refs)
    assert world.is_sound()
    return str(refused.value)


async def test_a_branch_is_created_moved_forward_and_left_alone(world: World) -> None:
    first = world.commit({"b": "new\n"})
    world.pack()
    (world.host / "b").write_text("uncommitted\n")
    (world.host / "untracked").touch()
    before = world.state()
    assert await apply(world) == Applied(BRANCH, Moved.CREATED, "", first)
    assert await apply(world) == Applied(BRANCH, Moved.UNCHANGED, first, first)
    second = world.commit({"b": "newer\n"})
    world.pack()
    assert await apply(world) == Applied(BRANCH, Moved.FORWARDED, first, second)
    assert world.ref(BRANCH) == second
    assert world.state() == before
    assert world.is_sound()
    reflog = git(world.host, "reflog", BRANCH)
    assert [line.partition(": ")[2] for line in reflog.splitlines()] == [
        "claude-mcp: forward",
        "claude-mcp: create",
    ]
    assert git(world.host, "show", f"{BRANCH}:b") == "newer"


async def test_only_what_the_branch_needs_is_stored(world: World) -> None:
    world.commit({"extra": "secret of another commit\n"})
    junk = git(world.session, "rev-parse", f"{BRANCH}:extra")
    git(world.session, "reset", "-q", "--hard", world.base)
    tip = world.commit({"b": "new\n"})
    names = git(world.session, "rev-list", "--objects", tip, f"^{world.base}").splitlines()
    world.pack()
    content = world.bundle.read_bytes()
    prefix = str(world.bundle.with_name("forged"))
    listed = "".join(f"{name.split()[0]}\n" for name in [*names, junk]).encode()
    name = git(world.session, "pack-objects", "-q", prefix, data=listed)
    forged = Path(f"{prefix}-{name}.pack").read_bytes()
    world.bundle.write_bytes(content[: content.index(b"\n\n") + 2] + forged)
    await apply(world)
    assert world.ref(BRANCH) == tip
    attempt_missing = git(world.host, "cat-file", "--batch-check", data=junk.encode())
    assert attempt_missing.endswith("missing")


async def test_a_branch_with_other_commits_is_refused(world: World) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    await apply(world)
    git(world.host, "worktree", "add", "-q", str(world.host.parent / "w"), BRANCH)
    commit(world.host.parent / "w", {"b": "of the host\n"}, "By hand")
    git(world.host, "worktree", "remove", str(world.host.parent / "w"))
    assert "has commits that the session's work does not contain: By hand." in await conflict(world)


async def test_a_branch_that_is_checked_out_anywhere_is_refused(world: World) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    assert "is checked out in" in await conflict(world, "main")
    git(world.host, "worktree", "add", "-q", "-b", "other", str(world.host.parent / "w"))
    assert "is checked out in" in await conflict(world, "other")
    git(world.host, "symbolic-ref", "HEAD", "refs/heads/unborn")
    assert "is checked out" in await conflict(world, "unborn")
    assert (await apply(world, "main")).how is Moved.FORWARDED


async def test_a_branch_that_is_rebased_is_refused(world: World) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    git(world.host, "switch", "-q", "-c", "topic")
    commit(world.host, {"b": "topic\n"})
    git(world.host, "switch", "-q", "main")
    commit(world.host, {"b": "main\n"})
    attempt(world.host, "rebase", "main", "topic")
    assert "Branch topic is being rebased." in await conflict(world, "topic")


async def test_another_name_of_a_branch_is_refused(world: World) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    git(world.host, "branch", "real")
    git(world.host, "symbolic-ref", "refs/heads/alias", "refs/heads/real")
    assert "another name of refs/heads/real" in await conflict(world, "alias")


async def test_a_name_that_git_cannot_store_is_an_error(world: World) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    git(world.host, "branch", "claude")
    with pytest.raises(GitError, match="'refs/heads/claude' exists"):
        await apply(world)
    git(world.host, "branch", "-m", "claude", "team/topic")
    with pytest.raises(GitError, match="'refs/heads/team/topic' exists"):
        await apply(world, "team")
    with pytest.raises(UsageError):
        await apply(world, "--force")
    assert world.is_sound()


async def test_no_program_of_the_hosts_repository_runs(world: World, tmp_path: Path) -> None:
    world.commit({"a": "new\n", ".gitattributes": "* filter=evil diff=evil merge=evil\n"})
    world.pack()
    marker = plant(world, tmp_path)
    before = world.state()
    await apply(world)
    assert world.state() == before
    assert not marker.exists()
    attempt(world.host, "update-ref", "refs/heads/x", world.base)  # the control
    assert "reference-transaction" in marker.read_text()


async def test_a_host_that_moves_the_branch_meanwhile_wins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = world.commit({"b": "new\n"})
    world.pack()
    plain = module.hand_over
    moves = [world.base, tip]

    async def slow(*arguments: object) -> None:
        await plain(*arguments)  # type: ignore[arg-type]
        git(world.host, "update-ref", f"refs/heads/{BRANCH}", moves.pop(0))

    monkeypatch.setattr(module, "hand_over", slow)
    with pytest.raises(WorkConflict, match="changed by somebody else"):
        await apply(world)
    assert world.ref(BRANCH) == world.base
    assert await apply(world) == Applied(BRANCH, Moved.UNCHANGED, tip, tip)


async def test_of_two_processes_at_once_one_wins_and_the_other_says_so(world: World) -> None:
    bundles = []
    for number in range(2):
        git(world.session, "checkout", "-q", "-B", BRANCH, world.base)
        world.commit({"b": f"{number}\n"})
        world.pack()
        bundles.append(world.bundle.rename(world.bundle.with_name(f"bundle{number}")))
    both = [await start(world, bundle) for bundle in bundles]
    outputs = [
        out.decode() for out, _ in await asyncio.gather(*(p.communicate(b"\n") for p in both))
    ]
    assert sorted(each.split()[0] for each in outputs) == ["conflict", "created"]
    assert world.is_sound()


async def test_two_processes_with_the_same_commit_both_succeed(world: World) -> None:
    tip = world.commit({"b": "new\n"})
    world.pack()
    both = [await start(world, world.bundle) for _ in range(2)]
    outputs = [
        out.decode() for out, _ in await asyncio.gather(*(p.communicate(b"\n") for p in both))
    ]
    assert set(outputs) <= {"created\n", "unchanged\n"}
    assert "created\n" in outputs
    assert world.ref(BRANCH) == tip
    assert world.is_sound()


async def test_a_branch_that_another_git_has_locked_for_a_moment_is_waited_for(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = world.commit({"b": "new\n"})
    world.pack()
    lock = world.host / f".git/refs/heads/{BRANCH}.lock"
    lock.parent.mkdir()
    lock.touch()
    fifo = slow_git(tmp_path, monkeypatch, "update-ref")
    async with world.applying(fifo, to_branch, BRANCH):
        await anyio.sleep(0.5)  # longer than git waits if it is not told to
        lock.unlink()
    assert world.ref(BRANCH) == tip


@pytest.mark.parametrize("command", ["pack-objects", "update-ref"])
async def test_a_process_that_is_killed_leaves_a_whole_repository(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lifeline: Lifeline,
    command: str,
) -> None:
    tip = world.commit({"b": "new\n"})
    world.pack()
    fifo = slow_git(tmp_path, monkeypatch, command, lifeline.hold)
    process = await start(world, world.bundle)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await anyio.to_thread.run_sync(fifo.read_text)  # git has been started
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    await anyio.to_thread.run_sync(lifeline.end)  # git has ended, which went on alone
    git(world.host, "fsck", "--strict", "--no-dangling")
    monkeypatch.undo()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    assert (await apply(world)).new == tip
    assert world.is_sound()


async def test_a_cancelled_call_kills_git_and_leaves_a_whole_repository(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    fifo = slow_git(tmp_path, monkeypatch, "pack-objects")
    async with world.applying(fifo, to_branch, BRANCH) as tasks:
        tasks.cancel_scope.cancel()
    assert world.ref(BRANCH) == ""
    git(world.host, "fsck", "--strict", "--no-dangling")
