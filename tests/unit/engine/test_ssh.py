"""The ssh that Docker's client starts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from claude_mcp.engine import ssh

OPTIONS = [
    word
    for option in (
        "BatchMode=yes",
        "ConnectTimeout=10",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=4",
    )
    for word in ("-o", option)
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A PATH whose ssh prints its arguments, one a line."""
    theirs = tmp_path / "ssh"
    theirs.write_text('#!/bin/sh\nprintf \'%s\\n\' "$0" "$@"\n')
    theirs.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin"}


def said(environment: dict[str, str], *words: str) -> list[str]:
    """What the first ssh on PATH prints, started as Docker's client starts it."""
    done = subprocess.run(
        ["/usr/bin/env", "ssh", *words], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_ssh_asks_nothing_and_has_the_configured_key(
    environment: dict[str, str], tmp_path: Path
) -> None:
    theirs = str(tmp_path / "ssh")
    words = ["-l", "some body", "--", "box", "docker system dial-stdio"]
    assert said(ssh.with_options(environment), *words) == [theirs, *OPTIONS, *words]
    environment["CONTAINER_SSHKEY"] = "/my keys/key"
    assert said(ssh.with_options(environment), *words) == [
        theirs, "-i", "/my keys/key", "-o", "IdentitiesOnly=yes", *OPTIONS, *words,
    ]  # fmt: skip


def test_options_are_given_once_however_often_they_are_asked_for(
    environment: dict[str, str],
) -> None:
    once = ssh.with_options(environment)
    assert ssh.with_options(once) == once


def test_nothing_changes_where_there_is_no_ssh_or_ours_cannot_run(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = {"PATH": str(tmp_path / "empty")}
    assert ssh.with_options(empty) == empty
    monkeypatch.setattr(ssh, "DIRECTORY", tmp_path / "not-there")
    assert ssh.with_options(environment) == environment
    assert os.access(Path(ssh.__file__).with_name("ssh_client") / "ssh", os.X_OK)
