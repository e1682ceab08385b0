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
from enum import StrEnum
from typing import Any, Final, assert_never

from claude_mcp.engine import argv as build
from claude_mcp.engine import process
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.docker import DOCKER, ROOTLESS_DOCKER
from claude_mcp.engine.dialects.podman import PODMAN, ROOTLESS_PODMAN
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.environment import engine_environment
from claude_mcp.engine.failures import classify
from claude_mcp.errors import EngineError, EngineNotFound, EngineUnavailable

DETECT_TIMEOUT_SECONDS: Final = 15.0
DAEMON_VARIABLES: Final = ("DOCKER_HOST", "DOCKER_CONTEXT")
"""Variables that name a Docker daemon."""


class EngineName(StrEnum):
    """The engines that we know, each by the program that is tried, in this order."""

    DOCKER = "docker"
    PODMAN = "podman"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program says of itself. ``daemon_answers`` is False if only a client answered."""

    name: EngineName
    version: str
    rootless: bool = False
    in_virtual_machine: bool = False
    daemon_answers: bool = True


@dataclass(frozen=True, slots=True)
class Detected:
    program: str
    version: str
    dialect: Dialect


async def connect(program: str | None, environment: Mapping[str, str]) -> Engine:
    """The engine behind ``program``, or the one that ``detect`` finds; see there for errors."""
    environment = engine_environment(environment)
    found = await detect(program, environment)
    return DockerCliEngine(found.program, found.version, found.dialect, environment)


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
            )
        if "APIVersion" in client:  # Podman's spelling
            version = str(client["Version"])
            return Answer(EngineName.PODMAN, version, rootless=effective_uid != 0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return None


def dialect_of(answer: Answer) -> Dialect:
    match answer.name:
        case EngineName.DOCKER:
            dialect = ROOTLESS_DOCKER if answer.rootless else DOCKER
        case EngineName.PODMAN:
            dialect = ROOTLESS_PODMAN if answer.rootless else PODMAN
        case unknown:
            assert_never(unknown)
    return replace(dialect, in_virtual_machine=answer.in_virtual_machine)


def check_version(dialect: Dialect, version: str) -> None:
    """Raise EngineError if the engine is older than supported."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < dialect.minimum_version:
        minimum = ".".join(map(str, dialect.minimum_version))
        raise EngineError(
            f"{dialect.title} {version} is too old: {minimum} or later is needed.",
            hint=f"Upgrade {dialect.title}, or choose another engine with CLAUDE_MCP_ENGINE.",
        )


async def probe(program: str, environment: Mapping[str, str]) -> Detected:
    """Ask one program what it is.

    Raises:
        EngineNotFound: the program is missing or is not an engine.
        EngineUnavailable: its daemon does not answer.
        EngineError: it is too old.
    """
    try:
        completed = await process.run(
            build.version_argv(program), env=environment, timeout=DETECT_TIMEOUT_SECONDS
        )
    except process.ProgramNotFound as error:
        raise EngineNotFound(f"'{program}' is not installed or not on PATH.") from error
    except process.ProcessTimeout as error:
        raise EngineUnavailable(
            f"'{program} version' did not answer within {DETECT_TIMEOUT_SECONDS:g} s.",
            hint="Its daemon may hang. Restart it.",
        ) from error
    answer = parse_version(completed.out, effective_uid=os.geteuid())
    if answer is None:
        if completed.returncode != 0:
            raise classify(f"'{program}'", "report its version", completed.err)
        raise EngineNotFound(f"'{program}' is neither Docker nor Podman.")
    dialect = dialect_of(answer)
    if not answer.daemon_answers or completed.returncode != 0:
        raise classify(dialect.title, "report its version", completed.err)
    check_version(dialect, answer.version)
    return Detected(program, answer.version, dialect)


async def detect(program: str | None, environment: Mapping[str, str]) -> Detected:
    """Find the engine to use.

    ``program`` is a name on PATH or a path. None means Docker if its daemon answers, else Podman.
    If the environment names a Docker daemon, Podman does not replace it.

    Raises:
        EngineNotFound, EngineUnavailable, EngineError: what was tried, and what to do.
    """
    if program is not None:
        return await probe(program, environment)
    failures: list[EngineError] = []
    for name in EngineName:
        try:
            return await probe(name.value, environment)
        except EngineUnavailable as error:
            named = [variable for variable in DAEMON_VARIABLES if environment.get(variable)]
            if name is EngineName.DOCKER and named:
                raise EngineUnavailable(
                    error.message,
                    hint=f"{named[0]} names that daemon. Start it, or unset {named[0]}, or use "
                    "Podman: set CLAUDE_MCP_ENGINE=podman.",
                ) from error
            failures.append(error)
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
