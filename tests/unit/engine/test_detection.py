"""Which engine answers: known by its answer, never by its name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.engine import detection, missing
from claude_mcp.engine.address import EngineAddress, EngineName
from claude_mcp.engine.answer import Answer, DockerOnPodman, dialect_of, parse_version
from claude_mcp.engine.detection import Detected, connect, detect
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.docker import DOCKER, DOCKER_DESKTOP, ROOTLESS_DOCKER
from claude_mcp.engine.dialects.podman import (
    PODMAN,
    REMOTE_PODMAN,
    REMOTE_ROOTLESS_PODMAN,
    ROOTLESS_PODMAN,
)
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.engine.environment import engine_environment
from claude_mcp.errors import EngineError, EngineNotFound, EngineUnavailable

# The answers of Docker 28.2 with engine 20.10 and of Podman 4.3.1, without the parts that we
# do not read.
DOCKER_CLIENT = {"Version": "28.2.2", "ApiVersion": "1.41", "DefaultAPIVersion": "1.50"}
DOCKER_SERVER = {
    "Platform": {"Name": ""},
    "Components": [
        {"Name": "Engine", "Version": "20.10.24+dfsg1", "Details": {"ApiVersion": "1.41"}},
        {"Name": "containerd", "Version": "1.6.20~ds1", "Details": {"GitCommit": "1.6.20~ds1-1"}},
    ],
    "Version": "20.10.24+dfsg1",
    "ApiVersion": "1.41",
}
DOCKER_ANSWER = {"Client": DOCKER_CLIENT, "Server": DOCKER_SERVER}
DOCKER_ALONE = {"Client": DOCKER_CLIENT, "Server": None}
PODMAN_ANSWER = {"Client": {"APIVersion": "4.3.1", "Version": "4.3.1", "OsArch": "linux/amd64"}}
DOCKER_DOWN = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
    "Is the docker daemon running?\n"
)
DOCKER_FORBIDDEN = (
    "permission denied while trying to connect to the Docker daemon socket at "
    'unix:///var/run/docker.sock: Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.50/version": '
    "dial unix /var/run/docker.sock: connect: permission denied\n"
)
NEITHER = (
    "No container engine works here. 'docker' is not installed or not on PATH. "
    "'podman' is not installed or not on PATH. Install Podman (for example 'apt-get install "
    "podman') or Docker, or name the program with CLAUDE_MCP_ENGINE."
)

Installs = Callable[..., str]


def podman_info(*, remote: bool, rootless: bool) -> Mapping[str, Any]:
    security = {"rootless": rootless}
    return {"host": {"security": security, "serviceIsRemote": remote, "kernel": "6.1.0"}}


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment in which no engine is on PATH until one is installed, nor elsewhere."""
    monkeypatch.setattr(missing, "DIRECTORIES", ())
    return {"PATH": str(tmp_path)}


@pytest.fixture
def install(tmp_path: Path) -> Installs:
    """Puts a program on PATH that answers only ``version``, in the given way."""

    def install(name: str, answer: object, stderr: str = "", returncode: int = 0) -> str:
        program, out, err = (tmp_path / f"{name}{ending}" for ending in ("", ".out", ".err"))
        out.write_text(f"{answer if isinstance(answer, str) else json.dumps(answer)}\n")
        err.write_text(f"{stderr.rstrip()}\n")
        program.write_text(
            "#!/bin/sh\n"
            'test "$*" = "version --format={{json .}}" || exit 99\n'
            f"while read -r line; do printf '%s\\n' \"$line\"; done <'{out}'\n"
            f"while read -r line; do printf '%s\\n' \"$line\"; done <'{err}' >&2\n"
            f"exit {returncode}\n"
        )
        program.chmod(0o755)
        return str(program)

    return install


def podman_at(program: str) -> Detected:
    return Detected(program, "4.3.1", ROOTLESS_PODMAN if os.geteuid() else PODMAN)


def rootless_docker() -> Mapping[str, Any]:
    parts = [*DOCKER_SERVER["Components"], {"Name": "rootlesskit", "Version": "1.1.0"}]
    return {"Client": DOCKER_CLIENT, "Server": {**DOCKER_SERVER, "Components": parts}}


