"""Argv for the verbs of Docker's command line: a frozen spec in, a tuple of strings out.

Pure functions. Every option has the form ``--name=value``, so that no value is read as an
option. What stands alone was checked by ``names``. The verbs that only ask are in
``questions``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Final

from claude_mcp.engine.dialects.dialect import SHM_BYTES, Dialect
from claude_mcp.engine.environment import PROXIES
from claude_mcp.engine.names import image_reference, key, reference, runtime
from claude_mcp.engine.questions import Argv
from claude_mcp.engine.spec import BindMount, ContainerSpec, Limits, TmpfsMount, VolumeMount

OOM_SCORE: Final = 500
"""When the host runs out of memory, the kernel kills a session's processes first."""

IMAGES_FORMAT: Final = "{{.Repository}}\\t{{.Tag}}\\t{{.ID}}\\t{{.Size}}\\t{{.CreatedSince}}"
"""One image a line; both engines know these fields."""
DETACH_KEYS: Final = "ctrl-^,ctrl-@,ctrl-^"
"""Keys that nobody types: the engines' own default, Ctrl-P, belongs to the programs inside."""


def mount_value(dialect: Dialect, mount: BindMount) -> str:
    """The value of ``--mount``, which engines read as one line of CSV."""
    fields = ["type=bind", f"source={mount.source}", f"target={mount.target}"]
    if mount.read_only:
        fields.append("readonly")
        # Otherwise a file system that is mounted below it would be writable.
        fields += [dialect.mount_alone] if dialect.mount_alone else []
    line = io.StringIO()
    # The writer quotes a line break in a path only if its own line terminator contains it.
    csv.writer(line, lineterminator="\r\n").writerow(fields)
    return line.getvalue().removesuffix("\r\n")


def _volume_value(volume: VolumeMount) -> str:
    read_only = ",ro" if volume.read_only else ""
    return f"type=volume,source={reference(volume.name)},target={volume.target}{read_only}"


def _tmpfs_value(dialect: Dialect, spec: ContainerSpec, mount: TmpfsMount) -> str:
    # Docker adds noexec by default.
    value = f"{mount.target}:rw,exec,nosuid,nodev,mode=1777,size={mount.size}"
    if not mount.owned:
        return value
    # Where the directory exists already, runc gives the tmpfs its mode, but not its owner.
    uid, _, gid = (spec.user or "").partition(":")
    return f"{value},{dialect.tmpfs_owner_options.format(uid=uid, gid=gid)}"


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


