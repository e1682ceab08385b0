"""What a program learns from the engine while it still starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.config import Config, load
from claude_mcp.engine import ahead, questions
from claude_mcp.engine.environment import engine_environment
from claude_mcp.engine.naming import first_program
from claude_mcp.sessions import glance

SERVER = {"Client": {"Version": "24.0.0", "ApiVersion": "1.43"}, "Server": {"Version": "24.0.0"}}
OLD = {"Client": {"Version": "18.9.0", "ApiVersion": "1.39"}, "Server": {"Version": "18.9.0"}}
CLIENT_ALONE = {**SERVER, "Server": None}
PODMAN = {"Client": {"APIVersion": "4.3.1", "Version": "4.3.1"}}
ITS_SERVICE = {**PODMAN, "Server": PODMAN["Client"]}
PODMAN_IN_DISGUISE = {
    **SERVER,
    "Server": {"Version": "4.3.1", "Components": [{"Name": "Podman Engine"}]},
}
ID = "6d6e61f0e0ba" * 5


@pytest.fixture(autouse=True)
def none_is_left() -> Iterator[None]:
    yield
    glance.end()


def configured(
    directory: Path,
    version: Any,
    ids: str = "",
    ending: str = "exit 0",
    described: Sequence[object] = (),
    owner: str = "",
) -> Config:
    """With an engine that gives these answers; ``ending`` is how its ``ps`` ends."""
    (directory / "described").write_text("".join(f"{json.dumps(each)}\n" for each in described))
    program = directory / "engine"
    program.write_text(
        "#!/bin/sh\n"
        f"cd '{directory}'\n"
        'echo "$1" >>calls\n'
        f"[ $1 = version ] && exec echo '{json.dumps(version)}'\n"
        f"[ $1 = ps ] && {{ printf %s '{ids}'; {ending}; }}\n"
        "[ $1 = container ] && exec cat described\n"
    )
    program.chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "CLAUDE_MCP_CONFIG": os.devnull}
    return replace(load(environ, engine=str(program)), owner=owner)


def calls(directory: Path) -> list[str]:
    return sorted((directory / "calls").read_text().split())


@pytest.mark.parametrize("version", [SERVER, PODMAN], ids=["docker", "podman"])
def test_an_engine_without_sessions_is_asked_twice(tmp_path: Path, version: object) -> None:
    assert glance.sessions(configured(tmp_path, version), ask=True) == []
    assert calls(tmp_path) == ["ps", "version"]


@pytest.mark.parametrize(
    "version",
    [OLD, CLIENT_ALONE, ITS_SERVICE, PODMAN_IN_DISGUISE, {}, None],
    ids=["old", "no daemon", "service", "podman in disguise", "no engine", "null"],
)
def test_an_unusual_engine_is_not_believed(tmp_path: Path, version: object) -> None:
    assert glance.sessions(configured(tmp_path, version), ask=False) is None


def test_an_engine_that_fails_to_list_is_not_believed(tmp_path: Path) -> None:
    assert glance.sessions(configured(tmp_path, SERVER, ending="exit 1"), ask=False) is None


def test_an_engine_that_does_not_answer_at_once_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "PATIENCE_SECONDS", 0.0)
    assert glance.sessions(configured(tmp_path, SERVER, ending="sleep 30"), ask=False) is None


def test_a_missing_program_finds_nothing_out(tmp_path: Path) -> None:
    assert (
        glance.sessions(load({"CLAUDE_MCP_CONFIG": os.devnull}, engine="/no/such"), ask=False)
        is None
    )


def test_with_sessions_the_engine_begins_to_describe_them(tmp_path: Path) -> None:
    config = configured(tmp_path, SERVER, ids=ID)
    assert glance.sessions(config, ask=True) is None
    argv = questions.inspect_argv(str(config.engine), [ID])
    described = ahead.take(argv, engine_environment(config.environment, {}))
    assert described is not None
    described.discard()


def session(number: int, **fields: Any) -> dict[str, Any]:
    """What the engine says of a session that was created in this order."""
    labels = {
        "claude-mcp.session": "1",
        "claude-mcp.name": f"s{number}",
        "claude-mcp.project": "/home/me/project",
    }
    return {
        "id": f"{number:064x}",
        "name": f"/claude-mcp-s{number}",
        "created": f"2026-01-0{number}T00:00:00Z",
        "status": "running",
        "exitCode": 0,
        "started": f"2026-01-0{number}T00:00:01Z",
        "finished": "0001-01-01T00:00:00Z",
        "error": "",
        "image": "claude-code-custom:latest",
        "labels": {**labels, **fields.pop("labels", {})},
        "host": {},
        **fields,
    }


def found(config: Config) -> list[tuple[str, str]] | None:
    listed = glance.sessions(config, ask=False)
    return None if listed is None else [(each.session.name, each.engine) for each in listed]


@pytest.mark.parametrize("version", [SERVER, PODMAN], ids=["docker", "podman"])
def test_sessions_are_listed_without_asking_them(tmp_path: Path, version: object) -> None:
    config = configured(tmp_path, version, ids=ID, described=[session(2), session(1)])
    engine = "docker" if version is SERVER else "podman"
    assert found(config) == [("s1", engine), ("s2", engine)]
    assert calls(tmp_path) == ["container", "ps", "version"]


def test_the_sessions_of_other_owners_are_not_listed(tmp_path: Path) -> None:
    described = [session(1, labels={"claude-mcp.owner": "ann"}), session(2)]
    config = configured(tmp_path, SERVER, ids=ID, described=described, owner="ann")
    assert found(config) == [("s1", "docker")]


@pytest.mark.parametrize(
    "described",
    [
        session(1, labels={"claude-mcp.expires": "2026-01-02T00:00:00Z"}),
        session(1, finished="2026-01-01T12:00:00Z"),
        {"id": "malformed"},
    ],
    ids=["expired", "restarted", "malformed"],
)
def test_a_list_that_needs_more_than_an_answer_is_left_to_the_registry(
    tmp_path: Path, described: dict[str, Any]
) -> None:
    config = configured(tmp_path, SERVER, ids=ID, described=[session(2), described])
    assert found(config) is None


def test_an_unusual_engine_does_not_list_sessions(tmp_path: Path) -> None:
    assert found(configured(tmp_path, OLD, ids=ID, described=[session(1)])) is None


@pytest.mark.parametrize(
    ("environment", "program"),
    [
        ({}, "docker"),
        ({"CONTAINER_HOST": "unix:///podman.sock"}, "podman"),
        ({"DOCKER_HOST": "unix:///d.sock", "CONTAINER_HOST": "unix:///p.sock"}, "docker"),
    ],
)
def test_the_program_that_detection_asks_first_is_asked(
    environment: dict[str, str], program: str
) -> None:
    assert first_program(None, environment) == program
    assert first_program("/opt/engine", environment) == "/opt/engine"
