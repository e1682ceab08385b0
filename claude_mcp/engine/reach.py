"""Whether an engine is reached over a network.

Then its files, its loopback and its clock are another machine's, as far as anybody can tell: the
loopback of this machine may lead to a tunnel.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from claude_mcp.engine.address import EngineName
from claude_mcp.engine.naming import named_by

NETWORKS: Final = ("tcp://", "ssh://", "http://", "https://")
LOOPBACKS: Final = ("127.0.0.1", "::1", "localhost")
NOBODY_SECONDS: Final = 0.02
"""How long the loopback may take to say that nobody listens."""
_NOBODY: Final = (errno.ENOENT, errno.ECONNREFUSED)
_HOSTS: Final = {EngineName.DOCKER: "DOCKER_HOST", EngineName.PODMAN: "CONTAINER_HOST"}


@dataclass(frozen=True, slots=True)
class Service:
    """A service that Podman knows, as ``system connection list`` has it."""

    name: str
    address: str
    is_default: bool


def parse_connections(stdout: str) -> list[Service]:
    """Read the output of ``argv.connections_argv``."""
    rows = [(*line.split("\t"), "", "")[:3] for line in stdout.splitlines() if line.strip()]
    return [
        Service(name.strip().rstrip("*"), address, name.endswith("*") or default == "true")
        for name, address, default in rows
    ]


def leads_elsewhere(address: str) -> bool:
    return address.startswith(NETWORKS)


def given_address(name: EngineName, environment: Mapping[str, str]) -> str | None:
    """The engine's address, if the environment has it as such."""
    return environment.get(_HOSTS[name]) or None


def has_context(environment: Mapping[str, str]) -> bool:
    """Whether Docker's address is that of a context."""
    names = named_by(EngineName.DOCKER, environment)
    return "DOCKER_HOST" not in names and any(
        name == "DOCKER_CONTEXT" or name.startswith("'currentContext'") for name in names
    )


def nobody_at(environment: Mapping[str, str]) -> str | None:
    """The engine's address, if it is on this machine and nobody listens there.

    A client that finds this out is a process more. Only an address that Docker and Podman share is
    looked at, because the program may be either. A daemon with TLS is left alone: it would log a
    connection that does not greet.
    """
    docker, podman = (given_address(name, environment) for name in EngineName)
    if docker is None or docker != podman or environment.get("DOCKER_TLS_VERIFY"):
        return None
    import socket  # which costs more than a list of nothing otherwise loads

    url = urlsplit(docker)
    try:
        if url.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as asking:
                asking.setblocking(False)
                asking.connect(url.path)
        elif url.scheme == "tcp" and url.hostname in LOOPBACKS and url.port is not None:
            socket.create_connection((url.hostname, url.port), NOBODY_SECONDS).close()
    except OSError as error:
        return docker if error.errno in _NOBODY else None
    return None
