"""What is said about a host path that an engine or a session's user may not enter."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from claude_mcp.config import load
from claude_mcp.engine.dialects.podman import ROOTLESS_PODMAN
from claude_mcp.engine.spec import BindMount, ContainerSpec
from claude_mcp.errors import EngineError, UsageError
from claude_mcp.sessions.create import access
from claude_mcp.sessions.paths import policy
from claude_mcp.sessions.paths.mounts import HostMount, MountTable, Place
from tests.unit.sessions.conftest import ScriptedEngine

SPEC = ContainerSpec("one", "image", (), mounts=(BindMount("/mine/project", "/workspace"),))
FUSE = HostMount("/mine", Place("0:1", "/"), "fuse.sshfs", for_one_user=True)
# The words of Docker 20.10 and of Podman 4.3 with runc, at create and at start.
REFUSALS = (
    'invalid mount config for type "bind": stat /mine/project: permission denied.',
    'error mounting "/mine/project" to rootfs at "/workspace": stat /proc/self/fd/6: permission '
    "denied: OCI permission denied.",
)
NOT_ENTERED = (
    'runc: runc create failed: unable to start container process: chdir to cwd ("/workspace") set '
    "in config.json failed: permission denied: OCI permission denied."
)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[HostMount]:
    found = [HostMount("/", Place("0:9", "/"), "ext4")]
    monkeypatch.setattr(policy, "read_mounts", lambda: MountTable(found))
    return found


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_file_system_of_one_user_is_named(
    scripted: ScriptedEngine, mounts: list[HostMount], refusal: str
) -> None:
    error = EngineError(refusal)
    access.explain(error, scripted.engine, SPEC)
    assert error.hint is None
    mounts.append(FUSE)
    access.explain(error, scripted.engine, SPEC)
    assert error.hint is not None
    assert error.hint.startswith("/mine is a FUSE file system")
    other = EngineError("no space left on device.")
    access.explain(other, scripted.engine, SPEC)
    assert other.hint is None


def test_a_project_that_the_user_may_not_enter_is_named(
    scripted: ScriptedEngine, mounts: list[HostMount]
) -> None:
    error = EngineError(NOT_ENTERED)
    access.explain(error, scripted.engine, SPEC)
    assert str(error.hint).startswith("The session's user may not enter /mine/project: own")
    error = EngineError(NOT_ENTERED)
    access.explain(error, replace(scripted.engine, dialect=ROOTLESS_PODMAN), SPEC)
    assert "your user, but without your other groups" in str(error.hint)


def test_a_directory_that_we_may_not_enter_is_named(
    mounts: list[HostMount], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "home"
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed)
    hint = policy.access_hint(closed / "project/deep", PermissionError())
    assert hint is not None
    assert hint.startswith(f"Your user may not enter {closed}:")
    assert policy.access_hint(closed / "project", FileNotFoundError()) is None
    assert str(policy.access_hint(closed, PermissionError())).startswith("Your user may not")


def test_a_project_that_we_may_not_read_is_refused(
    mounts: list[HostMount], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UsageError, match=r"Permission denied.*Your user may not enter"):
        policy.project(str(tmp_path), load({}))
