"""Turns the stderr of ``kubectl`` into typed errors.

As in ``engine.failures``: a failure gets a type only if kubectl's own wording matches.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from claude_mcp.engine.engine import (
    ContainerNameInUse,
    ContainerNotFound,
    ContainerNotRunning,
    ProcessLimitReached,
)
from claude_mcp.engine.failures import PROCESS_LIMIT, last_line
from claude_mcp.engine.kubernetes.argv import OTHER_POD
from claude_mcp.errors import EngineError, EngineUnavailable, ImageNotFound, ImageUnfit

TITLE: Final = "Kubernetes"
NO_REASON: Final = "Error from server: "


class Rule(NamedTuple):
    kind: type[EngineError]
    pattern: re.Pattern[str]
    hint: str | None = None
    says: str | None = None
    """Instead of kubectl's words, where they mislead."""


def _rule(
    kind: type[EngineError], pattern: str, hint: str | None = None, says: str | None = None
) -> Rule:
    return Rule(kind, re.compile(pattern, re.IGNORECASE), hint, says)


_RIGHTS: Final = (
    "The user of this context lacks a right in this namespace. Let its administrator apply the "
    "Role of docs/kubernetes.md, or choose another context or namespace."
)
_CONTEXT: Final = (
    "List the contexts with 'kubectl config get-contexts'. Correct CLAUDE_MCP_ENGINE_CONTEXT, the "
    "engine's context in the configuration file, or KUBECONFIG."
)
RULES: Final = (
    _rule(ContainerNotFound, rf'pods "[^"]*" not found|{re.escape(OTHER_POD)}'),
    _rule(ContainerNameInUse, r'(pods|persistentvolumeclaims) "[^"]*" already exists'),
    _rule(
        EngineError,
        r"exceeded quota",
        "The namespace's quota is used up: destroy sessions, ask for smaller limits, or let its "
        "administrator raise the quota.",
    ),
    _rule(
        EngineError,
        r"violates PodSecurity|PodSecurityPolicy|admission webhook \S+ denied",
        "A policy of the cluster refuses the session's pod. Ask its administrator.",
    ),
    _rule(EngineError, r"\(Forbidden\)|is forbidden:", _RIGHTS),
    _rule(
        EngineUnavailable,
        r"certificate has expired or is not yet valid",
        "Compare the clocks of both machines, or renew the certificate.",
    ),
    _rule(
        EngineUnavailable,
        r"getting credentials: exec: executable \S+ not found",
        "Install this program, or add its directory to the PATH that claude-mcp is started with; "
        "a desktop application often has a shorter PATH than your shell.",
    ),
    _rule(
        EngineUnavailable,
        # It asked for a name and a password.
        r"(?m)^error: EOF$",
        "Log in to the cluster, or correct the context's user in the kubeconfig file.",
        says="the kubeconfig file has no credentials for this context.",
    ),
    _rule(
        EngineUnavailable,
        r"\(Unauthorized\)|must be logged in|provide credentials|getting credentials: exec",
        "The credentials in the kubeconfig file have expired or are wrong. Log in to the cluster "
        "again.",
    ),
    _rule(
        EngineUnavailable,
        r'context "[^"]*" does not exist|no context exists with the name|context was not found'
        r"|no configuration has been provided|invalid configuration|error loading config file"
        r'|stat \S+: no such file or directory|cluster "[^"]*" does not exist',
        _CONTEXT,
    ),
    _rule(
        EngineUnavailable,
        r"x509: |tls: ",
        "Correct the certificate authority, the user's certificate and key, or the cluster's "
        "address in the kubeconfig file.",
    ),
    _rule(
        EngineUnavailable,
        r"error dialing backend",
        "The session's node may be down or restarting. Its sessions go on if it comes back before "
        "Kubernetes gives it up, after 5 minutes by default; then they are gone with their files.",
    ),
    _rule(
        EngineUnavailable,
        # kubectl's own default, at which no cluster of today listens.
        r"connection to the server localhost:8080 was refused",
        "Set KUBECONFIG, or the engine's kubeconfig in the configuration file, to the file that "
        "describes your cluster. If it has no current context, name one with "
        "CLAUDE_MCP_ENGINE_CONTEXT.",
        says="there is no kubeconfig file with a current context.",
    ),
    _rule(
        EngineUnavailable,
        r"rejected our request for an unknown reason",
        "Check that the cluster's address in the kubeconfig file is right and begins with "
        "https://.",
    ),
    _rule(
        EngineUnavailable,
        r"connection to the server \S+ was refused|connection refused|connection reset"
        r"|no such host|i/o timeout|TLS handshake timeout|network is unreachable|no route to host"
        r"|unable to connect to the server|http2: client connection|etcdserver: |ServiceUnavailable"
        r"|the server is currently unable|unexpected EOF|apiserver not ready",
        "Check that the cluster runs and that its address in the kubeconfig file is right.",
    ),
    _rule(
        ContainerNotRunning,
        r"container not found|container \S+ in pod \S+ is not available"
        r"|container \S+ is not running|is waiting to start"
        r"|not created or running|cannot exec into a container in a completed pod"
        r"|cannot exec in a stopped|pod is not running"
        r"|current phase is (Succeeded|Failed)|cannot attach a container in a completed pod"
        r"|does not have a host assigned|unable to upgrade connection: container|task \S+ not found"
        r"|failed to load task|container is in \S+ state|process has finished|no running task",
    ),
    _rule(ProcessLimitReached, PROCESS_LIMIT.pattern),
    _rule(ImageUnfit, r"executable file not found|exec: \S+: no such file"),
    _rule(
        EngineError,
        r"namespaces? \"[^\"]*\" not found",
        "Create the namespace, or correct CLAUDE_MCP_ENGINE_NAMESPACE.",
    ),
    _rule(
        EngineError,
        r'RuntimeClass\S* "[^"]*" not found|runtimeclass\S* \S+ not found',
        "Ask the cluster's administrator for a RuntimeClass of this name, or choose another "
        "runtime.",
    ),
    _rule(
        EngineError,
        r"metrics API not available|metrics not available|metrics\.k8s\.io",
        "The cluster has no metrics server, which measures pods.",
    ),
)
"""The first that fits decides."""
_NOISE: Final = re.compile(
    r"If you don't see a command prompt|Defaulted container|warning: |W\d{4} |I\d{4} "
)


