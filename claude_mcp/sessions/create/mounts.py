"""The further host paths of a new session: where they may come from, and where they may appear."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Final

from claude_mcp.config import Config
from claude_mcp.contract.places import HOST_HOOKS, PROXY_DIRECTORY, WORKSPACE
from claude_mcp.engine.spec import BindMount, ContainerSpec
from claude_mcp.errors import UsageError
from claude_mcp.sessions.create.request import Mount
from claude_mcp.sessions.paths import policy
from claude_mcp.sessions.paths.mounts import read_mounts
from claude_mcp.sessions.paths.protected import SYSTEM

KERNEL_PATHS: Final = ("/proc", "/sys", "/dev")
"""Nothing can be mounted below these; the agent's own directory is in /dev."""
OURS: Final = (PROXY_DIRECTORY, HOST_HOOKS)
"""Directories of the session that this program mounts."""
MOST_FILE_SYSTEMS: Final = 50
"""How many file systems may be mounted below a read-only mount."""


def bind_mounts(mounts: tuple[Mount, ...], config: Config) -> tuple[BindMount, ...]:
    """Check mounts.

    Raises:
        UsageError: a path is refused, or two mounts have the same path in the session.
    """
    bound = tuple(bind_mount(mount, config) for mount in mounts)
    targets = [mount.target for mount in bound]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"Two mounts have the same path in the session, {target!r}.")
    return bound


def file_systems_below(spec: ContainerSpec) -> dict[str, list[str]]:
    """The directories that a session may only read, and what is mounted below each of them."""
    known = read_mounts()
    return {
        mount.source: known.points_below(mount.source)
        for mount in spec.mounts
        if mount.read_only and os.path.isdir(mount.source)
    }


def with_file_systems_below(spec: ContainerSpec) -> tuple[BindMount, ...]:
    """The mounts of ``spec``, and a read-only one for each file system below a read-only one.

    An engine leaves out such a file system or makes it writable.

    Raises:
        UsageError: there are too many of them.
    """
    known = read_mounts()
    mounts = list(spec.mounts)
    for mount in spec.mounts:
        points = known.points_below(mount.source) if mount.read_only else []
        if len(points) > MOST_FILE_SYSTEMS:
            raise UsageError(
                f"{mount.source!r} cannot be mounted read-only: {len(points)} other file systems "
                f"are mounted below it, the first at {points[0]!r}.",
                hint="Mount the directories that the session needs, one by one.",
            )
        for point in points:
            target = PurePosixPath(mount.target, os.path.relpath(point, mount.source))
            # What the session has there is nearer than the mount.
            hidden = any(
                target.is_relative_to(each) and PurePosixPath(mount.target) in each.parents
                for each in spec.targets
            )
            if not hidden:
                mounts.append(BindMount(point, str(target)))
    return tuple(mounts)


def bind_mount(mount: Mount, config: Config) -> BindMount:
    """Check one mount; raises as ``bind_mounts`` does."""
    source = policy.mount_source(mount.host_path, config)
    # Two leading slashes mean the same as one, but not to pathlib.
    given = policy.absolute(mount.container_path, "A mount's path in the session")
    target = PurePosixPath(f"/{given.lstrip('/')}")
    if ".." in target.parts:
        raise UsageError(f"A mount's path in the session cannot contain '..', as {given!r} does.")
    in_kernel = any(map(target.is_relative_to, KERNEL_PATHS))
    hides_ours = any(
        target.is_relative_to(each) or PurePosixPath(each).is_relative_to(target) for each in OURS
    )
    if in_kernel or hides_ours or str(target) == WORKSPACE:
        raise UsageError(f"The session itself uses {given!r}; choose another path there.")
    return BindMount(source, str(target), mount.read_only)


def repository_refusal(config: Config, source: str, target: str) -> str | None:
    """Why a repository that a project names may not be mounted; None if it may."""
    try:
        bind_mount(Mount(source, target, read_only=False), config)
    except UsageError as error:
        return str(error)
    path = PurePosixPath(target)
    # A relative path in a `.git` file leads elsewhere in the session than on the host.
    hides_image = target != source and any(map(path.is_relative_to, SYSTEM))
    if hides_image or path.is_relative_to(WORKSPACE):
        return f"The session has other files at {target!r}, where the project's .git file leads."
    return None
