"""What the engine made of a new session's container, compared with what was asked for.

The agent reports it before the session is complete. The report finds what an engine's
configuration changes in every container. It is no defence against an image, which may forge it.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from claude_mcp.contract import places
from claude_mcp.engine.failures import ELSEWHERE_HINT
from claude_mcp.engine.spec import ContainerSpec
from claude_mcp.errors import EngineError, UsageError
from claude_mcp.sessions import mounted
from claude_mcp.sessions.channel.answers import listed
from claude_mcp.sessions.mounted import Identity
from claude_mcp.sessions.paths import identity

ENGINES_MOUNTS: Final = frozenset(
    map(
        PurePosixPath,
        (
            "/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/etc/passwd", "/etc/group",
            "/etc/localtime",
            "/sbin/docker-init", "/usr/sbin/docker-init", "/run/podman-init", "/run/.containerenv",
            "/run/secrets",
        ),
    )
)  # fmt: skip
"""What engines mount into every container."""
ZONES: Final = PurePosixPath("/usr/share/zoneinfo")
"""Where ``/etc/localtime`` leads to, on which Podman mounts the time zone of its configuration."""
ENGINES_DEVICES: Final = frozenset(
    (
        "console", "core", "fd", "full", "init", "mqueue", "null", "ptmx", "pts", "random", "shm",
        "stderr", "stdin", "stdout", "termination-log", "tty", "urandom", "zero",
    )
)  # fmt: skip
"""The entries of /dev in every container."""
CONFIGURATION: Final = "containers.conf, daemon.json, a hook or a runtime"
ADDED: Final = f"The engine's configuration ({CONFIGURATION}) adds"
_MOUNT: Final = re.compile(r"(\d{1,20}):(\d{1,20}):(/.*)")


@dataclass(frozen=True, slots=True)
class Readiness:
    """The agent's report. What it left out is None or missing."""

    writable: bool
    missing: tuple[str, ...] = ()
    privileges: Mapping[str, int] = field(default_factory=dict)
    """By the names in ``places.PRIVILEGES``."""
    kernel: str | None = None
    mounts: Mapping[PurePosixPath, Identity] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    entries: frozenset[str] | None = None


def parse(report: str) -> Readiness:
    """Read what follows ``places.READY``. Whatever is malformed counts as left out."""
    access, *facts = report.split(" ")
    values: dict[str, list[str]] = {}
    for fact in facts:
        name, _, value = fact.partition("=")
        values.setdefault(name, []).append(value)
    mounts = filter(None, map(_MOUNT.fullmatch, values.get(places.MOUNT, ())))
    entries = values.get(places.ENTRIES)
    return Readiness(
        writable=access == "writable",
        missing=tuple(values.get(places.MISSING, ())),
        privileges={
            name: int(values[name][0], 16)
            for name in places.PRIVILEGES
            if name in values and re.fullmatch(r"[0-9a-f]{1,16}", values[name][0])
        },
        kernel=values[places.KERNEL][0] if places.KERNEL in values else None,
        # Of several mounts at one path, all have the identity of the latest.
        mounts={PurePosixPath(_path(match[3])): (int(match[1]), int(match[2])) for match in mounts},
        devices=tuple(map(_path, values.get(places.DEVICE, ()))),
        entries=None if entries is None else frozenset(filter(None, entries[0].split(","))),
    )


def check(
    readiness: Readiness, spec: ContainerSpec, checked: Mapping[str, Identity | None]
) -> tuple[str, ...]:
    """Compare a report with what was asked for; returns warnings.

    ``checked`` has the identities of the mounted host paths when they were checked.

    Raises:
        EngineError: the session has privileges.
        UsageError: the session sees other directories than those that were checked.
    """
    _check_privileges(readiness.privileges)
    _check_mounts(readiness, spec, checked)
    warnings = []
    if not readiness.writable:
        project = next(each.source for each in spec.mounts if each.target == places.WORKSPACE)
        warnings.append(f"Claude cannot write to the project directory: {_why_not(project)}.")
    # A runtime that is a kernel of its own has no boot id, and other devices and filters.
    if readiness.kernel is not None and spec.runtime is None:
        warnings += _unexpected(readiness, spec)
    return tuple(warnings)