def desktop() -> Mapping[str, Any]:
    platform = {"Name": "Docker Desktop 4.30.0 (149282)"}
    return {"Client": DOCKER_CLIENT, "Server": {**DOCKER_SERVER, "Platform": platform}}


@pytest.mark.parametrize(
    ("answer", "uid", "parsed"),
    [
        (DOCKER_ANSWER, 1000, Answer(EngineName.DOCKER, "20.10.24+dfsg1")),
        (DOCKER_ALONE, 0, Answer(EngineName.DOCKER, "28.2.2", daemon_answers=False)),
        (rootless_docker(), 1000, Answer(EngineName.DOCKER, "20.10.24+dfsg1", rootless=True)),
        (desktop(), 1000, Answer(EngineName.DOCKER, "20.10.24+dfsg1", in_virtual_machine=True)),
        (
            {"Client": {**DOCKER_CLIENT, "Version": "24.0.9"}, "Server": DOCKER_SERVER},
            0,
            Answer(EngineName.DOCKER, "20.10.24+dfsg1", client_before_25=True),
        ),
        (PODMAN_ANSWER, 0, Answer(EngineName.PODMAN, "4.3.1")),
        (PODMAN_ANSWER, 1000, Answer(EngineName.PODMAN, "4.3.1", rootless=True)),
        (
            {"Client": DOCKER_CLIENT, "Server": {"Version": "24.0.7"}},
            0,
            Answer(EngineName.DOCKER, "24.0.7"),
        ),
    ],
)
def test_an_engine_is_known_by_its_answer(answer: object, uid: int, parsed: Answer) -> None:
    assert parse_version(json.dumps(answer) + "\n", effective_uid=uid) == parsed


def test_each_answer_has_its_dialect() -> None:
    docker, podman = EngineName.DOCKER, EngineName.PODMAN
    assert [
        dialect_of(Answer(docker, "28")),
        dialect_of(Answer(docker, "28", rootless=True)),
        dialect_of(Answer(docker, "28", in_virtual_machine=True)),
        dialect_of(Answer(podman, "5")),
        dialect_of(Answer(podman, "5", rootless=True)),
    ] == [DOCKER, ROOTLESS_DOCKER, DOCKER_DESKTOP, PODMAN, ROOTLESS_PODMAN]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "\n\n",
        "Docker version 28.2.2",
        "[]",
        "null",
        "3",
        '"Client"',
        '{"Client": null}',
        '{"Client": []}',
        '{"Client": "ApiVersion"}',
        '{"Client": {}}',
        '{"Client": {"ApiVersion": "1.41"}}',
        '{"Client": {"APIVersion": "4.3.1"}}',
        '{"Client": {"ApiVersion": "1.41", "Version": "28"}, "Server": ["x"]}',
        '{"Client": {"ApiVersion": "1.41", "Version": "28"}, "Server": {"Version": "1", '
        '"Components": [3]}}',
        "[" * 100_000,
    ],
)
def test_the_answer_of_another_program_is_no_engine(answer: str) -> None:
    assert parse_version(answer, effective_uid=0) is None


async def test_docker_is_used_when_its_daemon_answers(
    environment: dict[str, str], install: Installs
) -> None:
    install("docker", DOCKER_ANSWER)
    install("podman", PODMAN_ANSWER)
    assert await detect(None, environment) == Detected("docker", "20.10.24+dfsg1", DOCKER)


@pytest.mark.parametrize(
    "docker",
    [
        pytest.param(None, id="missing"),
        pytest.param((DOCKER_ALONE, DOCKER_DOWN, 1), id="daemon down"),
        pytest.param((DOCKER_ALONE, DOCKER_FORBIDDEN, 1), id="no permission"),
        pytest.param(("whatever", "", 0), id="another program"),
        pytest.param(({**DOCKER_ANSWER, "Server": {"Version": "19.03.15"}},), id="too old"),
    ],
)
async def test_podman_is_used_when_docker_does_not_work(
    environment: dict[str, str], install: Installs, docker: tuple[Any, ...] | None
) -> None:
    if docker is not None:
        install("docker", *docker)
    install("podman", PODMAN_ANSWER)
    assert await detect(None, environment) == podman_at("podman")


