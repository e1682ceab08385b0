"""What a program says of itself when it is asked for its version.

Nobody looks at the program's name: a ``docker`` that is Podman in disguise is Podman here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, assert_never

from claude_mcp.engine.address import EngineName
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.docker import DOCKER, MOUNT_ALONE_BEFORE_25, ROOTLESS_DOCKER
from claude_mcp.engine.dialects.podman import (
    PODMAN,
    REMOTE_PODMAN,
    REMOTE_ROOTLESS_PODMAN,
    ROOTLESS_PODMAN,
)
from claude_mcp.errors import EngineError

PODMAN_SERVICE: Final = "Podman Engine"
"""What Podman's service calls itself when it speaks Docker's API."""


class DockerOnPodman(EngineError):
    """A Docker client is connected to Podman's service."""


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
        raise DockerOnPodman(
            f"'{program}' is a Docker client that is connected to Podman {answer.version}, and "
            "Podman silently ignores some of Docker's options.",
            hint=f"Use Podman's own client: set CLAUDE_MCP_ENGINE=podman, and CONTAINER_HOST to "
            f"{address}.",
        )
