"""Limits on what a session may use of its host, and further hardening.

A limit comes from the request, or else from the configuration, or else from this machine's size.
A limit that the engine cannot set becomes a warning, because many hosts do not let rootless
engines set all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from claude_mcp.config import Config
from claude_mcp.contract.wording import named
from claude_mcp.engine import host
from claude_mcp.engine.dialects.dialect import ContainerUser, Dialect
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.info import EngineInfo
from claude_mcp.engine.names import runtime
from claude_mcp.engine.spec import ContainerSpec, Limits, TmpfsMount
from claude_mcp.errors import UsageError

KIB: Final = 1024
MIB: Final = KIB * KIB
GIB: Final = KIB * MIB

DEFAULT_PIDS: Final = 2048
LEAST_DEFAULT_MEMORY: Final = 2 * GIB
MINIMUM_MEMORY: Final = 256 * MIB
"""Claude Code alone needs about this much."""
MINIMUM_PIDS: Final = 64
MINIMUM_DISK: Final = 16 * MIB
MINIMUM_VOLUME: Final = 64 * MIB
MINIMUM_CPUS: Final = 0.01
DEFAULT_TMPFS_BYTES: Final = GIB
TMPFS_TARGETS: Final = ("/tmp", "/var/tmp")
"""What stays writable if the root file system is read-only; the home is then in /var/tmp."""
NO_LIMIT: Final = frozenset({"0", "none"})
TITLES: Final = {"memory": "memory", "cpus": "CPU", "pids": "processes", "disk": "disk"}

_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?(?:([kmgt])i?)?b?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Containment:
    """The fields of a container's specification that contain it, and warnings about them."""

    limits: Limits
    max_user_processes: int | None
    runtime: str | None
    read_only_root: bool
    tmpfs_mounts: tuple[TmpfsMount, ...]
    security_options: tuple[str, ...]
    warnings: tuple[str, ...]


async def info_for(
    engine: Engine,
    config: Config,
    wanted: Mapping[str, str],
    read_only_root: bool | None = None,
) -> EngineInfo | None:
    """What ``contain`` must know of the engine: one engine call per process, if it needs one.

    A rootless engine may silently ignore any limit, and any engine one on disk. A daemon of root
    warns of other limits by itself, so most sessions need no call.

    Raises:
        UsageError: as for ``contain``.
    """
    read_only = config.read_only_root if read_only_root is None else read_only_root
    disk = _limits(config, wanted).disk is not None and not read_only
    return await engine.info() if disk or engine.dialect.limits_need_delegation else None


def contain(
    config: Config,
    dialect: Dialect,
    wanted: Mapping[str, str],
    info: EngineInfo | None,
    *,
    read_only_root: bool | None = None,
    runtime_name: str | None = None,
) -> Containment:
    """The containment of a new session.

    ``wanted`` has the requested limits as text, by their names in ``Limits``. For other
    arguments, None means the configured value.

    Raises:
        UsageError: a limit cannot be parsed, or is too small to work with.
    """
    read_only = config.read_only_root if read_only_root is None else read_only_root
    asked = _limits(config, wanted)
    tmpfs_mounts: tuple[TmpfsMount, ...] = ()
    if read_only:
        # Only these are writable then, so their size is a disk limit on any storage driver.
        size = asked.disk or DEFAULT_TMPFS_BYTES
        tmpfs_mounts = tuple(TmpfsMount(target, size) for target in TMPFS_TARGETS)
        asked = replace(asked, disk=None)
    limits, max_user_processes, warnings = settable(dialect, asked, info)
    name = runtime_name or config.runtime
    return Containment(
        limits=limits,
        max_user_processes=max_user_processes,
        runtime=None if name is None else runtime(name),
        read_only_root=read_only,
        tmpfs_mounts=tmpfs_mounts,
        # SELinux would deny the session access to the project. The alternative, relabelling the
        # project's files, is slow and changes the user's files permanently.
        security_options=("label=disable",) if host.has_selinux() else (),
        warnings=warnings,
    )


def kept_bytes(config: Config, dialect: Dialect, wanted: str | None) -> int | None:
    """The size of a volume that keeps a session's files when its container ends; None for none.

    The configured one is left alone by an engine that keeps them anyway.

    Raises:
        UsageError: it is not a size, or the engine needs no volume.
    """
    what = "CLAUDE_MCP_PERSISTENT_VOLUME" if wanted is None else named("persistentVolume")
    text = wanted or config.persistent_volume
    size = None if text is None else _size(what, text, MINIMUM_VOLUME, "0 for none")
    if not dialect.keeps_files:
        return size
    if size is not None and wanted is not None:
        raise UsageError(
            f"{what} is for Kubernetes: on {dialect.title}, a session's files outlive its "
            "container's end anyway.",
            hint="Leave it out.",
        )
    return None


