"""Root takes work into the repository of somebody else: what is new there belongs to that user."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.placing.staging import ENTERED
from claude_mcp.sessions.git.incoming import Incoming
from claude_mcp.sessions.git.merge import merge
from claude_mcp.sessions.git.to_branch import to_branch
from claude_mcp.sessions.git.to_files import to_files
from tests.unit.sessions.git.conftest import IDENTITY, World, git

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away"),
]
OWNER = (23456, 34567)


def give(path: Path) -> None:
    for directory, names, files in os.walk(path):
        for name in (".", *names, *files):
            os.chown(Path(directory, name), *OWNER, follow_symlinks=False)


def owners(path: Path) -> set[tuple[int, int]]:
    found = [path, *path.rglob("*")]
    return {(each.lstat().st_uid, each.lstat().st_gid) for each in found}


@pytest.fixture
def owned(world: World) -> Iterator[World]:
    """The host's repository at a place that its owner may enter, which pytest's is not."""
    with tempfile.TemporaryDirectory(prefix="claude-mcp-test-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        host = Path(directory, "host")
        shutil.copytree(world.host, host, symlinks=True)
        give(host)
        yield replace(world, host=host)


Take = Callable[[Incoming], Any]


@pytest.mark.parametrize(
    "take",
    [
        lambda work: to_branch(work, "claude/deep/name"),
        lambda work: merge(work, IDENTITY),
        lambda work: to_files(work, ["."]),
    ],
    ids=["branch", "merge", "files"],
)
@pytest.mark.parametrize("umask", [0o022, 0o077])
async def test_everything_new_belongs_to_the_owner(
    owned: World, take: Take, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    owned.commit({"new/deep/file": "1\n", "a": "changed\n"})
    owned.pack()
    before = os.umask(umask)
    try:
        async with owned.incoming() as work:
            await take(work)
            # It would be left if we were killed, and only what is ours is removed then.
            ours = Path(work.scratch.git_dir or "").parents[1]
            assert (ours.stat().st_uid, ours.stat().st_mode & 0o777) == (0, ENTERED)
        assert not ours.exists()
    finally:
        os.umask(before)
    assert work.warnings == ()
    assert owners(owned.host) == {OWNER}
    git(owned.host, "-c", "safe.directory=*", "fsck", "--strict", "--no-dangling")


async def test_an_owner_who_may_not_enter_is_said(owned: World) -> None:
    owned.commit({"a": "changed\n"})
    owned.pack()
    owned.host.parent.chmod(0o700)
    async with owned.incoming() as work:
        await to_branch(work, "claude/x")
    assert work.warnings[0].startswith("What is new in the repository belongs to root: its owner")
