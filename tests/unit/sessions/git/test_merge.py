"""A merge into the host's current branch: all of it, or nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import anyio
import pytest

from claude_mcp.errors import GitError, GitNotFound, WorkConflict, WorkRefused
from claude_mcp.sessions.git import merge as module
from claude_mcp.sessions.git import to_branch
from claude_mcp.sessions.git.merge import Merge, Merged, merge
from claude_mcp.sessions.git.program import Git
from tests.unit.conftest import Lifeline
from tests.unit.sessions.git.conftest import (
    BRANCH,
    IDENTITY,
    World,
    attempt,
    commit,
    git,
    plant,
    slow_git,
    start,
)


async def take(world: World) -> Merged:
    async with world.incoming() as work:
        return await merge(work, IDENTITY)


async def conflict(world: World) -> WorkConflict:
    before, refs = world.state(), git(world.host, "for-each-ref")
    with pytest.raises(WorkConflict) as refused:
        await take(world)
    assert world.state() == before
    assert git(world.host, "for-each-ref") == refs
    git(world.host, "fsck", "--strict", "--no-dangling")
    return refused.value


def status(world: World) -> str:
    return git(world.host, "status", "--porcelain", "--untracked-files=all")


async def test_a_branch_moves_forward_with_its_files(world: World) -> None:
    (world.session / "run").write_text("#!/bin/sh\n")
    (world.session / "run").chmod(0o755)
    (world.session / "link").symlink_to("dir/c")
    tip = world.commit({"a": "new\n", "b": None, "dir/sub/e": "e\n"})
    world.pack()
    assert await take(world) == Merged(
        "main", Merge.FORWARDED, world.base, tip, ("a", "b", "dir/sub/e", "link", "run")
    )
    assert git(world.host, "rev-parse", "main", "HEAD").split() == [tip, tip]
    assert status(world) == ""
    assert (world.host / "run").stat().st_mode & 0o111
    assert os.readlink(world.host / "link") == "dir/c"
    assert not (world.host / "b").exists()
    assert world.is_sound()
    assert (await take(world)).how is Merge.UNCHANGED


async def test_a_merge_commit_has_the_users_name_and_both_parents(world: World) -> None:
    ours = commit(world.host, {"b": "of the host\n"})
    tip = world.commit({"dir/c": "new\n"})
    world.pack()
    done = await take(world)
    assert (done.how, done.paths) == (Merge.MERGED, ("dir/c",))
    shown = git(world.host, "show", "-s", "--format=%an|%ae|%cn|%P|%s", "HEAD")
    assert shown == f"Ada|ada@example.org|Ada|{ours} {tip}|Merge branch '{BRANCH}'"
    assert (world.host / "b").read_text() == "of the host\n"
    assert (world.host / "dir/c").read_text() == "new\n"
    assert status(world) == ""
    assert world.is_sound()
    assert "Ada" in git(world.host, "reflog", "--format=%gn", "-1")


async def test_a_merge_without_identity_is_refused(world: World) -> None:
    commit(world.host, {"b": "of the host\n"})
    world.commit({"dir/c": "new\n"})
    world.pack()
    async with world.incoming() as work:
        with pytest.raises(GitError, match="does not know who you are"):
            await merge(work, (("user.name", "Ada"),))


async def test_conflicts_are_listed_and_nothing_is_touched(world: World) -> None:
    commit(world.host, {"b": "of the host\n", "dir/c": None})
    world.commit({"b": "of the session\n", "dir/c": "changed\n", "dir/d": "fine\n"})
    world.pack()
    assert (await conflict(world)).paths == ("b", "dir/c")


async def test_a_history_that_was_rewritten_as_a_whole_is_a_conflict(world: World) -> None:
    tip = git(world.session, "commit-tree", "HEAD^{tree}", "-m", "a root of its own")
    world.pack(tip)
    refused = await conflict(world)
    assert "no commit in common" in refused.message
    assert "as a branch" in str(refused.hint)


async def test_changes_elsewhere_stay_as_they_are(world: World) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    (world.host / "a").write_text("uncommitted\n")
    (world.host / "dir/c").write_text("staged\n")
    git(world.host, "add", "dir/c")
    (world.host / "untracked").write_text("x")
    await take(world)
    assert status(world) == "M a\nM  dir/c\n?? untracked"
    assert (world.host / "b").read_text() == "new\n"
    assert world.is_sound()


@pytest.mark.parametrize("staged", [False, True])
async def test_uncommitted_changes_of_the_same_files_are_listed(world: World, staged: bool) -> None:
    world.commit({"a": "new\n", "b": "new\n", "dir/c": None})
    world.pack()
    (world.host / "b").write_text("mine\n")
    (world.host / "dir/c").write_text("mine\n")
    if staged:
        git(world.host, "add", ".")
    assert (await conflict(world)).paths == ("b", "dir/c")
    git(world.host, "stash", "-q")
    await take(world)


async def test_a_change_of_the_same_size_and_time_is_noticed(world: World) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    git(world.host, "config", "core.trustctime", "false")
    before = (world.host / "b").stat()
    (world.host / "b").write_text("x\n")
    for path in (world.host / "b", world.host / ".git/index"):
        os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert (await conflict(world)).paths == ("b",)


async def test_a_change_that_the_user_told_git_to_overlook_is_kept(world: World) -> None:
    world.commit({"b": "new\n", "new": "new\n"})
    world.pack()
    git(world.host, "update-index", "--assume-unchanged", "b")
    (world.host / "b").write_text("mine\n")
    (world.host / "new").write_text("new\n")
    await conflict(world)


@pytest.mark.parametrize("ignored", [False, True])
async def test_untracked_files_in_the_way_are_listed(world: World, ignored: bool) -> None:
    world.commit({"new": "new\n", "dir/x/y": "new\n", "z": "z\n"})
    world.pack()
    (world.host / "new").write_text("mine\n")
    (world.host / "dir/x").write_text("mine\n")
    if ignored:
        (world.host / ".git/info/exclude").write_text("new\nx\n")
    assert (await conflict(world)).paths == ("dir/x", "new")


@pytest.mark.parametrize("ignored", [False, True])
async def test_links_and_directories_in_the_way_are_neither_followed_nor_removed(
    world: World, tmp_path: Path, ignored: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    world.commit({"sub/new": "new\n"})
    world.pack()
    (world.host / "sub").symlink_to(outside)
    if ignored:
        (world.host / ".git/info/exclude").write_text("sub\nnew\n")
    await conflict(world)
    (world.host / "sub").unlink()
    (world.host / "sub/new").mkdir(parents=True)
    (world.host / "sub/new/mine").touch()
    await conflict(world)
    assert os.listdir(outside) == []


async def test_a_linked_directory_that_replaced_a_tracked_one_is_not_followed(
    world: World, tmp_path: Path
) -> None:
    world.commit({"dir/c": "new\n", "dir/e": "e\n"})
    world.pack()
    (world.host / "dir").rename(tmp_path / "outside")
    (world.host / "dir").symlink_to(tmp_path / "outside")
    await conflict(world)
    assert (tmp_path / "outside/c").read_text() == "c\n"


async def test_files_become_directories_and_the_other_way_round(world: World) -> None:
    (world.session / "b").unlink()
    world.commit({"b/x": "x\n", "dir/c": None, "dir/d": None})
    (world.session / "dir").rmdir()
    world.commit({"dir": "a file\n"})
    world.pack()
    await take(world)
    assert status(world) == ""
    assert (world.host / "dir").read_text() == "a file\n"
    assert world.is_sound()


@pytest.mark.parametrize("name", ["dir/sub/mine", "dir/link"])
async def test_an_ignored_file_in_a_directory_that_a_file_replaces_is_kept(
    world: World, name: str
) -> None:
    world.commit({"dir/c": None, "dir/d": None})
    (world.session / "dir").rmdir()
    world.commit({"dir": "a file\n"})
    world.pack()
    (world.host / ".git/info/exclude").write_text("mine\nlink\n")
    (world.host / "dir/sub").mkdir()
    if name == "dir/link":
        (world.host / name).symlink_to("sub")
    else:
        (world.host / name).touch()
    assert (await conflict(world)).paths == ("dir",)


async def test_an_untracked_file_that_is_the_same_is_no_obstacle(world: World) -> None:
    world.commit({"new": "new\n", "b": "b2\n"})
    world.pack()
    (world.host / "new").write_text("new\n")
    (world.host / "b").write_text("b2\n")
    await take(world)
    assert status(world) == ""


async def test_states_of_the_repository_that_are_refused(world: World) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    (world.host / ".git/index.lock").touch()
    assert "index.lock exists" in (await conflict(world)).message
    (world.host / ".git/index.lock").unlink()
    (world.host / ".git/MERGE_HEAD").write_text(f"{world.base}\n")
    assert "A merge is in progress" in (await conflict(world)).message
    (world.host / ".git/MERGE_HEAD").unlink()
    git(world.host, "config", "core.sparseCheckout", "true")
    assert "sparse checkout" in (await conflict(world)).message
    git(world.host, "config", "--unset", "core.sparseCheckout")
    git(world.host, "switch", "-q", "--detach")
    assert "HEAD is detached" in (await conflict(world)).message
    git(world.host, "symbolic-ref", "HEAD", "refs/heads/unborn")
    assert "has no commit yet" in (await conflict(world)).message


async def test_an_index_with_conflicts_is_refused(world: World) -> None:
    world.commit({"dir/d": "new\n"})
    world.pack()
    git(world.host, "switch", "-q", "-c", "other")
    commit(world.host, {"b": "other\n"})
    git(world.host, "switch", "-q", "main")
    commit(world.host, {"b": "main\n"})
    attempt(world.host, "merge", "other")
    (world.host / ".git/MERGE_HEAD").unlink()
    assert "unresolved conflicts" in (await conflict(world)).message


async def test_a_bare_repository_is_refused(world: World, tmp_path: Path) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    git(tmp_path, "clone", "-q", "--bare", str(world.host), str(tmp_path / "bare"))
    world.host = tmp_path / "bare"
    with pytest.raises(WorkConflict, match="without a working tree"):
        await take(world)


async def test_a_worktree_of_the_host_is_merged_into(world: World, tmp_path: Path) -> None:
    git(world.host, "worktree", "add", "-q", "-b", "topic", str(tmp_path / "w"))
    tip = world.commit({"b": "new\n"})
    world.pack()
    main, world.host = world.host, tmp_path / "w"
    before = git(main, "status", "--porcelain"), git(main, "rev-parse", "HEAD")
    assert await take(world) == Merged("topic", Merge.FORWARDED, world.base, tip, ("b",))
    assert (git(main, "status", "--porcelain"), git(main, "rev-parse", "HEAD")) == before
    assert status(world) == ""


async def test_an_old_git_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.commit({"b": "new\n"})
    world.pack()

    async def version(self: Git) -> tuple[int, int]:
        return (2, 37)

    async with world.incoming() as work:
        monkeypatch.setattr(Git, "version", version)
        with pytest.raises(GitNotFound, match=r"Install git 2\.38"):
            await merge(work, IDENTITY)


async def test_a_link_that_a_rename_moves_out_of_its_depth_is_refused(world: World) -> None:
    (world.host / "dir/link").symlink_to("c")
    world.base = commit(world.host, {})
    git(world.session, "pull", "-q", str(world.host), "main")
    (world.session / "dir/link").unlink()
    (world.session / "dir/link").symlink_to("../b")
    world.commit({})
    world.pack()
    git(world.host, "mv", "dir/link", "link")
    commit(world.host, {})
    before = world.state()
    with pytest.raises(WorkRefused, match="out of the tree: link"):
        await take(world)
    assert world.state() == before


async def test_no_program_of_the_hosts_repository_runs(world: World, tmp_path: Path) -> None:
    commit(world.host, {"b": "of the host\n"})
    world.commit({"a": "new\n", ".gitattributes": "* filter=evil diff=evil merge=evil\n"})
    world.pack()
    marker = plant(world, tmp_path)
    done = await take(world)
    assert not marker.exists()
    assert "did not run for .gitattributes, a." in done.warnings[0]
    assert (world.host / "a").read_text() == "new\n"
    attempt(world.host, "checkout", "-q", "-f", world.base)  # the control
    assert marker.exists()


async def test_configuration_and_other_files_stay_bit_for_bit(world: World) -> None:
    commit(world.host, {"b": "of the host\n"})
    world.commit({"a": "new\n"})
    world.pack()
    before = world.state()
    await take(world)
    after = world.state()
    changed = {path for path in before | after if before.get(path) != after.get(path)}
    assert changed == {"./a", ".git/index"}


async def test_nobody_commits_between_the_files_and_the_branch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    plain = module._check_out

    async def slow(*arguments: object) -> None:
        await plain(*arguments)  # type: ignore[arg-type]
        if "--dry-run" not in arguments:
            attempt(world.host, "commit", "-q", "--allow-empty", "-m", "meanwhile")

    monkeypatch.setattr(module, "_check_out", slow)
    done = await take(world)
    assert git(world.host, "rev-parse", "HEAD") == done.new
    assert status(world) == ""


async def test_a_host_that_commits_before_the_lock_is_not_overwritten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    plain = to_branch.hand_over

    async def slow(*arguments: object) -> None:
        await plain(*arguments)  # type: ignore[arg-type]
        commit(world.host, {"a": "meanwhile\n"})

    monkeypatch.setattr(module, "hand_over", slow)
    with pytest.raises(WorkConflict, match="is at"):
        await take(world)
    assert status(world) == ""
    assert world.is_sound()
    monkeypatch.undo()
    assert (await take(world)).how is Merge.MERGED


@pytest.mark.parametrize("command", ["read-tree\\ -m\\ -u\\ [0-9a-f]*", "update-ref"])
async def test_a_process_that_is_killed_can_be_repeated(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lifeline: Lifeline,
    command: str,
) -> None:
    ours = commit(world.host, {"b": "of the host\n"})
    tip = world.commit({"a": "new\n", "new": "x\n", "dir/c": None})
    world.pack()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with monkeypatch.context() as patched:
        fifo = slow_git(tmp_path, patched, command, lifeline.hold, after=f"cat '{gate}'")
        process = await start(world, world.bundle, "merge")
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await anyio.to_thread.run_sync(fifo.read_text)  # git has been started
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await anyio.to_thread.run_sync(gate.write_text, "")  # git goes on alone
    await process.communicate()
    await anyio.to_thread.run_sync(lifeline.end)  # git has ended
    git(world.host, "fsck", "--strict", "--no-dangling")
    done = await take(world)
    assert git(world.host, "rev-parse", "HEAD^1", "HEAD^2").split() == [ours, tip]
    assert done.how is Merge.MERGED
    assert status(world) == ""
    assert world.is_sound()


async def test_a_cancelled_merge_ends_what_it_has_begun(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = world.commit({"a": "new\n", "new": "x\n", "dir/c": None})
    world.pack()
    with monkeypatch.context() as patched:
        fifo = slow_git(tmp_path, patched, "read-tree\\ -m\\ -u\\ [0-9a-f]*")
        async with world.applying(fifo, merge, IDENTITY) as tasks:
            tasks.cancel_scope.cancel()
    assert git(world.host, "rev-parse", "HEAD") == tip
    assert status(world) == ""
    assert world.is_sound()


async def test_a_git_that_is_killed_among_the_files_can_be_repeated(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit({"a": "new\n", "new": "x\n", "dir/c": None})
    world.pack()
    half = (
        f"echo new > {world.host}/a; rm {world.host}/dir/c; touch {world.host}/.git/index.lock; "
        "kill -9 $$"
    )
    with monkeypatch.context() as patched:
        slow_git(tmp_path, patched, "read-tree\\ -m\\ -u\\ [0-9a-f]*", before=half)
        async with world.incoming() as work:
            work.git.environment = dict(os.environ)
            with pytest.raises(WorkConflict, match="could not be changed"):
                await merge(work, IDENTITY)
    with pytest.raises(WorkConflict, match=r"index\.lock exists"):
        await take(world)
    (world.host / ".git/index.lock").unlink()
    await take(world)
    assert status(world) == ""
    assert world.is_sound()


async def test_of_two_processes_at_once_none_breaks_the_other(world: World) -> None:
    world.commit({"a": "new\n"})
    world.pack()
    both = [await start(world, world.bundle, "merge") for _ in range(2)]
    outputs = [
        out.decode() for out, _ in await asyncio.gather(*(p.communicate(b"\n") for p in both))
    ]
    assert "forwarded\n" in outputs
    assert {each.split()[0] for each in outputs} <= {"forwarded", "unchanged", "conflict"}
    assert status(world) == ""
    assert (world.host / "a").read_text() == "new\n"
    assert world.is_sound()
