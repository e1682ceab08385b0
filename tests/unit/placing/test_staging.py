"""Staging directories: of their transfer alone, and never left for long."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from claude_mcp.placing import staging as module
from claude_mcp.placing.descriptors import MAX_DEPTH, opened, remove, walk
from claude_mcp.placing.staging import ENTERED, PREFIX, STALE_SECONDS, staging


def test_a_staging_directory_is_private_and_removed_with_its_contents(tmp_path: Path) -> None:
    with opened(str(tmp_path)) as parent:
        with staging(parent) as (name, directory):
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o700
            assert os.fstat(directory).st_ino == (tmp_path / name).stat().st_ino
            (tmp_path / name / "sub" / "read-only").mkdir(parents=True)
            (tmp_path / name / "sub" / "read-only" / "file").touch()
            (tmp_path / name / "sub" / "read-only").chmod(0o500)
            (tmp_path / name / "link").symlink_to("/etc")
        assert list(tmp_path.iterdir()) == []


def test_a_replaced_staging_directory_is_not_removed(tmp_path: Path) -> None:
    with opened(str(tmp_path)) as parent, staging(parent) as (name, _):
        (tmp_path / name).rename(tmp_path / "moved")
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").touch()
    assert (tmp_path / name / "precious").exists()
    assert list((tmp_path / "moved").iterdir()) == []


@pytest.mark.parametrize("full", [True, False])
def test_a_directory_replaced_at_creation_is_neither_used_nor_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    real = os.mkdir

    def mkdir(name: str, mode: int, *, dir_fd: int) -> None:
        real(name, mode, dir_fd=dir_fd)
        (tmp_path / name).rename(tmp_path / "moved")
        if full:
            (tmp_path / "precious").rename(tmp_path / name)
        else:
            (tmp_path / name).symlink_to("precious")

    monkeypatch.setattr(os, "mkdir", mkdir)
    refused = pytest.raises(OSError, match=r"replaced|Not a dir")
    with opened(str(tmp_path)) as parent, refused, staging(parent):
        pytest.fail("it was used")
    assert [path.name for path in tmp_path.rglob("file")] == ["file"]


def age(path: Path, seconds: float = STALE_SECONDS + 1) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_next_transfer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left, entered, young, other = (
        tmp_path / f"{PREFIX}{each}" for each in ("left", "entered", "young", "other")
    )
    for path in (left, entered, young, other):
        path.mkdir(mode=0o700)
        (path / "half").touch()
    other.chmod(0o755)
    entered.chmod(ENTERED)
    age(entered)
    (tmp_path / f"{PREFIX}link").symlink_to(other)
    age(left)
    age(other)
    age(young, -1000)
    with opened(str(tmp_path)) as parent, staging(parent) as (name, _):
        age(tmp_path / name)
        with staging(parent):
            assert (tmp_path / name).exists(), "the one of a transfer that lives is locked"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [young.name, other.name, f"{PREFIX}link"]
    )


def test_nothing_is_removed_in_another_users_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f"{PREFIX}left"
    left.mkdir(mode=0o700)
    age(left)
    us = os.geteuid()
    with opened(str(tmp_path)) as parent:
        monkeypatch.setattr(os, "geteuid", lambda: us + 1)
        module._sweep(parent)
        assert left.exists()


def test_what_a_killed_process_left_in_a_directory_of_all_users_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f"{PREFIX}left"
    left.mkdir(mode=0o700)
    real, us = os.fstat, os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: us + 1)

    def fstat(descriptor: int) -> os.stat_result:
        """As if root owned the parent, and we what is in it."""
        status = real(descriptor)
        parent = os.path.samestat(status, tmp_path.stat())
        return os.stat_result((*status[:4], 0 if parent else us + 1, *status[5:10]))

    monkeypatch.setattr(os, "fstat", fstat)
    for mode, there in ((0o777, True), (0o1777, False)):
        tmp_path.chmod(mode)
        age(left)
        with opened(str(tmp_path)) as parent:
            module._sweep(parent)
        assert left.exists() is there


def test_walk_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    with opened(f"{tmp_path}/real/sub"):
        pass
    for path in ("link", "link/sub", "real/nothing"):
        with (
            pytest.raises(OSError, match=r"Not a directory|No such file"),
            opened(f"{tmp_path}/{path}"),
        ):
            pass


def test_removal_does_not_follow_links_or_exceed_the_depth(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to("../victim")
    with opened(str(tmp_path)) as directory:
        remove(directory, "tree")
        remove(directory, "not there")
        here = os.dup(directory)
        for _ in range(MAX_DEPTH + 5):
            os.mkdir("d", dir_fd=here)
            here, above = walk(here, ["d"]), here
            os.close(above)
        os.close(here)
        remove(directory, "d")
    # What is deeper than a transfer makes it stays, instead of costing all descriptors.
    assert sorted({path.name for path in tmp_path.rglob("*")}) == ["d", "file", "victim"]