@pytest.mark.parametrize(
    "variable",
    ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_CERT_PATH"],
)
@pytest.mark.parametrize("program", [None, "docker"])
@pytest.mark.parametrize(
    "failure",
    [
        (DOCKER_ALONE, DOCKER_DOWN, 1),
        ("", 'Failed to initialize: unable to resolve docker endpoint: "x" is broken', 1),
    ],
)
async def test_no_engine_replaces_a_docker_that_the_environment_names(
    environment: dict[str, str],
    install: Installs,
    variable: str,
    program: str | None,
    failure: tuple[Any, ...],
) -> None:
    install("docker", *failure)
    install("podman", PODMAN_ANSWER)
    environment[variable] = "elsewhere"
    with pytest.raises(EngineUnavailable) as caught:
        await detect(program, environment)
    assert (caught.value.hint or "").startswith(
        f"{variable} names this engine, so no other is used instead. "
    )


async def test_no_engine_replaces_the_current_context_of_dockers_configuration(
    environment: dict[str, str], install: Installs, tmp_path: Path
) -> None:
    install("docker", "", 'unable to resolve docker endpoint: context "dead": not found', 1)
    install("podman", PODMAN_ANSWER)
    file = tmp_path / "config.json"
    file.write_text('{"currentContext": "dead"}')
    environment["DOCKER_CONFIG"] = str(tmp_path)
    with pytest.raises(EngineUnavailable) as caught:
        await detect(None, environment)
    assert str(caught.value) == (
        "'docker' could not report its version: unable to resolve docker endpoint: context "
        f"\"dead\": not found. 'currentContext' in {file} names this engine, so no other is used "
        "instead. Correct or remove it, or choose an engine with CLAUDE_MCP_ENGINE."
    )


@pytest.mark.parametrize(
    "written",
    ['{"currentContext": "default"}', '{"currentContext": 3}', "[]", "{", "[" * 100_000],
)
async def test_a_configuration_without_a_context_of_its_own_names_no_engine(
    environment: dict[str, str], install: Installs, tmp_path: Path, written: str
) -> None:
    install("podman", PODMAN_ANSWER)
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(written)
    environment["HOME"] = str(tmp_path)
    assert await detect(None, environment) == podman_at("podman")


@pytest.mark.parametrize(
    ("variable", "failure"),
    [
        (
            "CONTAINER_HOST",
            'Error: unable to connect to Podman socket: Get "http://d/v5.4.2/libpod/_ping": dial '
            "unix /nosuch: connect: no such file or directory",
        ),
        ("CONTAINER_CONNECTION", 'Error: read cli flags: connection "elsewhere" not found'),
    ],
)
async def test_no_engine_replaces_a_podman_that_the_environment_names(
    environment: dict[str, str], install: Installs, variable: str, failure: str
) -> None:
    install("docker", DOCKER_ANSWER)
    install("podman", "", failure, 125)
    environment[variable] = "elsewhere"
    with pytest.raises(EngineUnavailable) as caught:
        await detect(None, environment)
    hint = caught.value.hint or ""
    assert hint.startswith(f"{variable} names this engine, so no other is used instead. ")
    assert "docker" not in hint


async def test_a_podman_that_the_environment_names_is_used_though_docker_answers(
    environment: dict[str, str], install: Installs
) -> None:
    install("docker", DOCKER_ANSWER)
    install("podman", PODMAN_ANSWER)
    environment["CONTAINER_HOST"] = "unix:///run/podman/podman.sock"
    assert await detect(None, environment) == podman_at("podman")


