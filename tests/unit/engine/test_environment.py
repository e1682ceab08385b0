"""The environment of the engine's processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from claude_mcp.engine.environment import FIXED, PROXIES, engine_environment, without


def test_what_reaches_the_engine_is_passed_on() -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/home/a",
        "DOCKER_HOST": "tcp://build",
        "SSH_AUTH_SOCK": "/run/agent",
        "CONTAINERS_CONF": "/etc/own.conf",
    }
    assert engine_environment(given, {}) == {**given, **FIXED}


@pytest.mark.parametrize(
    "name",
    [
        "ANTHROPIC_API_KEY",  # a secret
        "DOCKER_DEFAULT_PLATFORM",  # another image than the one that was checked
        "PODMAN_USERNS",  # another owner of the project's files
        "LISTEN_FDS",  # descriptors of ours for the container
        "NOTIFY_SOCKET",  # the service manager would hear of each container
    ],
)
def test_what_changes_a_command_or_is_secret_is_not(name: str) -> None:
    assert name not in engine_environment({name: "x"}, {})


def test_content_trust_of_the_users_shell_is_overridden() -> None:
    assert engine_environment({"DOCKER_CONTENT_TRUST": "1"}, {})["DOCKER_CONTENT_TRUST"] == "0"


def test_a_container_can_be_made_without_our_proxies_in_reach() -> None:
    environment = engine_environment(
        {"HTTPS_PROXY": "http://me:pw@p", "http_proxy": "http://q"}, {}
    )
    assert without(environment, PROXIES) == dict(FIXED)


@pytest.mark.parametrize(
    ("place", "is_ours"),
    [
        ({}, False),
        ({"DOCKER_HOST": "tcp://box:2376"}, False),
        ({"DOCKER_HOST": "ssh://box"}, True),
        ({"DOCKER_CONTEXT": "box"}, True),
    ],
)
def test_an_engine_that_may_be_behind_ssh_has_our_ssh(
    tmp_path: Path, place: dict[str, str], is_ours: bool
) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\n")
    (tmp_path / "ssh").chmod(0o755)
    found = engine_environment({"PATH": str(tmp_path), "HOME": str(tmp_path), **place}, {})
    assert (shutil.which("ssh", path=found["PATH"]) == str(tmp_path / "ssh")) is not is_ours
