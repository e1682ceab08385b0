"""Where an engine is, as its program's environment says it to Docker and to Podman.

A value: it asks nobody, and no file is looked at. Who has several engines has one of these for
each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, urlsplit

from claude_mcp.engine import pod_options
from claude_mcp.errors import ConfigError


class EngineName(StrEnum):
    """The engines that we know, each by the program that is tried, in this order."""

    DOCKER = "docker"
    PODMAN = "podman"


KUBERNETES: Final = "kubernetes"
"""The engine that is never tried unless somebody names it; its program is ``kubectl``."""
CONTEXT_VARIABLE: Final = "CLAUDE_MCP_ENGINE_CONTEXT"
NAMESPACE_VARIABLE: Final = "CLAUDE_MCP_ENGINE_NAMESPACE"
KUBECONFIG_VARIABLE: Final = "KUBECONFIG"

VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    EngineName.DOCKER: (
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "DOCKER_TLS_VERIFY",
        "DOCKER_TLS",
        "DOCKER_CERT_PATH",
    ),
    EngineName.PODMAN: ("CONTAINER_HOST", "CONTAINER_CONNECTION"),
    KUBERNETES: (
        CONTEXT_VARIABLE,
        NAMESPACE_VARIABLE,
        KUBECONFIG_VARIABLE,
        *(each.variable for each in pod_options.OPTIONS),
    ),
}
"""The variables by which an environment names an engine."""
SSH_KEY: Final = "CONTAINER_SSHKEY"
"""Podman's own variable; our ``ssh`` for Docker reads it too."""
SCHEMES: Final = ("unix", "tcp", "ssh")
_EXAMPLES: Final = "Use unix:///path, tcp://HOST:PORT or ssh://USER@HOST."
_HOST: Final = re.compile(r"[0-9A-Za-z:_][0-9A-Za-z:._%-]*")
_USER: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._+@\\-]*")
_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.+-]*")
_CONTEXT: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.+:/@-]{0,252}")
_NAMESPACE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """An engine's program and place. Without any field, the environment's is used.

    Raises:
        ConfigError: the fields are malformed or contradict each other.
    """

    program: str | None = None
    """docker, podman, a path to one, or kubernetes; None: the one that fits."""
    host: str | None = None
    """``unix://``, ``tcp://`` or ``ssh://``."""
    context: str | None = None
    """The name of a Docker context or of a Podman connection, instead of ``host``."""
    tls: str | None = None
    """A directory with ca.pem, cert.pem and key.pem, for ``tcp://``."""
    ssh_key: str | None = None
    """The file of a private key that needs no passphrase."""
    namespace: str | None = None
    """Of Kubernetes; None is that of the context."""
    kubeconfig: str | None = None
    """The file that says where clusters are; None is kubectl's own."""
    pods: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What is asked of pods of Kubernetes: text by the keys of ``pod_options.OPTIONS``."""

    def __post_init__(self) -> None:
        if self.is_kubernetes:
            self._check_kubernetes()
            return
        if self.namespace is not None or self.kubeconfig is not None:
            raise ConfigError(
                "A namespace and a kubeconfig file are for Kubernetes.",
                hint="Set CLAUDE_MCP_ENGINE to kubernetes, or remove CLAUDE_MCP_ENGINE_NAMESPACE.",
            )
        if self.pods:
            option = next(each for each in pod_options.OPTIONS if each.key in self.pods)
            raise ConfigError(
                f"{option.key} is for Kubernetes.",
                hint=f"Set CLAUDE_MCP_ENGINE to kubernetes, or remove {option.variable}.",
            )
        if self.host is not None and self.context is not None:
            raise ConfigError(
                "An engine has a host or a context, not both.",
                hint="Remove one of CLAUDE_MCP_ENGINE_HOST and CLAUDE_MCP_ENGINE_CONTEXT.",
            )
        if self.context is not None and _NAME.fullmatch(self.context) is None:
            raise ConfigError(
                f"{self.context[:60]!r} is not the name of a Docker context or Podman connection.",
                hint="List them with 'docker context ls' or 'podman system connection list'.",
            )
        scheme = None if self.host is None else _checked(self.host).scheme
        if self.tls is not None and scheme != "tcp":
            raise ConfigError(
                "Certificates are for an engine at a tcp:// address.",
                hint="Set CLAUDE_MCP_ENGINE_HOST to it, or remove CLAUDE_MCP_ENGINE_TLS.",
            )

    def _check_kubernetes(self) -> None:
        if self.host is not None or self.tls is not None:
            raise ConfigError(
                "A cluster's address and certificates are in a kubeconfig file.",
                hint="Remove CLAUDE_MCP_ENGINE_HOST and CLAUDE_MCP_ENGINE_TLS, and set KUBECONFIG.",
            )
        if self.context is not None and not _CONTEXT.fullmatch(self.context):
            raise ConfigError(
                f"{self.context[:60]!r} is not the name of a context.",
                hint="List them with 'kubectl config get-contexts'.",
            )
        if self.namespace is not None and not _NAMESPACE.fullmatch(self.namespace):
            raise ConfigError(
                f"{self.namespace[:60]!r} is not the name of a namespace.",
                hint="It has at most 63 lower-case letters, digits and '-'.",
            )
        pod_options.parse(self.pods)

    @property
    def is_kubernetes(self) -> bool:
        return self.program == KUBERNETES

    @property
    def named(self) -> bool:
        """Whether this says where the engine is."""
        return self.host is not None or self.context is not None or self.is_kubernetes

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """``environment`` for processes of this engine; nothing else names one in it."""
        found = dict(environment)
        if self.named:
            naming = {name for names in VARIABLES.values() for name in names}
            found = {name: value for name, value in found.items() if name not in naming}
        if self.is_kubernetes:
            return found | self._kubernetes(environment)
        if self.host is not None:
            found |= {"DOCKER_HOST": self.host, "CONTAINER_HOST": self.host}
        if self.context is not None:
            found |= {"DOCKER_CONTEXT": self.context, "CONTAINER_CONNECTION": self.context}
        if self.tls is not None:
            found |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": self.tls}
        if self.ssh_key is not None:
            found[SSH_KEY] = self.ssh_key
        return found

    def _kubernetes(self, environment: Mapping[str, str]) -> dict[str, str]:
        kubeconfig = self.kubeconfig or environment.get(KUBECONFIG_VARIABLE)
        given = (
            (CONTEXT_VARIABLE, self.context),
            (NAMESPACE_VARIABLE, self.namespace),
            (KUBECONFIG_VARIABLE, kubeconfig),
        )
        found = {name: value for name, value in given if value is not None}
        return found | pod_options.variables(self.pods)


def _checked(host: str) -> SplitResult:
    shown = host[:100]
    try:
        url = urlsplit(host)
        port = url.port
    except ValueError as error:
        raise ConfigError(f"The engine's address is invalid: {error}.", hint=_EXAMPLES) from None
    if url.scheme not in SCHEMES:
        raise ConfigError(f"{shown!r} is not an address of an engine.", hint=_EXAMPLES)
    if url.password is not None:
        raise ConfigError(
            "The engine's address holds a password, which other programs could read.",
            hint="Use an ssh key: set CLAUDE_MCP_ENGINE_SSH_KEY, or start an ssh agent.",
        )
    if url.scheme == "unix":
        valid = not url.netloc and url.path.startswith("/") and url.path.isprintable()
    else:
        valid = _HOST.fullmatch(url.hostname or "") is not None and url.path.isprintable()
        valid = valid and (url.username is None or _USER.fullmatch(url.username) is not None)
        valid = valid and (url.scheme == "ssh" or port is not None)
    if not valid or url.fragment or " " in host:
        raise ConfigError(f"{shown!r} is not an address of an engine.", hint=_EXAMPLES)
    return url
