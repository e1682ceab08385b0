"""Argv for every verb of the engine's command line: a frozen spec in, a tuple of strings out.

Pure functions. Every option has the form ``--name=value``, so that a value is never read as
an option; what stands alone (references to containers) was checked to begin with a letter or
a digit.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from claude_mcp.errors import UsageError

Argv = tuple[str, ...]

REFERENCE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
IMAGE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:/@-]{0,511}")
RUNTIME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
KEY: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,127}")

OOM_SCORE: Final = 500
"""When the host itself runs out of memory, the kernel looks for its victim in a session first."""

INSPECT_FORMAT: Final = (
    '{"id":{{json .ID}},"name":{{json .Name}},"created":{{json .Created}},'
    '"status":{{json .State.Status}},"exitCode":{{json .State.ExitCode}},'
    '"started":{{json .State.StartedAt}},'
    '"error":{{json .State.Error}},"image":{{json .Config.Image}},"labels":{{json .Config.Labels}}}'
)


@dataclass(frozen=True, slots=True)
class BindMount:
    """A host path made visible in the container; both paths absolute."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A named volume, which the engine makes when it is first used."""

    name: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """A directory in memory, open to every user of the container; programs in it may be run."""

    target: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may take of the host; None is no limit, sizes are bytes."""

    memory: int | None = None
    """Swap is not given on top of it."""
    cpus: float | None = None
    pids: int | None = None
    disk: int | None = None
    """Of what is written beside the mounts; few storage drivers can bound that."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything about a container that is fixed when it is created.

    ``environment`` holds values that may be seen by anyone who can ``inspect``;
    ``inherited`` names variables whose values the engine's program takes from its own
    environment, which keeps long ones out of argv.
    """

    name: str
    image: str
    command: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    inherited: tuple[str, ...] = ()
    mounts: tuple[BindMount, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    workdir: str | None = None
    user: str | None = None
    userns: str | None = None
    network: str | None = None
    """None is the engine's default; ``none`` is nothing but a loopback."""
    extra_hosts: tuple[str, ...] = ()
    restart: str | None = None
    """When the engine starts it again by itself, such as ``on-failure``."""
    limits: Limits = Limits()
    max_user_processes: int | None = None
    """RLIMIT_NPROC, for a container with a user namespace of its own."""
    runtime: str | None = None
    read_only_root: bool = False
    implicit_tmpfs: bool | None = None
    """Podman's option: whether a read-only root gets tmpfs mounts that were not asked for."""
    tmpfs_mounts: tuple[TmpfsMount, ...] = ()
    security_options: tuple[str, ...] = ()
    log_driver: str | None = None
    log_max_size: str | None = None
    http_proxy: bool | None = None
    """Podman's option: whether the container gets the proxies of the engine's environment."""


def reference(value: str) -> str:
    """A container's name or id, checked so that it cannot be an option."""
    if not REFERENCE.fullmatch(value):
        raise UsageError(f"{value[:80]!r} is not a container's name or id.")
    return value


def image_reference(value: str) -> str:
    if not IMAGE.fullmatch(value):
        raise UsageError(f"{value[:80]!r} is not an image's name.")
    return value


def runtime(value: str) -> str:
    """The name of a runtime that the engine's own configuration declares: a path would let
    whoever creates a session choose a program to be run on the host."""
    if not RUNTIME.fullmatch(value):
        raise UsageError(
            f"{value[:80]!r} is not a runtime's name.",
            hint="Declare the runtime in the engine's configuration and give its name there.",
        )
    return value


def _key(value: str) -> str:
    if not KEY.fullmatch(value):
        raise UsageError(f"{value[:80]!r} is not a usable key.")
    return value


def mount_value(mount: BindMount) -> str:
    """The value of ``--mount``: both engines read it as one line of CSV."""
    fields = ["type=bind", f"source={mount.source}", f"target={mount.target}"]
    if mount.read_only:
        fields.append("readonly")
    line = io.StringIO()
    # The writer quotes a line break in a path only if it is a part of its own line's end.
    csv.writer(line, lineterminator="\r\n").writerow(fields)
    return line.getvalue().removesuffix("\r\n")


def _volume_value(volume: VolumeMount) -> str:
    read_only = ",ro" if volume.read_only else ""
    return f"type=volume,source={reference(volume.name)},target={volume.target}{read_only}"


def _tmpfs_value(mount: TmpfsMount) -> str:
    # Docker alone would add noexec; Podman takes no owner, so the mode is what opens it.
    return f"{mount.target}:rw,exec,nosuid,nodev,mode=1777,size={mount.size}"


