"""The further host paths of a new session: where they may come from, and where they may appear."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from claude_mcp.config import Config
from claude_mcp.contract.places import PROXY_DIRECTORY, WORKSPACE
from claude_mcp.engine.spec import BindMount
from claude_mcp.errors import UsageError
from claude_mcp.sessions.create.request import Mount
from claude_mcp.sessions.paths import policy

KERNEL_PATHS: Final = ("/proc", "/sys", "/dev")
"""Nothing can be mounted below these; the agent's own directory is in /dev."""


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


def bind_mount(mount: Mount, config: Config) -> BindMount:
    """Check one mount; raises as ``bind_mounts`` does."""
    source = policy.mount_source(mount.host_path, config)
    # Two leading slashes mean the same as one, but not to pathlib.
    given = policy.absolute(mount.container_path, "A mount's path in the session")
    target = PurePosixPath(f"/{given.lstrip('/')}")
    if ".." in target.parts:
        raise UsageError(f"A mount's path in the session cannot contain '..', as {given!r} does.")
    in_kernel = any(map(target.is_relative_to, KERNEL_PATHS))
    proxy = PurePosixPath(PROXY_DIRECTORY)
    hides_proxy = target.is_relative_to(proxy) or proxy.is_relative_to(target)
    if in_kernel or hides_proxy or str(target) == WORKSPACE:
        raise UsageError(f"The session itself uses {given!r}; choose another path there.")
    return BindMount(source, str(target), mount.read_only)
