"""Which host paths a session may have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_mcp.agent import contract
from claude_mcp.engine.argv import BindMount
from claude_mcp.errors import UsageError
from claude_mcp.sessions.creation import Mount, _bind_mount, _bind_mounts
from claude_mcp.sessions.policy import Project, host_path, project


def test_a_project_is_known_by_its_real_path_and_its_owner(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    expected = Project(f"{tmp_path}/real", os.getuid(), os.getgid())
    assert project(f"{tmp_path}/real") == expected
    assert project(f"{tmp_path}/link/") == expected
    assert project(f"{tmp_path}/real/../link/.") == expected


def test_a_home_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "project").mkdir()
    assert project("~/project").path == f"{tmp_path}/project"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "projectPath must be an absolute path, and '' is not."),
        ("project", "projectPath must be an absolute path, and 'project' is not."),
        ("./project", "projectPath must be an absolute path, and './project' is not."),
        ("~nobody-has-this-name/x", "projectPath must be an absolute path, and '~nobody-has"),
        ("/a\0b", "projectPath holds a NUL character."),
        ("{here}/missing", "There is no project directory '{here}/missing'."),
        ("{here}/dangling", "There is no project directory '{here}/dangling'."),
        ("{here}/file", "The project path '{here}/file' is not a directory."),
        (
            "{here}/file/below",
            "The project path '{here}/file/below' cannot be used: Not a directory.",
        ),
        ("{here}/loop", "The project path '{here}/loop' cannot be used: "),
        ("{here}/" + "x" * 300, "The project path '{here}/xxx"),
        ("/a\ud800", "projectPath must be valid Unicode."),
        ("/", "The root of the file system cannot be a project."),
        ("/tmp/..", "The root of the file system cannot be a project."),
    ],
)
def test_a_project_path_that_cannot_be_used_is_refused(
    tmp_path: Path, path: str, message: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("missing")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError) as caught:
        project(path.format(here=tmp_path))
    assert str(caught.value).startswith(message.format(here=tmp_path))


def test_a_refused_path_is_shown_cut() -> None:
    with pytest.raises(UsageError) as caught:
        host_path("x" * 1000, "sourcePath")
    assert str(caught.value) == f"sourcePath must be an absolute path, and {'x' * 200!r} is not."


def test_a_further_mount_is_read_only_unless_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    here = f"{tmp_path}/link"
    assert _bind_mount(Mount(here, "/data")) == BindMount(f"{tmp_path}/data", "/data")
    assert _bind_mount(Mount(here, "/workspace/data", read_only=False)) == BindMount(
        f"{tmp_path}/data", "/workspace/data", read_only=False
    )


@pytest.mark.parametrize(
    "target",
    [
        "",
        "data",
        "/",
        "//",
        "/a/../..",
        "/a/..",
        "/workspace",
        "/workspace/",
        "//workspace",
        "/./workspace",
        contract.RUN_DIRECTORY,
        f"{contract.RUN_DIRECTORY}/socket",
        f"/{contract.RUN_DIRECTORY}",
        "/dev",
        "/dev/shm",
        "/proc",
        "/proc/self",
        "/sys/fs/cgroup",
        "/da\0ta",
        "/da\ud800ta",
    ],
)
def test_a_mount_cannot_take_what_belongs_to_the_session(tmp_path: Path, target: str) -> None:
    with pytest.raises(UsageError):
        _bind_mount(Mount(str(tmp_path), target))


@pytest.mark.parametrize("target", ["/process", "/device", "/workspaces", "/etc/ssl/own.pem"])
def test_a_mount_may_be_anywhere_else(tmp_path: Path, target: str) -> None:
    assert _bind_mount(Mount(str(tmp_path), target)).target == target


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data", "mcpMounts.hostPath must be an absolute path, and 'data' is not."),
        ("", "mcpMounts.hostPath must be an absolute path, and '' is not."),
        ("/no/such/path", "There is no '/no/such/path' to mount."),
        ("/etc/passwd/a", "'/etc/passwd/a' cannot be mounted: Not a directory."),
        ("/" + "x" * 300, f"'/{'x' * 300}' cannot be mounted: File name too long."),
        ("/a\0b", "mcpMounts.hostPath holds a NUL character."),
        ("/", "The root of the file system cannot be mounted."),
    ],
)
def test_what_is_mounted_must_be_there(source: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        _bind_mount(Mount(source, "/data"))
    assert caught.value.message == message


def test_two_mounts_cannot_have_one_place(tmp_path: Path) -> None:
    mounts = (Mount(str(tmp_path), "/data"), Mount(str(tmp_path), "//data/"))
    with pytest.raises(UsageError, match="Two mounts have the same path in the session, '/data'"):
        _bind_mounts(mounts)
