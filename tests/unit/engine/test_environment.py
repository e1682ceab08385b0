"""The environment of the engine's processes."""

from __future__ import annotations

import pytest

from claude_mcp.engine.environment import FIXED, PROXIES, engine_environment, without


def test_what_reaches_the_engine_is_passed_on() -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/home/a",
        "DOCKER_HOST": "ssh://build",
        "SSH_AUTH_SOCK": "/run/agent",
        "CONTAINERS_CONF": "/etc/own.conf",
    }
    assert engine_environment(given) == {**given, **FIXED}


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
    assert name not in engine_environment({name: "x"})


def test_content_trust_of_the_users_shell_is_overridden() -> None:
    assert engine_environment({"DOCKER_CONTENT_TRUST": "1"})["DOCKER_CONTENT_TRUST"] == "0"


def test_a_container_can_be_made_without_our_proxies_in_reach() -> None:
    environment = engine_environment({"HTTPS_PROXY": "http://me:pw@p", "http_proxy": "http://q"})
    assert without(environment, PROXIES) == dict(FIXED)