def install_service(directory: Path, *, rootless: bool) -> None:
    """A Podman client that knows the connection 'work', and its service."""
    version = {**PODMAN_ANSWER, "Server": {"APIVersion": "5.4.2", "Version": "5.4.2"}}
    program = directory / "podman"
    program.write_text(
        "#!/bin/sh\n"
        "case $1 in\n"
        f"version) echo '{json.dumps(version)}';;\n"
        f"info) echo '{json.dumps(podman_info(remote=True, rootless=rootless))}';;\n"
        "system) printf 'work*\\tunix:///run/p.sock\\ttrue\\nfar\\tssh://far/p.sock\\tfalse\\n';;\n"
        "esac\n"
    )
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("rootless", "dialect"), [(False, REMOTE_PODMAN), (True, REMOTE_ROOTLESS_PODMAN)]
)
@pytest.mark.parametrize("uid", [0, 1000])
async def test_whether_a_remote_podman_is_rootless_is_asked_not_guessed_from_our_own_user(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rootless: bool,
    dialect: Dialect,
    uid: int,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    install_service(tmp_path, rootless=rootless)
    environment["CONTAINER_HOST"] = "unix:///run/podman/podman.sock"
    engine = await connect(None, environment, {})
    assert engine.dialect == dialect
    assert (await engine.info()).rootless is rootless


async def test_a_connection_that_podman_does_not_know_is_not_replaced_by_its_default(
    environment: dict[str, str], tmp_path: Path
) -> None:
    install_service(tmp_path, rootless=False)
    environment["CONTAINER_CONNECTION"] = "work"
    assert (await detect(None, environment)).dialect == REMOTE_PODMAN
    environment["CONTAINER_CONNECTION"] = "nosuch"
    with pytest.raises(EngineUnavailable) as caught:
        await detect(None, environment)
    assert str(caught.value) == (
        "Podman has no connection 'nosuch'. CONTAINER_CONNECTION names this engine, so no other is "
        "used instead. Correct or remove it, or choose an engine with CLAUDE_MCP_ENGINE."
    )


@pytest.mark.parametrize(
    ("named", "over_network"),
    [
        ({}, False),
        ({"CONTAINER_CONNECTION": "work"}, False),
        ({"CONTAINER_CONNECTION": "far"}, True),
        ({"CONTAINER_HOST": "unix:///p.sock", "CONTAINER_CONNECTION": "far"}, False),
        ({"CONTAINER_HOST": "ssh://far/p.sock"}, True),
        ({"CONTAINER_HOST": "tcp://127.0.0.1:1"}, True),
    ],
)
async def test_podmans_service_may_be_reached_over_a_network(
    environment: dict[str, str], tmp_path: Path, named: dict[str, str], over_network: bool
) -> None:
    install_service(tmp_path, rootless=False)
    found = await detect("podman", {**environment, **named})
    assert found.dialect == replace(REMOTE_PODMAN, over_network=over_network)


@pytest.mark.parametrize(
    ("named", "over_network"),
    [
        ({}, False),
        ({"DOCKER_HOST": "unix:///d.sock"}, False),
        ({"DOCKER_HOST": "ssh://far"}, True),
        ({"DOCKER_HOST": "tcp://far:2376"}, True),
        ({"DOCKER_CONTEXT": "far"}, True),
        ({"DOCKER_CONTEXT": "near"}, False),
        ({"DOCKER_HOST": "unix:///d.sock", "DOCKER_CONTEXT": "far"}, False),
    ],
)
async def test_docker_may_be_reached_over_a_network(
    environment: dict[str, str], tmp_path: Path, named: dict[str, str], over_network: bool
) -> None:
    program = tmp_path / "docker"
    program.write_text(
        "#!/bin/sh\n"
        "case $1-$DOCKER_CONTEXT in\n"
        f"version-*) echo '{json.dumps(DOCKER_ANSWER)}';;\n"
        "context-far) echo ssh://far;;\n"
        "context-*) echo unix:///d.sock;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    found = await detect(None, {**environment, **named})
    assert found.dialect == replace(DOCKER, over_network=over_network)


@pytest.mark.parametrize("docker", ["missing", "connected to Podman"])
async def test_an_address_that_docker_and_podman_share_is_podmans_if_docker_cannot_use_it(
    environment: dict[str, str], install: Installs, docker: str
) -> None:
    if docker != "missing":
        server = {"Components": [{"Name": "Podman Engine"}], "Version": "5.4.2"}
        install("docker", {"Client": DOCKER_CLIENT, "Server": server})
    install("podman", PODMAN_ANSWER)
    address = EngineAddress(host="ssh://far").environment(environment)
    found = await detect(None, address)
    assert found == replace(
        podman_at("podman"), dialect=replace(podman_at("podman").dialect, over_network=True)
    )


async def test_a_named_docker_without_a_docker_program_is_an_error(
    environment: dict[str, str], install: Installs
) -> None:
    install("podman", PODMAN_ANSWER)
    environment["DOCKER_HOST"] = "tcp://192.0.2.1:2376"
    with pytest.raises(EngineNotFound, match=r"'docker' is not installed.*DOCKER_HOST names"):
        await detect(None, environment)


@pytest.mark.parametrize("variables", [{}, {"DOCKER_HOST": "unix:///run/podman/podman.sock"}])
async def test_a_docker_client_on_podmans_socket_is_refused_with_the_remedy(
    environment: dict[str, str], install: Installs, variables: dict[str, str]
) -> None:
    server = {
        "Platform": {"Name": "linux/amd64/debian-13"},
        "Components": [{"Name": "Podman Engine", "Version": "5.4.2"}, {"Name": "Conmon"}],
        "Version": "5.4.2",
    }
    install("docker", {"Client": DOCKER_CLIENT, "Server": server})
    install("podman", PODMAN_ANSWER)
    with pytest.raises(EngineError) as caught:
        await detect("docker", {**environment, **variables})
    address = "the address in DOCKER_HOST" if variables else "its address"
    assert (type(caught.value), str(caught.value)) == (
        DockerOnPodman,
        "'docker' is a Docker client that is connected to Podman 5.4.2, and Podman silently "
        "ignores some of Docker's options. Use Podman's own client: set "
        f"CLAUDE_MCP_ENGINE=podman, and CONTAINER_HOST to {address}.",
    )
    if variables:
        with pytest.raises(EngineError, match="connected to Podman"):
            await detect(None, {**environment, **variables})
    else:
        assert await detect(None, environment) == podman_at("podman")


async def test_podman_is_used_without_docker_if_docker_host_is_podmans_socket(
    environment: dict[str, str], install: Installs
) -> None:
    install("podman", PODMAN_ANSWER)
    environment["DOCKER_HOST"] = "unix:///run/podman/podman.sock"
    assert await detect(None, environment) == podman_at("podman")


async def test_a_docker_that_is_podman_in_disguise_is_podman(
    environment: dict[str, str], install: Installs
) -> None:
    install("docker", PODMAN_ANSWER, stderr="Emulate Docker CLI using podman.")
    assert await detect(None, environment) == podman_at("docker")


async def test_a_configured_program_is_the_only_one_tried(
    environment: dict[str, str], install: Installs
) -> None:
    install("docker", DOCKER_ANSWER)
    path = install("my-engine", PODMAN_ANSWER)
    assert await detect(path, environment) == podman_at(path)
    with pytest.raises(EngineNotFound) as caught:
        await detect("podman", environment)
    assert str(caught.value) == (
        "'podman' is not installed or not on PATH. "
        "Install it, or choose another engine with CLAUDE_MCP_ENGINE."
    )


async def test_without_any_engine_the_error_says_what_was_tried_and_what_to_do(
    environment: dict[str, str],
) -> None:
    with pytest.raises(EngineNotFound) as caught:
        await detect(None, environment)
    assert str(caught.value) == NEITHER


async def test_a_daemon_that_is_down_decides_the_hint(
    environment: dict[str, str], install: Installs
) -> None:
    install("docker", DOCKER_ALONE, DOCKER_DOWN, 1)
    with pytest.raises(EngineNotFound) as caught:
        await detect(None, environment)
    assert str(caught.value) == (
        "No container engine works here. Docker's daemon does not answer: Cannot connect to the "
        "Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running? "
        "'podman' is not installed or not on PATH. Start it (for example 'systemctl start "
        "docker'), correct DOCKER_HOST or DOCKER_CONTEXT, or use Podman: set "
        "CLAUDE_MCP_ENGINE=podman."
    )


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            (DOCKER_ALONE, DOCKER_DOWN, 1),
            EngineUnavailable,
            "Docker's daemon does not answer: Cannot connect to the Docker daemon at "
            "unix:///var/run/docker.sock. Is the docker daemon running?",
        ),
        (
            (DOCKER_ALONE, DOCKER_FORBIDDEN, 1),
            EngineUnavailable,
            "Docker refused access to its socket: permission denied while trying to connect to "
            'the Docker daemon socket at unix:///var/run/docker.sock: Get "http://%2Fvar%2Frun%2F'
            'docker.sock/v1.50/version": dial unix /var/run/docker.sock: connect: permission '
            "denied.",
        ),
        (
            ({**DOCKER_ANSWER, "Server": {"Version": "19.03.15"}},),
            EngineError,
            "Docker 19.03.15 is too old: 20.10 or later is needed.",
        ),
        (
            ({"Client": {"APIVersion": "4.2.9", "Version": "4.2.9"}},),
            EngineError,
            "Podman 4.2.9 is too old: 4.3 or later is needed.",
        ),
        (
            ({"Client": {"APIVersion": "5", "Version": "unknown"}},),
            EngineError,
            "Podman unknown is too old: 4.3 or later is needed.",
        ),
        (
            ("nonsense", "", 0),
            EngineNotFound,
            "'engine' is neither Docker nor Podman.",
        ),
        (
            ("", "engine: what do you want", 2),
            EngineError,
            "'engine' could not report its version: engine: what do you want.",
        ),
        (
            (PODMAN_ANSWER, "Error: something is broken", 125),
            EngineError,
            "Podman could not report its version: something is broken.",
        ),
    ],
)
async def test_a_configured_engine_that_cannot_be_used_says_why(
    environment: dict[str, str],
    install: Installs,
    answer: tuple[Any, ...],
    kind: type[EngineError],
    message: str,
) -> None:
    install("engine", *answer)
    with pytest.raises(EngineError) as caught:
        await detect("engine", environment)
    assert (type(caught.value), caught.value.message) == (kind, message)


