"""What of the host appears in a session, and where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from claude_mcp.config import load
from claude_mcp.engine.spec import BindMount, ContainerSpec, TmpfsMount
from claude_mcp.errors import UsageError
from claude_mcp.sessions.create import mounts
from claude_mcp.sessions.paths.mounts import HostMount, MountTable, Place


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[HostMount]:
    """The mounts of this machine."""
    found: list[HostMount] = []
    monkeypatch.setattr(mounts, "read_mounts", lambda: MountTable(found))
    return found


def mounted(below: list[HostMount], path: Path) -> str:
    path.mkdir(parents=True, exist_ok=True)
    below.append(HostMount(str(path), Place(f"0:{len(below)}", "/"), "ext4"))
    return str(path)


def test_a_file_system_below_a_read_only_mount_is_mounted_read_only(
    below: list[HostMount], tmp_path: Path
) -> None:
    data, other = (BindMount(str(tmp_path / each), f"/{each}") for each in ("data", "other"))
    writable = replace(other, read_only=False)
    outer = mounted(below, tmp_path / "data" / "disk")
    inner = mounted(below, tmp_path / "data" / "disk" / "deep")
    mounted(below, tmp_path / "other" / "disk")
    spec = ContainerSpec("one", "image", (), mounts=(data, writable))
    assert mounts.with_file_systems_below(spec) == (
        data,
        writable,
        BindMount(outer, "/data/disk"),
        BindMount(inner, "/data/disk/deep"),
    )


def test_what_a_session_has_at_such_a_place_hides_the_file_system(
    below: list[HostMount], tmp_path: Path
) -> None:
    mounted(below, tmp_path / "a" / "deep")
    mounted(below, tmp_path / "tmp")
    data = BindMount(str(tmp_path), "/var")
    mine = BindMount("/mine", "/var/a", read_only=False)
    memory = TmpfsMount("/var/tmp", 1)
    spec = ContainerSpec("one", "image", (), mounts=(data, mine), tmpfs_mounts=(memory,))
    assert mounts.with_file_systems_below(spec) == (data, mine)


def test_too_many_file_systems_below_a_read_only_mount_are_refused(
    below: list[HostMount], tmp_path: Path
) -> None:
    for number in range(mounts.MOST_FILE_SYSTEMS + 1):
        mounted(below, tmp_path / f"{number:03}")
    spec = ContainerSpec("one", "image", (), mounts=(BindMount(str(tmp_path), "/data"),))
    with pytest.raises(UsageError, match=r"51 other file systems .* the first at '.*/000'"):
        mounts.with_file_systems_below(spec)


@pytest.mark.parametrize(
    ("target", "refused"),
    [
        ("", None),
        ("/elsewhere/.git", None),
        ("/workspace/sub/.git", "The session has other files at"),
        ("/etc/.git", "The session has other files at"),
        ("/proc/x", "The session itself uses"),
        ("/run/claude-mcp-git", "The session itself uses"),
    ],
)
def test_a_repository_that_a_project_names_is_mounted_where_it_hides_nothing(
    tmp_path: Path, target: str, refused: str | None
) -> None:
    why = mounts.repository_refusal(load({}), str(tmp_path), target or str(tmp_path))
    assert (why or "").startswith(refused or "")
    assert (why is None) is (refused is None)


def test_a_repository_follows_the_rules_for_mounts(tmp_path: Path) -> None:
    config = load({"CLAUDE_MCP_ALLOWED_ROOTS": str(tmp_path / "other")})
    why = mounts.repository_refusal(config, str(tmp_path), str(tmp_path))
    assert why is not None
    assert "outside the allowed roots" in why
