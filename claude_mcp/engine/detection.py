"""The few places where Docker and Podman differ, and how to tell which one answers.

Detection asks the program for its version and looks at the answer, never at the program's
name: a ``docker`` that is Podman in disguise is Podman here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from claude_mcp.engine import argv as build
from claude_mcp.engine import process
from claude_mcp.engine.failures import classify
from claude_mcp.errors import EngineError, EngineNotFound, EngineUnavailable

DETECT_TIMEOUT_SECONDS: Final = 15.0
DAEMON_VARIABLES: Final = ("DOCKER_HOST", "DOCKER_CONTEXT")
"""Where somebody says which Docker daemon is meant."""


class EngineName(StrEnum):
    DOCKER = "docker"
    PODMAN = "podman"


MINIMUM_VERSIONS: Final[Mapping[EngineName, tuple[int, int]]] = {
    EngineName.DOCKER: (20, 10),  # `create --pull`
    EngineName.PODMAN: (4, 3),  # oldest version that the tests ran on
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One engine as it answered: which it is, its version, and what follows from that."""

    name: EngineName
    version: str
    rootless: bool
    in_virtual_machine: bool = False
    """The engine runs beside the host, as Docker Desktop does; its loopback is the host's."""

    @property
    def title(self) -> str:
        return self.name.value.capitalize()

    @property
    def host_alias(self) -> str:
        """The name by which a container reaches the host."""
        if self.name is EngineName.DOCKER:
            return "host.docker.internal"
        return "host.containers.internal"

    @property
    def extra_hosts(self) -> tuple[str, ...]:
        # Docker on Linux knows the alias only when told; Podman always knows its own.
        if self.name is EngineName.DOCKER:
            return ("host.docker.internal:host-gateway",)
        return ()

    @property
    def log_driver(self) -> str:
        """The driver whose files ``logs`` can read on every host and whose size can be bounded."""
        return "json-file" if self.name is EngineName.DOCKER else "k8s-file"

    @property
    def hands_on_proxies(self) -> bool:
        """Containers get the proxies of the engine's environment, unless told otherwise."""
        return self.name is EngineName.PODMAN

    @property
    def adds_tmpfs(self) -> bool:
        """Mounts memory, without a bound, over directories of a read-only root, unless told not
        to."""
        return self.name is EngineName.PODMAN

    @property
    def copies_links(self) -> bool:
        """``cp`` out of a container takes a link at the path for itself, unless told otherwise."""
        return self.name is EngineName.DOCKER

    @property
    def copies_in_daemon(self) -> bool:
        """When ``cp`` is killed, the daemon unpacks on, and makes the directory anew if need be."""
        return self.name is EngineName.DOCKER

    @property
    def spools_archives(self) -> bool:
        """``cp -`` writes its stdin to a file below TMPDIR and leaves it there (Podman 4.3.1)."""
        return self.name is EngineName.PODMAN

    def user_options(self, uid: int, gid: int) -> dict[str, str]:
        """``user`` and ``userns`` of a container whose files belong to uid:gid on the host.

        A rootless engine runs as one user of the host. Podman can map that user onto itself;
        in Docker it is always root inside.
        """
        if not self.rootless:
            return {"user": f"{uid}:{gid}"}
        if self.name is EngineName.PODMAN:
            return {"userns": "keep-id"}
        return {"user": "0:0"}


@dataclass(frozen=True, slots=True)
class Detected:
    program: str
    dialect: Dialect


def parse_version(stdout: str, *, effective_uid: int) -> tuple[Dialect, bool] | None:
    """Read the answer to ``version --format={{json .}}``.

    Returns the dialect and whether the engine itself (not only its client) answered; None
    when the answer is neither Docker's nor Podman's.
    """
    try:
        answer: Any = json.loads(stdout.strip().splitlines()[0])
        client = answer["Client"]
        if "ApiVersion" in client:  # Docker's spelling
            server = answer.get("Server")
            if not server:
                return Dialect(EngineName.DOCKER, str(client["Version"]), False), False
            components = {str(part.get("Name")) for part in server.get("Components") or ()}
            rootless = "rootlesskit" in components
            platform = str((server.get("Platform") or {}).get("Name"))
            desktop = platform.startswith("Docker Desktop")
            return Dialect(EngineName.DOCKER, str(server["Version"]), rootless, desktop), True
        if "APIVersion" in client:  # Podman's spelling
            return Dialect(EngineName.PODMAN, str(client["Version"]), effective_uid != 0), True
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return None


def check_version(dialect: Dialect) -> None:
    """Raise EngineError when the engine is older than supported."""
    minimum = MINIMUM_VERSIONS[dialect.name]
    numbers = tuple(int(part) for part in re.findall(r"\d+", dialect.version)[:2])
    if numbers < minimum:
        wanted = ".".join(str(part) for part in minimum)
        raise EngineError(
            f"{dialect.title} {dialect.version} is older than {wanted}, the oldest supported.",
            hint=f"Upgrade {dialect.title}, or choose another engine with CLAUDE_MCP_ENGINE.",
        )


async def probe(program: str, environment: Mapping[str, str]) -> Detected:
    """Ask one program what it is.

    Raises:
        EngineNotFound: it is not there, or is not an engine.
        EngineUnavailable: it is there, but its daemon does not answer.
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
            hint="Its daemon seems to hang; restart it.",
        ) from error
    parsed = parse_version(completed.out, effective_uid=os.geteuid())
    if parsed is None:
        if completed.returncode != 0:
            raise classify(f"'{program}'", "tell its version", completed.err)
        raise EngineNotFound(f"'{program}' answers neither like Docker nor like Podman.")
    dialect, answered = parsed
    if not answered or completed.returncode != 0:
        raise classify(dialect.title, "answer", completed.err)
    check_version(dialect)
    return Detected(program, dialect)


async def detect(wanted: str | None, environment: Mapping[str, str]) -> Detected:
    """Find the engine to use.

    ``wanted`` is a program (``docker``, ``podman``, a path) or None: then Docker if its
    daemon answers, else Podman; but no other engine stands in for a daemon that was named.

    Raises:
        EngineNotFound, EngineUnavailable, EngineError: what was tried, and what to do.
    """
    if wanted is not None:
        return await probe(wanted, environment)
    failures: list[EngineError] = []
    for program in EngineName:
        try:
            return await probe(program.value, environment)
        except EngineUnavailable as error:
            named = [name for name in DAEMON_VARIABLES if environment.get(name)]
            if program is EngineName.DOCKER and named:
                raise EngineUnavailable(
                    error.message,
                    hint=f"{named[0]} names that daemon. Start it or unset {named[0]}; or choose "
                    "Podman with CLAUDE_MCP_ENGINE=podman.",
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