def described(containment: Containment) -> str:
    """The limits in one line, for people."""
    limits = containment.limits
    pids = limits.pids or containment.max_user_processes
    parts = [
        None if limits.memory is None else f"{limits.memory / GIB:.1f} GiB of memory",
        None if limits.cpus is None else f"{limits.cpus:g} CPUs",
        None if pids is None else f"{pids} processes",
        None if limits.disk is None else f"{limits.disk / GIB:.1f} GiB on disk",
    ]
    return ", ".join(part for part in parts if part) or "none"


def without(spec: ContainerSpec, limit: str) -> ContainerSpec:
    """The same container without the limit that the engine refused."""
    changed: Any = {limit: None}
    return replace(spec, limits=replace(spec.limits, **changed))


def cannot_set(dialect: Dialect, limit: str, reason: str) -> str:
    return f"{dialect.title} cannot limit this session's {TITLES[limit]} here: {reason}"


def check_configured(config: Config) -> None:
    """Raises UsageError if a configured limit cannot be used."""
    _asked(config, {})


def _limits(config: Config, wanted: Mapping[str, str]) -> Limits:
    limits = _asked(config, wanted)
    if config.limits_fixed:
        most = _asked(config, {})
        for name in wanted.keys() & config.limits.keys():
            bound, asked = getattr(most, name), getattr(limits, name)
            if bound is not None and (asked is None or asked > bound):
                raise UsageError(
                    f"{named(f'limits.{name}')} may be at most {config.limits[name]} with this "
                    "token.",
                    hint="Ask for less, or leave it out.",
                )
    return limits


def _asked(config: Config, wanted: Mapping[str, str]) -> Limits:
    given = {
        name: (f"CLAUDE_MCP_{name.upper()}", value) for name, value in config.limits.items()
    } | {name: (named(f"limits.{name}"), value) for name, value in wanted.items()}

    def size(name: str, least: int, default: int | None) -> int | None:
        return _size(*given[name], least) if name in given else default

    def number(name: str, least: float, default: float | None) -> float | None:
        return _number(*given[name], least) if name in given else default

    cpus = host.cpus()
    pids = number("pids", MINIMUM_PIDS, DEFAULT_PIDS)
    return Limits(
        # Half is enough for a build, and the host stays usable if a session takes all of it.
        memory=size("memory", MINIMUM_MEMORY, max(LEAST_DEFAULT_MEMORY, host.memory_bytes() // 2)),
        cpus=number("cpus", MINIMUM_CPUS, cpus - 1 if cpus > 2 else None),
        pids=None if pids is None else int(pids),
        disk=size("disk", MINIMUM_DISK, None),
    )


def settable(
    dialect: Dialect, limits: Limits, info: EngineInfo | None
) -> tuple[Limits, int | None, tuple[str, ...]]:
    """The limits that the engine can set, by what ``info_for`` gave.

    Returns also the bound that replaces the one on processes, and warnings about the rest.
    """
    if info is None:
        return limits, None, ()
    missing = [name for name in info.ignored_limits if getattr(limits, name) is not None]
    nothing: Any = dict.fromkeys(missing)
    processes = None
    # A user namespace that several containers share would be one limit for all of them.
    own_namespace = dialect.container_user is ContainerUser.KEEP_ID
    if "pids" in missing and own_namespace and host.counts_processes_by_namespace(info.kernel):
        missing.remove("pids")
        processes = limits.pids
    warnings = tuple(cannot_set(dialect, name, info.ignored_limits[name]) for name in missing)
    return replace(limits, **nothing), processes, warnings


def parse_size(text: str) -> int | None:
    """Bytes from a number with an optional k, m, g or t (powers of 1024); None if it is not one."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    number, unit = match.groups()
    return int(float(number) * KIB ** ("kmgt".index(unit.lower()) + 1 if unit else 0))


def _size(what: str, text: str, least: int, zero: str = "0 for no limit") -> int | None:
    if text.strip().lower() in NO_LIMIT:
        return None
    size = parse_size(text)
    if size is None:
        raise UsageError(f"{what} must be a size such as 512m or 4g, or {zero}.")
    if size < least:
        raise UsageError(f"{what} must be at least {least // MIB}m, or {zero}.")
    return size


def _number(what: str, text: str, least: float) -> float | None:
    if text.strip().lower() in NO_LIMIT:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if number == 0:
        return None
    if not least <= number < math.inf:
        raise UsageError(f"{what} must be a number, at least {least:g}, or 0 for no limit.")
    return number
