"""Single files come into the working tree; what changed on the host is kept unless asked."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import anyio
import pytest

from claude_mcp.errors import UsageError, WorkConflict
from claude_mcp.sessions.git import to_files as module
from claude_mcp.sessions.git.to_files import Outcome, Taken, to_files
from claude_mcp.sessions.git.worktree import Found, look
from tests.unit.sessions.git.conftest import World, attempt, git, plant


async def take(world: World, *paths: str, overwrite: bool = False) -> dict[str, str]:
    async with world.incoming() as work:
        taken = await to_files(work, paths, overwrite=overwrite)
    assert world.is_sound()
    return {
        each.path: f"{each.outcome}{': ' if each.reason else ''}{each.reason}" for each in taken
    }


async def test_chosen_files_are_written_with_their_modes(world: World) -> None:
    (world.session / "run").write_text("#!/bin/sh\n")
    (world.session / "run").chmod(0o755)
    (world.session / "dir/link").symlink_to("../b")
    world.commit({"a": "new\n", "b": "b2\n", "n/e/w": "w\n", "dir/c": "c2\n", "empty": ""})
    world.pack()
    index = (world.host / ".git/index").read_bytes()
    assert await take(world, "a", "run", "n/e/w", "dir/", "empty") == {
        "a": "written",
        "dir/c": "written",
        "dir/link": "written",
        "empty": "written",
        "n/e/w": "written",
        "run": "written",
    }
    assert (world.host / "a").read_text() == "new\n"
    assert (world.host / "b").read_text() == "b\n"
    assert (world.host / "n/e/w").stat().st_mode & 0o777 == 0o644
    assert (world.host / "run").stat().st_mode & 0o777 == 0o755
    assert os.readlink(world.host / "dir/link") == "../b"
    assert (world.host / ".git/index").read_bytes() == index
    assert await take(world, "a", "dir") == {"a": "same", "dir/c": "same", "dir/link": "same"}


async def test_everything_can_be_taken_at_once(world: World) -> None:
    world.commit({"a": "new\n", "dir/c": None, "dir/d": None})
    world.pack()
    taken = await take(world, ".")
    assert taken == {"dir/c": "deleted", "dir/d": "deleted", "a": "written"}
    assert sorted(os.listdir(world.host)) == [".git", "a", "b"]


async def test_a_directory_takes_the_place_of_a_file_and_the_other_way_round(world: World) -> None:
    (world.session / "b").unlink()
    world.commit({"b/x": "x\n", "dir/c": None, "dir/d": None})
    (world.session / "dir").rmdir()
    world.commit({"dir": "file\n"})
    world.pack()
    await take(world, ".")
    assert (world.host / "b/x").read_text() == "x\n"
    assert (world.host / "dir").read_text() == "file\n"


async def test_files_that_changed_on_the_host_are_kept_unless_asked(world: World) -> None:
    world.commit({"a": "new\n", "b": "b2\n", "dir/c": None, "dir/d": "d2\n", "new": "new\n"})
    world.pack()
    (world.host / "a").write_text("mine\n")
    (world.host / "b").unlink()
    (world.host / "dir/c").write_text("mine\n")
    (world.host / "dir/d").chmod(0o755)
    (world.host / "new").write_text("mine\n")
    before = world.state()
    assert await take(world, "a", "b", "dir/c", "new") == {
        "dir/c": "changed", "a": "changed", "b": "changed", "new": "changed"
    }  # fmt: skip
    assert world.state() == before
    assert await take(world, "dir/d") == {"dir/d": "written"}
    assert await take(world, ".", overwrite=True) == {
        "dir/c": "deleted", "a": "written", "b": "written", "dir/d": "same", "new": "written"
    }  # fmt: skip
    assert git(world.host, "diff", "--name-only", "HEAD") == "a\nb\ndir/c\ndir/d"


async def test_a_file_that_changes_meanwhile_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit({"b": "b2\n"})
    world.pack()
    plain = module._stage

    async def slow(*arguments: object) -> None:
        await plain(*arguments)  # type: ignore[arg-type]
        (world.host / "b").write_text("mine\n")

    monkeypatch.setattr(module, "_stage", slow)
    assert await take(world, "b") == {"b": "changed"}
    assert (world.host / "b").read_text() == "mine\n"


@pytest.mark.parametrize("overwrite", [False, True])
async def test_links_on_the_host_are_never_followed(
    world: World, tmp_path: Path, overwrite: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "c").write_text("c\n")
    (outside / "target").write_text("b\n")
    world.commit({"b": "b2\n", "dir/c": "c2\n", "dir/d": None})
    world.pack()
    (world.host / "b").unlink()
    (world.host / "b").symlink_to(outside / "target")
    (world.host / "dir").rename(tmp_path / "gone")
    (world.host / "dir").symlink_to(outside)
    taken = await take(world, ".", overwrite=overwrite)
    assert taken["dir/c"] == "failed: dir is not a directory"
    assert taken["b"] == ("written" if overwrite else "changed")
    assert taken["dir/d"].startswith("failed" if overwrite else "changed")
    assert (outside / "target").read_text() == "b\n"
    assert (outside / "c").read_text() == "c\n"
    assert (world.host / "b").is_symlink() is not overwrite


async def test_a_directory_or_device_at_the_target_is_not_replaced(world: World) -> None:
    world.commit({"a": "new\n", "b": "b2\n"})
    world.pack()
    (world.host / "a").unlink()
    (world.host / "a").mkdir()
    (world.host / "a/mine").touch()
    (world.host / "b").unlink()
    os.mkfifo(world.host / "b")
    assert await take(world, "a", "b") == {"a": "changed", "b": "changed"}
    (world.host / "b").unlink()
    taken = await take(world, "a", overwrite=True)
    assert taken["a"].startswith("failed: a exists and is a directory")
    assert (world.host / "a/mine").exists()


async def test_a_full_disk_fails_one_file_and_not_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit({"a": "new\n" * 100_000, "b": "b2\n"})
    world.pack()
    plain = module._GitBlobs.copy

    async def copy(self: module._GitBlobs, name: str, write: object) -> None:
        def full(data: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(module._GitBlobs, "copy", plain)
        await plain(self, name, full)

    monkeypatch.setattr(module._GitBlobs, "copy", copy)
    assert await take(world, "a", "b") == {
        "a": "failed: No space left on device", "b": "written"
    }  # fmt: skip
    assert (world.host / "b").read_text() == "b2\n"


async def test_paths_that_the_session_did_not_change_are_an_error(world: World) -> None:
    world.commit({"a": "new\n"})
    world.pack()
    for path in ("b", "nothing", "../a", "/etc/passwd", ""):
        with pytest.raises(UsageError, match="did not change"):
            await take(world, "a", path)
    assert (world.host / "a").read_text() != "new\n"


async def test_a_bare_repository_has_no_files(world: World, tmp_path: Path) -> None:
    world.commit({"a": "new\n"})
    world.pack()
    git(tmp_path, "clone", "-q", "--bare", str(world.host), str(tmp_path / "bare"))
    world.host = tmp_path / "bare"
    with pytest.raises(WorkConflict):
        await take(world, "a")


async def test_a_large_file_and_one_with_a_filter_arrive_as_they_are(
    world: World, tmp_path: Path
) -> None:
    content = os.urandom(1_500_000) + b"\n"
    (world.session / "large").write_bytes(content)
    world.commit({".gitattributes": "* filter=evil text=auto eol=crlf\n", "b": "1\n2\n"})
    world.pack()
    marker = plant(world, tmp_path)
    async with world.incoming() as work:
        await to_files(work, ["."])
    assert (world.host / "large").read_bytes() == content
    assert (world.host / "b").read_bytes() == b"1\n2\n"
    assert not marker.exists()
    attempt(world.host, "status")  # the control
    assert marker.exists()


async def test_a_cancelled_call_leaves_no_partial_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit({"a": "new\n"})
    world.pack()
    before = world.state()
    reached = anyio.Event()

    async def stage(*_: object) -> None:
        reached.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(module, "_stage", stage)
    async with world.incoming() as work, anyio.create_task_group() as tasks:
        tasks.start_soon(to_files, work, ["a"])
        await reached.wait()
        tasks.cancel_scope.cancel()
    assert world.state() == before


async def test_submodules_are_not_taken(world: World) -> None:
    git(world.host, "update-index", "--add", "--cacheinfo", f"160000,{world.base},sub")
    git(world.host, "commit", "-q", "-m", "sub")
    world.base = git(world.host, "rev-parse", "HEAD")
    git(world.session, "pull", "-q", str(world.host), "main")
    git(world.session, "update-index", "--cacheinfo", f"160000,{world.base},sub")
    git(world.session, "commit", "-q", "-m", "sub")
    world.pack()
    async with world.incoming() as work:
        assert work.warnings == ("Submodules refer to other commits: sub.",)
        assert await to_files(work, ["sub"]) == (Taken("sub", Outcome.FAILED, "it is a submodule"),)


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_what_is_at_a_path_has_gits_name(tmp_path: Path, object_format: str) -> None:
    git(tmp_path, "init", "-q", f"--object-format={object_format}")
    (tmp_path / "file").write_bytes(b"x\r\n\0")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "sub").mkdir()
    git(tmp_path, "add", "file", "link")
    rows = [row.split() for row in git(tmp_path, "ls-files", "--stage").splitlines()]
    root = os.open(tmp_path, os.O_RDONLY)
    try:
        for mode, name, _, path in rows:
            assert look(root, path, object_format) == Found(int(mode, 8), name)
        assert look(root, "missing/x", object_format) == Found(0)
        assert look(root, "sub", object_format) == Found(0o40000)
        assert look(root, "link/x", object_format) == Found(-1, blocker="link")
        assert look(root, "file/x/y", object_format) == Found(-1, blocker="file")
    finally:
        os.close(root)
