"""Kubernetes: a container is the only one of a pod."""

from __future__ import annotations

from typing import Final

from claude_mcp.engine.dialects.dialect import ContainerUser, Dialect

KUBERNETES: Final = Dialect(
    name="kubernetes",
    title="Kubernetes",
    minimum_version=(1, 20),  # the oldest that the tests ran on
    rootless=False,
    in_virtual_machine=False,
    over_network=True,
    container_user=ContainerUser.APART,
    host_alias="host.claude-mcp.invalid",  # a pod has no name for our machine
    extra_hosts=(),
    alias_reaches_host=False,
    own_addresses_reach_host=True,
    bind_mounts=False,
    mount_alone=None,
    archive_copies=True,
    # A pod's description is kept in the cluster's database and can be at most 1.5 MB.
    environment_carries_code=False,
    keeps_files=False,
    exit_file="/dev/termination-log",
    companions=False,
    network_policies=True,
    reads_containers_conf=False,
    # Its ``info`` says which limits a pod has no field for.
    limits_need_delegation=True,
    create_options=(),
    network_options=(),
    unset_variable_option="",
    read_only_options=(),
    tmpfs_owner_options="",
    default_network=None,
    log_driver="",
    copy_out_options=(),
    daemon=True,
    locks_storage=False,
    daemon_unpacks=False,
    tells_of_disappeared=True,
    spools_archives=False,
)
