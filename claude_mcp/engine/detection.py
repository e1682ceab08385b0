"""Which engine answers.

Detection asks a program for its version and reads the answer. It never looks at the program's
name: a ``docker`` that is Podman in disguise is Podman here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, assert_never

from claude_mcp.engine import argv as build
from claude_mcp.engine import process
from claude_mcp.engine.address import EngineName
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.docker import DOCKER, MOUNT_ALONE_BEFORE_25, ROOTLESS_DOCKER
from claude_mcp.engine.dialects.podman import (
    PODMAN,
    REMOTE_PODMAN,
    REMOTE_ROOTLESS_PODMAN,
    ROOTLESS_PODMAN,
)
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.environment import engine_environment
from claude_mcp.engine.failures import classify
from claude_mcp.engine.info import EngineInfo, parse_info
from claude_mcp.engine.naming import hint, named_by
from claude_mcp.errors import EngineError, EngineNotFound, EngineUnavailable

DETECT_TIMEOUT_SECONDS: Final = 8.0
PODMAN_SERVICE: Final = "Podman Engine"
"""What Podman's service calls itself when it speaks Docker's API."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program says of itself. ``daemon_answers`` is False if only a client answered."""

    name: EngineName
    version: str
    rootless: bool = False
    in_virtual_machine: bool = False
    daemon_answers: bool = True
    remote: bool = False
    """A Podman client is connected to a service, which alone knows whether it is rootless."""
    daemon_is_podman: bool = False
    """A Docker client is connected to Podman's service."""
    client_before_25: bool = False
    """Docker's client is older than version 25 and takes other fields of ``--mount``."""


@dataclass(frozen=True, slots=True)
class Detected:
    program: str
    version: str
    dialect: Dialect
    info: EngineInfo | None = None
    """If it had to be asked."""


async def connect(program: str | None, environment: Mapping[str, str]) -> Engine:
    """The engine behind ``program``, or the one that ``detect`` finds; see there for errors."""
    environment = engine_environment(environment)
    found = await detect(program, environment)
    known = [] if found.info is None else [found.info]
    return DockerCliEngine(found.program, found.version, found.dialect, environment, known)


def parse_version(stdout: str, *, effective_uid: int) -> Answer | None:
    """Read the output of ``version --format={{json .}}``; None if no known engine wrote it."""
    try:
        answer: Any = json.loads(stdout.strip().splitlines()[0])
        client = answer["Client"]
        if "ApiVersion" in client:  # Docker's spelling
            server = answer.get("Server")
            if not server:
                return Answer(EngineName.DOCKER, str(client["Version"]), daemon_answers=False)
            components = {str(part.get("Name")) for part in server.get("Components") or ()}
            platform = str((server.get("Platform") or {}).get("Name"))
            return Answer(
                EngineName.DOCKER,
                str(server["Version"]),
                rootless="rootlesskit" in components,
                in_virtual_machine=platform.startswith("Docker Desktop"),
                daemon_is_podman=PODMAN_SERVICE in components,
                client_before_25=_numbers(str(client["Version"])) < (25,),
            )
        if "APIVersion" in client:  # Podman's spelling
            version = str(client["Version"])
            remote = bool(answer.get("Server"))
            rootless = effective_uid != 0 and not remote
            return Answer(EngineName.PODMAN, version, rootless=rootless, remote=remote)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return None


def dialect_of(answer: Answer) -> Dialect:
    match answer.name:
        case EngineName.DOCKER:
            dialect = ROOTLESS_DOCKER if answer.rootless else DOCKER
            if answer.client_before_25 and dialect.mount_alone:
                dialect = replace(dialect, mount_alone=MOUNT_ALONE_BEFORE_25)
        case EngineName.PODMAN:
            local = ROOTLESS_PODMAN if answer.rootless else PODMAN
            remote = REMOTE_ROOTLESS_PODMAN if answer.rootless else REMOTE_PODMAN
            dialect = remote if answer.remote else local
        case unknown:
            assert_never(unknown)
    return replace(dialect, in_virtual_machine=answer.in_virtual_machine)


def check_version(dialect: Dialect, version: str) -> None:
    """Raise EngineError if the engine is older than supported."""
    if _numbers(version) < dialect.minimum_version:
        minimum = ".".join(map(str, dialect.minimum_version))
        raise EngineError(
            f"{dialect.title} {version} is too old: {minimum} or later is needed.",
            hint=f"Upgrade {dialect.title}, or choose another engine with CLAUDE_MCP_ENGINE.",
        )


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def check_daemon(answer: Answer, program: str, environment: Mapping[str, str]) -> None:
    """Raise EngineError if a Docker client is connected to Podman.

    Podman's service ignores some of Docker's options without a word, such as an unknown
    ``--runtime``: the session would not be isolated as it was asked for.
    """
    if answer.daemon_is_podman:
        address = "the address in DOCKER_HOST" if environment.get("DOCKER_HOST") else "its address"
        raise EngineError(
            f"'{program}' is a Docker client that is connected to Podman {answer.version}, and "
            "Podman silently ignores some of Docker's options.",
            hint=f"Use Podman's own client: set CLAUDE_MCP_ENGINE=podman, and CONTAINER_HOST to "
            f"{address}.",
        )


