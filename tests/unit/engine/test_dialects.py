"""What each engine's dialect means for a container."""

from __future__ import annotations

from dataclasses import MISSING, fields

from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.docker import DOCKER, DOCKER_DESKTOP, ROOTLESS_DOCKER
from claude_mcp.engine.dialects.podman import (
    PODMAN,
    REMOTE_PODMAN,
    REMOTE_ROOTLESS_PODMAN,
    ROOTLESS_PODMAN,
)


def test_a_session_runs_as_the_owner_of_the_project_as_far_as_the_engine_can() -> None:
    assert [
        each.user_options(1000, 100)
        for each in (DOCKER, DOCKER_DESKTOP, ROOTLESS_DOCKER, PODMAN, ROOTLESS_PODMAN)
    ] == [
        {"user": "1000:100", "userns": "host"},
        {"user": "1000:100", "userns": "host"},
        {"user": "0:0"},
        {"user": "1000:100", "userns": "host"},
        {"userns": "keep-id"},
    ]


def test_the_client_of_podmans_service_is_given_no_option_about_its_own_environment() -> None:
    assert {*PODMAN.create_options} - {*REMOTE_PODMAN.create_options} == {
        "--http-proxy=false",
        "--env-host=false",
    }
    assert REMOTE_ROOTLESS_PODMAN.create_options == REMOTE_PODMAN.create_options
    assert REMOTE_ROOTLESS_PODMAN.user_options(1000, 100) == {"userns": "keep-id"}


def test_each_engine_has_its_own_name_for_the_host() -> None:
    assert [(each.title, each.host_alias, each.extra_hosts) for each in (DOCKER, PODMAN)] == [
        ("Docker", "host.docker.internal", ("host.docker.internal:host-gateway",)),
        ("Podman", "host.containers.internal", ()),
    ]


def test_every_engine_must_answer_every_field() -> None:
    assert [each.name for each in fields(Dialect) if each.default is not MISSING] == []
    assert [each.name for each in fields(Dialect) if each.default_factory is not MISSING] == []