async def test_a_program_that_is_no_engine_is_not_to_be_installed(
    environment: dict[str, str], install: Installs
) -> None:
    install("engine", "nonsense")
    with pytest.raises(EngineNotFound) as caught:
        await detect("engine", environment)
    assert caught.value.hint is None


async def test_the_oldest_supported_versions_are_accepted(
    environment: dict[str, str], install: Installs
) -> None:
    install("docker", {**DOCKER_ANSWER, "Server": {"Version": "20.10.0"}})
    install("podman", {"Client": {"APIVersion": "4.3.0", "Version": "4.3.0"}})
    assert (await detect("docker", environment)).version == "20.10.0"
    assert (await detect("podman", environment)).version == "4.3.0"


@pytest.mark.parametrize("kind", ["directory", "not executable", "no program at all"])
async def test_a_path_that_cannot_be_executed_is_no_engine(
    environment: dict[str, str], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "engine"
    if kind == "directory":
        path.mkdir()
    else:
        path.write_text("no program")
        path.chmod(0o644 if kind == "not executable" else 0o755)
    with pytest.raises(EngineNotFound, match="is not installed or not on PATH"):
        await detect(str(path), environment)


@pytest.mark.parametrize(
    ("name", "patience", "hint"),
    [
        ("docker", "DETECT_TIMEOUT_SECONDS", "Its daemon may hang. Restart it."),
        ("podman", "LOCKED_TIMEOUT_SECONDS", detection.LOCKED_HINT),
    ],
)
async def test_detection_gives_up_on_an_engine_that_hangs(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    patience: str,
    hint: str,
) -> None:
    program = tmp_path / name
    program.write_text("#!/bin/sh\nexec /bin/sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(detection, patience, 0.05)
    with pytest.raises(EngineUnavailable) as caught:
        await detect(name, environment)
    assert str(caught.value) == f"'{name} version' did not answer within 0.05 s. {hint}"


async def test_the_detected_engine_is_driven_with_what_it_needs_of_the_environment(
    environment: dict[str, str], install: Installs
) -> None:
    install("docker", DOCKER_ANSWER)
    assert await connect(None, {**environment, "PODMAN_USERNS": "auto"}, {}) == DockerCliEngine(
        "docker", "20.10.24+dfsg1", DOCKER, engine_environment(environment, {})
    )
