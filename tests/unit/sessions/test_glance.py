"""What a program learns from the engine while it still starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
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


def configured(directory: Path, version: Any, ids: str = "", ending: str = "exit 0") -> Config:
    """With an engine that gives these answers; ``ending`` is how its ``ps`` ends."""
    program = directory / "engine"
    program.write_text(
        "#!/bin/sh\n"
        f"cd '{directory}'\n"
        'echo "$1" >>calls\n'
        f"[ $1 = version ] && exec echo '{json.dumps(version)}'\n"
        f"[ $1 = ps ] && {{ printf %s '{ids}'; {ending}; }}\n"
    )
    program.chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "CLAUDE_MCP_CONFIG": os.devnull}
    return load(environ, engine=str(program))


def calls(directory: Path) -> list[str]:
    return sorted((directory / "calls").read_text().split())


@pytest.mark.parametrize("version", [SERVER, PODMAN], ids=["docker", "podman"])
def test_an_engine_without_sessions_is_asked_twice(tmp_path: Path, version: object) -> None:
    assert glance.finds_nothing(configured(tmp_path, version))
    assert calls(tmp_path) == ["ps", "version"]


@pytest.mark.parametrize(
    "version",
    [OLD, CLIENT_ALONE, ITS_SERVICE, PODMAN_IN_DISGUISE, {}, None],
    ids=["old", "no daemon", "service", "podman in disguise", "no engine", "null"],
)
def test_an_unusual_engine_is_not_believed(tmp_path: Path, version: object) -> None:
    assert not glance.finds_nothing(configured(tmp_path, version))


def test_an_engine_that_fails_to_list_is_not_believed(tmp_path: Path) -> None:
    assert not glance.finds_nothing(configured(tmp_path, SERVER, ending="exit 1"))


def test_an_engine_that_does_not_answer_at_once_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "PATIENCE_SECONDS", 0.0)
    assert not glance.finds_nothing(configured(tmp_path, SERVER, ending="sleep 30"))


def test_a_missing_program_finds_nothing_out(tmp_path: Path) -> None:
    assert not glance.finds_nothing(load({"CLAUDE_MCP_CONFIG": os.devnull}, engine="/no/such"))


def test_with_sessions_the_engine_begins_to_describe_them(tmp_path: Path) -> None:
    config = configured(tmp_path, SERVER, ids=ID)
    assert not glance.finds_nothing(config)
    argv = questions.inspect_argv(str(config.engine), [ID])
    described = ahead.take(argv, engine_environment(config.environment))
    assert described is not None
    described.discard()


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
