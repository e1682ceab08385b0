"""What a container is, as frozen values; ``names`` checks what names something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class BindMount:
    """A host path made visible in the container. Both paths are absolute.

    A file system that is mounted below a read-only one needs a mount of its own: engines either
    leave it out or make it writable.
    """

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A named volume. The engine creates it when it is first used."""

    name: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """A directory in memory, whose programs may run. It is empty at every start."""

    target: str
    size: int
    """Bytes."""
    owned: bool = False
    """It belongs to the container's user; otherwise, every user may write there."""


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A TCP port of the container that the engine publishes on the host's loopback."""

    host_port: int
    port: int


@dataclass(frozen=True, slots=True)
class Peers:
    """Containers that have a label of this value, and their TCP ports or ours."""

    label: str
    value: str
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The connections that a container may have, on an engine with ``network_policies``."""

    to: Peers | None
    """None is everything that the container's network reaches."""
    from_: Peers | None
    """None is nobody."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may take of its host. None is no limit; sizes are bytes."""

    memory: int | None = None
    """Memory and swap together."""
    cpus: float | None = None
    pids: int | None = None
    disk: int | None = None
    """What is written outside of mounts. Few storage drivers can bound it."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything about a container that is fixed when it is created.

    Everybody who can ``inspect`` sees the values in ``environment``. ``inherited`` names
    variables whose values the engine's program takes from its own environment, which keeps long
    values out of argv.
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
    """None is the engine's default network; ``none`` leaves only a loopback interface."""
    traffic: Traffic | None = None
    """None does not limit it."""
    extra_hosts: tuple[str, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    restart: str | None = None
    """When the engine restarts it by itself, such as ``on-failure``."""
    limits: Limits = Limits()
    max_user_processes: int | None = None
    """RLIMIT_NPROC, for a container with a user namespace of its own."""
    runtime: str | None = None
    read_only_root: bool = False
    tmpfs_mounts: tuple[TmpfsMount, ...] = ()
    kept_directories: tuple[str, ...] = ()
    """Directories that are there again after a restart, for an engine that does not keep all."""
    kept_bytes: int | None = None
    """The size of a volume for them that outlives the container; None if they end with it."""
    security_options: tuple[str, ...] = ()
    log_max_size: str | None = None
    """Upper bound on one log file, such as ``10m``. None leaves the log as the engine keeps it."""

    @property
    def targets(self) -> tuple[PurePosixPath, ...]:
        """Where something is mounted in the container."""
        kinds = (self.mounts, self.volumes, self.tmpfs_mounts)
        mounted = [each.target for mounts in kinds for each in mounts]
        return tuple(map(PurePosixPath, (*mounted, *self.kept_directories)))