def _limit_options(limits: Limits) -> list[str]:
    options = [f"--oom-score-adj={OOM_SCORE}"]
    if limits.memory is not None:
        options += [f"--memory={limits.memory}", f"--memory-swap={limits.memory}"]
    if limits.cpus is not None:
        options.append(f"--cpus={limits.cpus:g}")
    if limits.pids is not None:
        options.append(f"--pids-limit={limits.pids}")
    if limits.disk is not None:
        options.append(f"--storage-opt=size={limits.disk}")
    return options


def create_argv(program: str, spec: ContainerSpec) -> Argv:
    argv = [program, "create", "--pull=never", f"--name={reference(spec.name)}"]
    # stdin must exist: the session's settings and secrets arrive on it.
    argv += ["--interactive", "--init"]
    argv += [f"--label={_key(key)}={value}" for key, value in spec.labels.items()]
    # What a session needs of the kernel is what an ordinary process needs: nothing more.
    argv += ["--cap-drop=ALL", "--security-opt=no-new-privileges"]
    argv += [f"--security-opt={option}" for option in spec.security_options]
    argv += _limit_options(spec.limits)
    if spec.max_user_processes is not None:
        argv.append(f"--ulimit=nproc={spec.max_user_processes}:{spec.max_user_processes}")
    if spec.runtime is not None:
        argv.append(f"--runtime={runtime(spec.runtime)}")
    if spec.read_only_root:
        argv.append("--read-only")
    if spec.implicit_tmpfs is not None:
        argv.append(f"--read-only-tmpfs={str(spec.implicit_tmpfs).lower()}")
    argv += [f"--tmpfs={_tmpfs_value(mount)}" for mount in spec.tmpfs_mounts]
    if spec.log_driver is not None:
        argv.append(f"--log-driver={spec.log_driver}")
    if spec.log_max_size is not None:
        argv.append(f"--log-opt=max-size={spec.log_max_size}")
    if spec.http_proxy is not None:
        argv.append(f"--http-proxy={str(spec.http_proxy).lower()}")
    if spec.userns is not None:
        argv.append(f"--userns={spec.userns}")
    if spec.user is not None:
        argv.append(f"--user={spec.user}")
    if spec.workdir is not None:
        argv.append(f"--workdir={spec.workdir}")
    if spec.network is not None:
        argv.append(f"--network={reference(spec.network)}")
    if spec.restart is not None:
        argv.append(f"--restart={spec.restart}")
    argv += [f"--add-host={host}" for host in spec.extra_hosts]
    argv += [f"--mount={mount_value(mount)}" for mount in spec.mounts]
    argv += [f"--mount={_volume_value(volume)}" for volume in spec.volumes]
    argv += [f"--env={_key(key)}={value}" for key, value in spec.environment.items()]
    argv += [f"--env={_key(key)}" for key in spec.inherited]
    argv.append("--entrypoint=")
    argv.append(image_reference(spec.image))
    return (*argv, *spec.command)


def start_attached_argv(program: str, ref: str) -> Argv:
    return (program, "start", "--attach", "--interactive", reference(ref))


def start_argv(program: str, ref: str) -> Argv:
    return (program, "start", reference(ref))


def remove_argv(program: str, ref: str) -> Argv:
    return (program, "rm", "--force", "--volumes", reference(ref))


def list_ids_argv(program: str, label: str, value: str | None = None) -> Argv:
    filtered = _key(label) if value is None else f"{_key(label)}={value}"
    return (program, "ps", "--all", "--quiet", "--no-trunc", f"--filter=label={filtered}")


def remove_volume_argv(program: str, name: str) -> Argv:
    return (program, "volume", "rm", reference(name))


def inspect_argv(program: str, refs: Sequence[str]) -> Argv:
    checked = (reference(ref) for ref in refs)
    return (program, "container", "inspect", f"--format={INSPECT_FORMAT}", *checked)


def exec_argv(program: str, ref: str, command: Sequence[str]) -> Argv:
    return (program, "exec", "--interactive", reference(ref), *command)


def logs_argv(program: str, ref: str, tail: int) -> Argv:
    return (program, "logs", "--timestamps", f"--tail={tail}", reference(ref))


def image_id_argv(program: str, image: str) -> Argv:
    return (program, "image", "inspect", "--format={{.Id}}", image_reference(image))


def copy_in_argv(program: str, ref: str, directory: str) -> Argv:
    """A tar archive on stdin is unpacked into ``directory``, an absolute path."""
    return (program, "cp", "-", f"{reference(ref)}:{directory}")


def copy_out_argv(program: str, ref: str, path: str, *, follow_link: bool) -> Argv:
    """A tar archive of ``path``, an absolute path, comes out on stdout."""
    options = ("--follow-link",) if follow_link else ()
    return (program, "cp", *options, f"{reference(ref)}:{path}", "-")


def version_argv(program: str) -> Argv:
    return (program, "version", "--format={{json .}}")