def create_argv(program: str, dialect: Dialect, spec: ContainerSpec) -> Argv:
    argv = [program, "create", "--pull=never", f"--name={reference(spec.name)}"]
    # stdin must exist: settings and secrets arrive on it.
    argv += ["--interactive", "--init", *dialect.create_options]
    argv += [f"--label={key(name)}={value}" for name, value in spec.labels.items()]
    # An ordinary process needs no capabilities. An engine's configuration may give it all of them.
    argv += ["--privileged=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    argv += ["--ipc=private", f"--shm-size={SHM_BYTES}"]
    argv += [f"--security-opt={option}" for option in spec.security_options]
    argv += _limit_options(spec.limits)
    if spec.max_user_processes is not None:
        argv.append(f"--ulimit=nproc={spec.max_user_processes}:{spec.max_user_processes}")
    if spec.runtime is not None:
        argv.append(f"--runtime={runtime(spec.runtime)}")
    argv.append(f"--read-only={str(spec.read_only_root).lower()}")
    if spec.read_only_root:
        argv += dialect.read_only_options
    argv += [f"--tmpfs={_tmpfs_value(dialect, spec, mount)}" for mount in spec.tmpfs_mounts]
    if spec.log_max_size is not None:
        argv += [f"--log-driver={dialect.log_driver}", f"--log-opt=max-size={spec.log_max_size}"]
    if spec.userns is not None:
        argv.append(f"--userns={spec.userns}")
    if spec.user is not None:
        argv.append(f"--user={spec.user}")
    if spec.workdir is not None:
        argv.append(f"--workdir={spec.workdir}")
    network = dialect.default_network if spec.network is None else spec.network
    if network is not None:
        argv.append(f"--network={reference(network)}")
    if spec.network is None and spec.runtime is None:
        argv += dialect.network_options
    if spec.restart is not None:
        argv.append(f"--restart={spec.restart}")
    argv += [f"--add-host={host}" for host in spec.extra_hosts]
    argv += [f"--publish=127.0.0.1:{each.host_port}:{each.port}/tcp" for each in spec.ports]
    argv += [f"--mount={mount_value(dialect, mount)}" for mount in spec.mounts]
    argv += [f"--mount={_volume_value(volume)}" for volume in spec.volumes]
    argv += [f"--env={key(name)}={value}" for name, value in spec.environment.items()]
    argv += [f"--env={key(name)}" for name in spec.inherited]
    argv += [
        f"{dialect.unset_variable_option}={name}"
        for name in PROXIES
        if name not in spec.environment and name not in spec.inherited
    ]
    argv.append("--entrypoint=")
    argv.append(image_reference(spec.image))
    return (*argv, *spec.command)


def start_attached_argv(program: str, ref: str) -> Argv:
    return (program, "start", "--attach", "--interactive", reference(ref))


def start_argv(program: str, ref: str) -> Argv:
    return (program, "start", reference(ref))


def kill_argv(program: str, ref: str) -> Argv:
    return (program, "kill", reference(ref))


def remove_argv(program: str, ref: str) -> Argv:
    return (program, "rm", "--force", "--volumes", reference(ref))


def remove_volume_argv(program: str, name: str) -> Argv:
    return (program, "volume", "rm", reference(name))


def stats_argv(program: str, refs: Sequence[str]) -> Argv:
    checked = (reference(ref) for ref in refs)
    return (program, "stats", "--no-stream", "--no-trunc", "--format={{json .}}", *checked)


def exec_argv(program: str, ref: str, command: Sequence[str]) -> Argv:
    return (program, "exec", "--interactive", reference(ref), *command)


def exec_on_terminal_argv(
    program: str, ref: str, command: Sequence[str], variables: Mapping[str, str]
) -> Argv:
    """``exec`` on this process's terminal. The ``variables`` must hold no secret."""
    passed = (f"--env={name}={value}" for name, value in variables.items())
    return (
        *(program, "exec", "--interactive", "--tty", f"--detach-keys={DETACH_KEYS}", *passed),
        *(reference(ref), *command),
    )


def logs_argv(program: str, ref: str, tail: int) -> Argv:
    return (program, "logs", "--timestamps", f"--tail={tail}", reference(ref))


def follow_logs_argv(program: str, ref: str, tail: int) -> Argv:
    return (program, "logs", "--follow", "--timestamps", f"--tail={tail}", reference(ref))


def image_id_argv(program: str, image: str) -> Argv:
    return (program, "image", "inspect", "--format={{.Id}}", image_reference(image))


def images_argv(program: str, label: str) -> Argv:
    return (program, "images", f"--filter=label={label}", f"--format={IMAGES_FORMAT}")


def pull_argv(program: str, image: str) -> Argv:
    return (program, "pull", image_reference(image))


def run_in_image_argv(program: str, image: str, script: str) -> Argv:
    """A shell script in a container of its own, without a network, which is removed at its end."""
    options = ("--rm", "--network=none", "--pull=never", "--entrypoint=/bin/sh")
    return (program, "run", *options, image_reference(image), "-c", script)


def copy_in_argv(program: str, ref: str, directory: str) -> Argv:
    """Unpacks a tar archive on stdin into ``directory``, an absolute path."""
    return (program, "cp", "-", f"{reference(ref)}:{directory}")


def copy_out_argv(program: str, dialect: Dialect, ref: str, path: str) -> Argv:
    """Writes a tar archive of ``path``, an absolute path, to stdout."""
    return (program, "cp", *dialect.copy_out_options, f"{reference(ref)}:{path}", "-")
