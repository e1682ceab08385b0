"""Which Unix sockets of this host are in a directory."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_mcp.sessions.paths import sockets


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[list[socket.socket]]:
    """Sockets that are bound during a test."""
    held: list[socket.socket] = []
    yield held
    for each in held:
        each.close()


def bind(held: list[socket.socket], path: str, kind: int = socket.SOCK_STREAM) -> None:
    held.append(socket.socket(socket.AF_UNIX, kind))
    held[-1].bind(path)


def test_sockets_below_a_directory_are_found(
    bound: list[socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    (project / "deep dir" / ".git").mkdir(parents=True)
    (tmp_path / "link").symlink_to("project")
    bind(bound, f"{project}/deep dir/database")
    bind(bound, f"{tmp_path}/link/datagrams", socket.SOCK_DGRAM)
    bind(bound, f"{tmp_path}/beside")
    bind(bound, f"\0{project}/abstract")
    bind(bound, f"{project}/removed")
    os.unlink(project / "removed")
    bind(bound, f"{project}/replaced")
    os.unlink(project / "replaced")
    (project / "replaced").touch()
    monkeypatch.chdir(project)
    bind(bound, "fsmonitor.ipc")
    monkeypatch.chdir("/")
    assert sockets.found_in([str(project)]) == [
        f"{tmp_path}/link/datagrams",
        f"{project}/deep dir/database",
        f"{project}/fsmonitor.ipc",
    ]
    (path,) = sockets.found_in([f"{project}/deep dir"])
    assert sockets.found_in([path]) == [path]
    assert sockets.found_in([]) == []


def test_where_the_kernel_lists_none_none_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "BOUND", tmp_path / "missing")
    assert sockets.found_in(["/"]) == []
