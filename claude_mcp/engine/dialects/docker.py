"""Docker: with a daemon of root, rootless, and Docker Desktop."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from claude_mcp.engine.dialects.dialect import ContainerUser, Dialect

DOCKER: Final = Dialect(
    name="docker",
    title="Docker",
    minimum_version=(20, 10),  # the first with `create --pull`
    rootless=False,
    in_virtual_machine=False,
    over_network=False,
    container_user=ContainerUser.SAME,
    host_alias="host.docker.internal",
    # On Linux, Docker does not define the alias by itself.
    extra_hosts=("host.docker.internal:host-gateway",),
    alias_reaches_host=True,
    own_addresses_reach_host=True,
    bind_mounts=True,
    mount_alone="bind-recursive=disabled",
    archive_copies=True,
    environment_carries_code=True,
    keeps_files=True,
    exit_file=None,
    companions=True,
    network_policies=False,
    reads_containers_conf=False,
    # Warns of each limit that it cannot set.
    limits_need_delegation=False,
    create_options=(),
    # Without a value: that of our own environment, which has none.
    unset_variable_option="--env",
    read_only_options=(),
    tmpfs_owner_options="uid={uid},gid={gid}",
    default_network=None,
    network_options=(),
    log_driver="json-file",
    copy_out_options=("--follow-link",),
    daemon=True,
    locks_storage=False,
    daemon_unpacks=True,
    tells_of_disappeared=True,
    spools_archives=False,
)
MOUNT_ALONE_BEFORE_25: Final = "bind-nonrecursive"
"""``mount_alone`` for older clients; version 29 no longer takes it."""
ROOTLESS_DOCKER: Final = replace(
    DOCKER,
    rootless=True,
    mount_alone=None,
    container_user=ContainerUser.ROOT,
    # It leads into the network namespace of RootlessKit.
    alias_reaches_host=False,
    limits_need_delegation=True,
)
DOCKER_DESKTOP: Final = replace(DOCKER, in_virtual_machine=True)