def classify(tried: str, stderr: str) -> EngineError:
    """The error for a failed call. ``tried`` completes "Kubernetes could not ..."."""
    said = "\n".join(line for line in stderr.splitlines() if not _NOISE.match(line.strip()))
    for rule in RULES:
        if rule.pattern.search(said):
            line = rule.says or _words(last_line(said, rule.pattern))
            if rule.kind is EngineUnavailable:
                return EngineUnavailable(f"{TITLE} cannot be reached: {line}", hint=rule.hint)
            if rule.kind is ContainerNotFound:
                return ContainerNotFound(f"{TITLE} could not {tried}: its pod no longer exists.")
            return rule.kind(f"{TITLE} could not {tried}: {line}", hint=rule.hint)
    return EngineError(f"{TITLE} could not {tried}: {_words(last_line(said))}")


def _words(line: str) -> str:
    """kubectl's sentence without what it begins with."""
    return re.sub(
        r"^(Error from server( \(\w+\))?: |error: |Unable to connect to the server: )+", "", line
    )


_STUCK: Final = {
    "ErrImageNeverPull": "Import the image on the nodes.",
    "InvalidImageName": "Correct the image's name.",
    "CreateContainerConfigError": "A policy of the cluster, or the image, does not let the session "
    "run as an ordinary user.",
    "Unschedulable": "No node has room for the session: ask for smaller limits, destroy sessions, "
    "or add a node.",
}
_IMAGE_REASONS: Final = (
    "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName",
    "ImageInspectError", "RegistryUnavailable",
)  # fmt: skip
_PULL_HINT: Final = (
    "Push the image to a registry that the nodes can pull from, and give its whole name; or import "
    "it on the nodes."
)


_VOLUME: Final = re.compile(r"persistent ?volume", re.IGNORECASE)
_VOLUME_HINT: Final = (
    "The cluster has no volume for the session: correct storage_class "
    "(CLAUDE_MCP_KUBERNETES_STORAGE_CLASS), ask for another size, or ask its administrator."
)


def lacks_volume(message: str) -> bool:
    """Whether a pod that is not placed waits for its volume."""
    return _VOLUME.search(message) is not None


def stuck(image: str, tried: str, reason: str, message: str) -> EngineError:
    """The error of a pod that will not start, by the reason that Kubernetes gives."""
    said = last_line(message) if message else f"{reason}."
    if reason in _IMAGE_REASONS:
        return ImageNotFound(
            f"{TITLE} cannot get image {image}: {reason}: {said}",
            hint=_STUCK.get(reason, _PULL_HINT),
        )
    hint = _VOLUME_HINT if lacks_volume(message) else _STUCK.get(reason)
    return EngineError(f"{TITLE} could not {tried}: {reason}: {said}", hint=hint)
