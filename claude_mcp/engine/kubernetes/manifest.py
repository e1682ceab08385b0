"""A container's specification as the description of a pod: a value in, a value out.

The pod meets the Pod Security Standard "restricted". It gets no token of a service account, ends at
once when it is removed, and is not moved to another node. The API server replaces ``$(NAME)`` in
commands and values, so each ``$`` is written twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from claude_mcp.engine.kubernetes import marks
from claude_mcp.engine.names import image_reference, key
from claude_mcp.engine.pod_options import PodOptions, Toleration
from claude_mcp.engine.spec import ContainerSpec, Limits

MAIN: Final = "main"
"""The name of the only container of a pod."""
REQUESTED_MEMORY: Final = 256 * 1024 * 1024
"""What the scheduler sets aside for a container: what Claude Code takes when it has little to do.
The limit is the most that it may take."""
REQUESTED_MILLICPUS: Final = 100

RESTARTS: Final[Mapping[str | None, str]] = {None: "Never", "on-failure": "OnFailure"}
"""The policy of a pod for what ``ContainerSpec.restart`` says."""
NO_OPTIONS: Final = PodOptions()

Manifest = dict[str, Any]


def literal(text: str) -> str:
    """A text in which the API server replaces nothing."""
    return text.replace("$", "$$")


def pod(
    spec: ContainerSpec, id: str, variables: Mapping[str, str], options: PodOptions = NO_OPTIONS
) -> Manifest:
    """The pod of a container. ``variables`` are public, as those of the specification are."""
    volumes, mounts = _directories(spec, marks.pod_name(id))
    environment = {**spec.environment, **variables, marks.ID_VARIABLE: id}
    labels = {key(name): value for name, value in spec.labels.items()}
    container: Manifest = {
        "name": MAIN,
        "image": image_reference(spec.image),
        "imagePullPolicy": options.pull_policy,
        "command": [literal(word) for word in spec.command],
        "env": [{"name": key(name), "value": literal(env)} for name, env in environment.items()],
        # The first start is attached to; then the input is at its end for good.
        "stdin": True,
        "stdinOnce": True,
        "resources": resources(spec.limits),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": spec.read_only_root,
        },
        "volumeMounts": mounts,
    }
    if spec.kept_bytes is not None:
        own = {"fieldRef": {"fieldPath": "metadata.uid"}}
        container["env"].append({"name": marks.UID_VARIABLE, "valueFrom": own})
    if spec.workdir is not None:
        container["workingDir"] = spec.workdir
    description: Manifest = {
        "restartPolicy": RESTARTS[spec.restart],
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # The pause process is then the pod's init: it reaps what loses its parent.
        "shareProcessNamespace": True,
        "securityContext": _security(spec),
        "containers": [container],
        "volumes": volumes,
    }
    if spec.runtime is not None:
        description["runtimeClassName"] = spec.runtime
    description |= _placement(options)
    if spec.traffic is not None and spec.traffic.to is not None:
        # It reaches no name server, and programs are to hear of that at once.
        description |= {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": marks.pod_name(id),
            "labels": {**options.labels}
            | {name: marks.label_value(value) for name, value in labels.items()}
            | {marks.OURS: "1", marks.ID: id, marks.SHORT: id[: marks.RANDOM_CHARS]},
            "annotations": labels
            | {marks.CONTAINER: spec.name, marks.LABELS: json.dumps([*labels])},
        },
        "spec": description,
    }


def _placement(options: PodOptions) -> Manifest:
    """Which nodes may run a pod, how it competes for them, and how they get its image."""
    wanted: Manifest = {
        "imagePullSecrets": [{"name": name} for name in options.pull_secrets],
        "nodeSelector": {**options.node_selector},
        "tolerations": [_toleration(each) for each in options.tolerations],
        "priorityClassName": options.priority_class,
    }
    return {name: value for name, value in wanted.items() if value}


def _toleration(toleration: Toleration) -> Manifest:
    found = {"key": toleration.key}
    if toleration.value is None:
        found["operator"] = "Exists"
    else:
        found |= {"operator": "Equal", "value": toleration.value}
    return found if toleration.effect is None else {**found, "effect": toleration.effect}


def _security(spec: ContainerSpec) -> Manifest:
    security: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    uid, _, gid = (spec.user or "").partition(":")
    if uid:
        security["runAsUser"] = int(uid)
    if gid:
        security["runAsGroup"] = int(gid)
    if gid and spec.kept_bytes is not None:
        # A volume is root's at first. A later pod leaves the modes of its files alone.
        security |= {"fsGroup": int(gid), "fsGroupChangePolicy": "OnRootMismatch"}
    return security


def resources(limits: Limits) -> Manifest:
    """Limits, and a part of them that the scheduler sets aside."""
    most: Manifest = {}
    requested: Manifest = {}
    if limits.memory is not None:
        most["memory"] = str(limits.memory)
    if limits.cpus is not None:
        most["cpu"] = f"{round(limits.cpus * 1000)}m"
    if limits.disk is not None:
        # What the node keeps for the container: its root file system, its directories, its logs.
        most["ephemeral-storage"] = requested["ephemeral-storage"] = str(limits.disk)
    memory = min(REQUESTED_MEMORY, limits.memory or REQUESTED_MEMORY)
    millicpus = min(REQUESTED_MILLICPUS, round((limits.cpus or 1.0) * 1000))
    requested |= {"memory": str(memory), "cpu": f"{millicpus}m"}
    return {"limits": most, "requests": requested}


def _directories(spec: ContainerSpec, claim: str) -> tuple[list[Manifest], list[Manifest]]:
    """Volumes of a pod, and where they are mounted; ``claim`` names that of a lasting volume."""
    volumes: list[Manifest] = []
    mounts: list[Manifest] = []
    lasts = spec.kept_bytes is not None and bool(spec.kept_directories)
    if lasts:
        volumes.append({"name": "kept", "persistentVolumeClaim": {"claimName": claim}})
    for number, target in enumerate(spec.kept_directories):
        if lasts:
            directory = target.strip("/").replace("/", "-")
            mounts.append({"name": "kept", "mountPath": target, "subPath": directory})
        else:
            volumes.append({"name": f"kept-{number}", "emptyDir": {}})
            mounts.append({"name": f"kept-{number}", "mountPath": target})
    for number, mount in enumerate(spec.tmpfs_mounts):
        memory = {"medium": "Memory", "sizeLimit": str(mount.size)}
        volumes.append({"name": f"memory-{number}", "emptyDir": memory})
        mounts.append({"name": f"memory-{number}", "mountPath": mount.target})
    return volumes, mounts
