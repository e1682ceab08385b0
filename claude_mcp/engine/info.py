"""What an engine says of itself and of the machine that it runs on.

The engine is asked: it may run on another machine or as another user, and it knows best which
limits it can set. Our own machine and user say nothing about it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from claude_mcp.errors import EngineError

UNDELEGATED: Final = (
    "its cgroup controller is not delegated to your user. With systemd and cgroup version 2, set "
    "'Delegate=cpu memory pids' in user@.service."
)
NO_CONTROLLER: Final = "the engine's machine has no cgroup controller for it."
IMAGE_STORE: Final = "the containerd image store ignores this limit."
REMOTE_DISK: Final = "a remote Podman ignores this limit."

UNCONFINED: Final = "name=seccomp,profile=unconfined"
_SNAPSHOTTER: Final = ["driver-type", "io.containerd.snapshotter.v1"]
_DOCKER_FIELDS: Final = {"memory": "MemoryLimit", "cpus": "CpuCfsQuota", "pids": "PidsLimit"}
_PODMAN_CONTROLLERS: Final = {"memory": "memory", "cpus": "cpu", "pids": "pids"}


@dataclass(frozen=True, slots=True)
class EngineInfo:
    rootless: bool
    kernel: str
    """Release of the engine's kernel."""
    ignored_limits: Mapping[str, str]
    """The fields of ``Limits`` that the engine would silently not set, each with the reason."""
    unconfined: bool = False
    """Its configuration gives containers no seccomp filter."""
    memory_bytes: int | None = None
    """Of the engine's machine; None if it does not say."""
    remapped: bool = False
    """The users of its containers are others on its machine (``userns-remap``)."""


def parse_info(stdout: str) -> EngineInfo:
    """Read the output of ``info --format={{json .}}`` of Docker or Podman.

    Raises:
        EngineError: it is malformed.
    """
    try:
        answer: Any = json.loads(stdout)
        return _podman(answer["host"]) if "host" in answer else _docker(answer)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise EngineError(f"The engine's answer to info is malformed: {stdout[:200]!r}.") from error


def _docker(answer: Mapping[str, Any]) -> EngineInfo:
    options = answer.get("SecurityOptions") or ()
    rootless = "name=rootless" in options
    ignored = _reasons(rootless, [name for name, key in _DOCKER_FIELDS.items() if not answer[key]])
    if _SNAPSHOTTER in (answer.get("DriverStatus") or ()):
        ignored["disk"] = IMAGE_STORE
    unconfined = UNCONFINED in options
    kernel = str(answer["KernelVersion"])
    memory, remapped = _positive(answer.get("MemTotal")), "name=userns" in options
    return EngineInfo(rootless, kernel, ignored, unconfined, memory, remapped)


def _podman(host: Mapping[str, Any]) -> EngineInfo:
    rootless = bool(host["security"]["rootless"])
    controllers = host.get("cgroupControllers") or ()
    missing = [name for name, each in _PODMAN_CONTROLLERS.items() if each not in controllers]
    ignored = _reasons(rootless, missing)
    if host.get("serviceIsRemote"):
        ignored["disk"] = REMOTE_DISK
    memory = _positive(host.get("memTotal"))
    return EngineInfo(rootless, str(host["kernel"]), ignored, memory_bytes=memory)


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _reasons(rootless: bool, missing: list[str]) -> dict[str, str]:
    return dict.fromkeys(missing, UNDELEGATED if rootless else NO_CONTROLLER)