def _why_not(project: str) -> str:
    try:
        if os.statvfs(project).f_flag & os.ST_RDONLY:
            return "it is on a read-only file system"
    except OSError:
        pass
    return "check its owner and mode"


def _check_privileges(privileges: Mapping[str, int]) -> None:
    found = []
    if privileges.get("CapEff") or privileges.get("CapBnd"):
        found.append("has capabilities")
    if privileges.get("NoNewPrivs") == 0:
        found.append("can gain privileges")
    if found:
        raise EngineError(
            f"The session {' and '.join(found)}, although it was created without.",
            hint=f"Correct the engine's configuration: {CONFIGURATION} gives them to it.",
        )


def _check_mounts(
    readiness: Readiness, spec: ContainerSpec, checked: Mapping[str, Identity | None]
) -> None:
    same_kernel = readiness.kernel is not None and readiness.kernel == mounted.boot_id()
    for mount in spec.mounts if same_kernel else ():
        seen, expected = readiness.mounts.get(PurePosixPath(mount.target)), checked[mount.source]
        # The same file system may have several device numbers.
        if seen is not None and expected is not None and seen[1] != expected[1]:
            if identity.identities([mount.source]) == [expected]:
                raise Elsewhere(mount.source)
            raise replaced()
    sources = (each.source for each in spec.mounts if each.target == places.WORKSPACE)
    if (project := next(sources, None)) is None:
        return  # the session has a clone or a copy
    seen = readiness.mounts.get(PurePosixPath(places.WORKSPACE))
    if (same_kernel and seen == checked[project]) or readiness.entries is None:
        return
    here = _entries(project)
    if here is not None and here != readiness.entries and here.isdisjoint(readiness.entries):
        raise Elsewhere(project)


def replaced() -> UsageError:
    return UsageError("A path to mount was replaced while it was being mounted; try again.")


class Elsewhere(UsageError):
    """The engine has other files at a path than we have."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"The engine has other files at {path} than this program.", hint=ELSEWHERE_HINT
        )
        self.path = path


def _entries(directory: str) -> frozenset[str] | None:
    """The sums of all names in a directory, as the agent computes them."""
    try:
        return frozenset(f"{zlib.crc32(name):x}" for name in os.listdir(os.fsencode(directory)))
    except OSError:
        return None


def _unexpected(readiness: Readiness, spec: ContainerSpec) -> Iterator[str]:
    if readiness.privileges.get("Seccomp") == 0:
        yield (
            "The engine applies no seccomp filter to this session. Look for seccomp_profile in "
            "containers.conf or seccomp-profile in daemon.json."
        )
    # A link in the image may lead to another path. The name at its end stays.
    names = {target.name for target in spec.targets}
    ours = [point for point in readiness.mounts if point.name in names]
    mounts = [
        str(point)
        for point in sorted(readiness.mounts)
        if point not in ENGINES_MOUNTS
        and not point.is_relative_to(ZONES)
        and not any(map(point.is_relative_to, ours))
    ]
    if mounts:
        yield f"{ADDED} mounts to this session: {listed(mounts)}."
    devices = sorted({*readiness.devices} - ENGINES_DEVICES)
    if devices:
        yield f"{ADDED} devices to this session: {listed([f'/dev/{name}' for name in devices])}."


def _path(escaped: str) -> str:
    """A name as the agent escapes it; see ``places.READY``."""
    try:
        return os.fsdecode(escaped.encode("ascii").decode("unicode_escape").encode("latin-1"))
    except ValueError:
        return escaped
