"""Which engine answers.

Detection asks a program for its version; ``answer`` reads what it says.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from claude_mcp.engine import pod_options, process, questions, reach
from claude_mcp.engine.address import (
    CONTEXT_VARIABLE,
    KUBERNETES,
    NAMESPACE_VARIABLE,
    EngineName,
)
from claude_mcp.engine.answer import (
    Answer,
    DockerOnPodman,
    check_daemon,
    check_version,
    dialect_of,
    parse_version,
)
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.podman import PODMAN
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.environment import engine_environment
from claude_mcp.engine.failures import classify
from claude_mcp.engine.info import EngineInfo, parse_info
from claude_mcp.engine.missing import INSTALL, not_found
from claude_mcp.engine.naming import hint, named_by
from claude_mcp.errors import EngineError, EngineNotFound, EngineUnavailable

DETECT_TIMEOUT_SECONDS: Final = 8.0
LOCKED_TIMEOUT_SECONDS: Final = 20.0
"""The same for Podman, whose commands wait for each other's locks, with a service too."""
LOCKED_HINT: Final = (
    "Another command of Podman may have locked its storage, such as a pull or a build of an image: "
    "try again when that has ended. If you use Podman's service, it may hang: restart it."
)


@dataclass(frozen=True, slots=True)
class Detected:
    program: str
    version: str
    dialect: Dialect
    info: EngineInfo | None = None
    """If it had to be asked."""


async def connect(
    program: str | None, environment: Mapping[str, str], login: Mapping[str, str]
) -> Engine:
    """The engine behind ``program``, or the one that ``detect`` finds; see there for errors.

    ``login`` are the variables of programs that log in to a cluster or a registry.
    """
    if program == KUBERNETES:
        # Whoever uses another engine does not wait for this import.
        from claude_mcp.engine.kubernetes import argv, kubectl

        place = argv.Place(environment.get(CONTEXT_VARIABLE), environment.get(NAMESPACE_VARIABLE))
        options = pod_options.parse(pod_options.of_environment(environment))
        own = {**engine_environment(environment, login), **login}
        return await kubectl.connect(own, place, options)
    environment = engine_environment(environment, login)
    found = await detect(program, environment)
    known = [] if found.info is None else [found.info]
    return DockerCliEngine(
        found.program, found.version, found.dialect, environment, known, login=login
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
    address = reach.given_address(answer.name, environment)
    if answer.remote:
        address = address or await _connection(program, environment)
        info = await _service_info(program, environment)
        answer = replace(answer, rootless=info.rootless)
    elif address is None and reach.has_context(environment):
        address = (await _run(questions.context_argv(program), environment)).out.strip()
    dialect = replace(dialect_of(answer), over_network=reach.leads_elsewhere(address or ""))
    return Detected(program, answer.version, dialect, info)


async def _ask(
    program: str, environment: Mapping[str, str]
) -> tuple[Answer | None, EngineError | None]:
    """What a program says of itself, and why it cannot be used."""
    address = reach.nobody_at(environment)
    if address is not None and shutil.which(program, path=environment.get("PATH")):
        return None, EngineUnavailable(
            f"Nobody listens at {address}.",
            hint="Start the engine or its service there, or correct the address.",
        )
    try:
        completed = await _run(questions.version_argv(program), environment)
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


async def _run(argv: questions.Argv, environment: Mapping[str, str]) -> process.Completed:
    locks = _name_of(argv[0], None) is EngineName.PODMAN
    seconds = LOCKED_TIMEOUT_SECONDS if locks else DETECT_TIMEOUT_SECONDS
    try:
        return await process.run(argv, env=environment, timeout=seconds)
    except process.ProgramNotFound as error:
        raise not_found(argv[0], environment) from error
    except process.ProcessTimeout as error:
        raise EngineUnavailable(
            f"'{argv[0]} {argv[1]}' did not answer within {seconds:g} s.",
            hint=LOCKED_HINT if locks else "Its daemon may hang. Restart it.",
        ) from error


async def _service_info(program: str, environment: Mapping[str, str]) -> EngineInfo:
    """What Podman's service says of itself. Our own user is not the service's user."""
    completed = await _run(questions.info_argv(program), environment)
    if completed.returncode != 0:
        raise classify(PODMAN.title, "describe itself", completed.err)
    return parse_info(completed.out)


async def _connection(program: str, environment: Mapping[str, str]) -> str:
    """The address of Podman's service: of the connection that was named, or of its default.

    Raises:
        EngineUnavailable: Podman does not know the connection. Podman 4.3 then uses root's local
            service.
    """
    named = environment.get("CONTAINER_CONNECTION")
    listed = await _run(questions.connections_argv(program), environment)
    known = reach.parse_connections(listed.out)
    if named and named not in (each.name for each in known):
        raise EngineUnavailable(
            f"Podman has no connection '{named}'.", hint=hint(("CONTAINER_CONNECTION",), None)
        )
    chosen = (
        each.address for each in known if each.name == named or (not named and each.is_default)
    )
    return next(chosen, "")


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
    hints = [error.hint for error in failures if error.hint not in (None, INSTALL)]
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
    except (EngineNotFound, DockerOnPodman) as error:
        if name is EngineName.DOCKER and _is_podmans(error, environment):
            return await probe(EngineName.PODMAN.value, environment)
        if isinstance(error, DockerOnPodman):
            raise
        raise EngineNotFound(error.message, hint=hint(names, error.hint)) from error


def _is_podmans(error: EngineError, environment: Mapping[str, str]) -> bool:
    """Whether the engine that was named to Docker is one that Podman's own client may use."""
    docker, podman = (reach.given_address(name, environment) for name in EngineName)
    if docker is not None and docker == podman:
        return True
    # Other programs use Podman's service through DOCKER_HOST. That names Podman.
    return isinstance(error, EngineNotFound) and "podman" in (docker or "")