async def probe(program: str, environment: Mapping[str, str]) -> Detected:
    """Ask one program what it is.

    Raises:
        EngineNotFound: the program is missing or is not an engine.
        EngineUnavailable: its daemon does not answer, or it cannot reach the engine that the
            environment names.
        EngineError: it is too old, or a Docker client that is connected to Podman.
    """
    answer, failure = await _ask(program, environment)
    if failure is not None:
        names = named_by(_name_of(program, answer), environment)
        if not names or isinstance(failure, EngineNotFound):
            raise failure
        raise EngineUnavailable(failure.message, hint=hint(names, failure.hint)) from failure
    assert answer is not None
    check_daemon(answer, program, environment)
    check_version(dialect_of(answer), answer.version)
    info = None
    if answer.remote:
        await _check_connection(program, environment)
        info = await _service_info(program, environment)
        answer = replace(answer, rootless=info.rootless)
    return Detected(program, answer.version, dialect_of(answer), info)


async def _ask(
    program: str, environment: Mapping[str, str]
) -> tuple[Answer | None, EngineError | None]:
    """What a program says of itself, and why it cannot be used."""
    try:
        completed = await _run(build.version_argv(program), environment)
    except EngineError as error:
        return None, error
    answer = parse_version(completed.out, effective_uid=os.geteuid())
    if answer is None and completed.returncode == 0:
        return None, EngineNotFound(f"'{program}' is neither Docker nor Podman.")
    if answer is None:
        return None, classify(f"'{program}'", "report its version", completed.err)
    if not answer.daemon_answers or completed.returncode != 0:
        return answer, classify(dialect_of(answer).title, "report its version", completed.err)
    return answer, None


async def _run(argv: build.Argv, environment: Mapping[str, str]) -> process.Completed:
    try:
        return await process.run(argv, env=environment, timeout=DETECT_TIMEOUT_SECONDS)
    except process.ProgramNotFound as error:
        raise EngineNotFound(f"'{argv[0]}' is not installed or not on PATH.") from error
    except process.ProcessTimeout as error:
        raise EngineUnavailable(
            f"'{argv[0]} {argv[1]}' did not answer within {DETECT_TIMEOUT_SECONDS:g} s.",
            hint="Its daemon may hang. Restart it.",
        ) from error


async def _service_info(program: str, environment: Mapping[str, str]) -> EngineInfo:
    """What Podman's service says of itself. Our own user is not the service's user."""
    completed = await _run(build.info_argv(program), environment)
    if completed.returncode != 0:
        raise classify(PODMAN.title, "describe itself", completed.err)
    return parse_info(completed.out)


async def _check_connection(program: str, environment: Mapping[str, str]) -> None:
    """Raise EngineUnavailable if Podman does not know the connection that was named.

    Podman 4.3 then uses root's local service.
    """
    connection = environment.get("CONTAINER_CONNECTION")
    if not connection or environment.get("CONTAINER_HOST"):
        return
    known = await _run(build.connections_argv(program), environment)
    if connection not in (name.rstrip("*") for name in known.out.split()):
        raise EngineUnavailable(
            f"Podman has no connection '{connection}'.",
            hint=hint(("CONTAINER_CONNECTION",), None),
        )


def _name_of(program: str, answer: Answer | None) -> EngineName:
    """Which engine a program is. One that gives no answer is judged by its name."""
    if answer is not None:
        return answer.name
    return EngineName.PODMAN if "podman" in Path(program).name else EngineName.DOCKER


async def detect(program: str | None, environment: Mapping[str, str]) -> Detected:
    """Find the engine to use.

    ``program`` is a name on PATH or a path. None means the engine that the environment or
    Docker's configuration names; if neither names one, Docker if its daemon answers, else Podman.

    Raises:
        EngineNotFound, EngineUnavailable, EngineError: what was tried, and what to do.
    """
    if program is not None:
        return await probe(program, environment)
    for name in EngineName:
        if names := named_by(name, environment):
            return await _named(name, names, environment)
    failures: list[EngineError] = []
    for name in EngineName:
        try:
            return await probe(name.value, environment)
        except EngineError as error:
            failures.append(error)
    tried = " ".join(error.message for error in failures)
    # A daemon that is down is likelier to be what the user meant than a missing program.
    hints = [error.hint for error in failures if error.hint]
    raise EngineNotFound(
        f"No container engine works here. {tried}",
        hint=hints[0]
        if hints
        else "Install Podman (for example 'apt-get install podman') or Docker, or name the "
        "program with CLAUDE_MCP_ENGINE.",
    )


async def _named(
    name: EngineName, names: tuple[str, ...], environment: Mapping[str, str]
) -> Detected:
    """The engine that was named; no other takes its place."""
    try:
        return await probe(name.value, environment)
    except EngineNotFound as error:
        # Other programs use Podman's service through DOCKER_HOST. That names Podman.
        if name is EngineName.DOCKER and "podman" in environment.get("DOCKER_HOST", ""):
            return await probe(EngineName.PODMAN.value, environment)
        raise EngineNotFound(error.message, hint=hint(names, error.hint)) from error
