"""Podman: as root and rootless, as a program of its own or as the client of a service."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from claude_mcp.engine.dialects.dialect import SHM_BYTES, ContainerUser, Dialect

_OPTIONS: Final = (
    "--pid=private",
    "--uts=private",
    "--umask=0022",
    "--no-hosts=false",
)
# The bridge's hardware address is that of one of its containers, and changes when that one ends.
# Nobody tells the others: a container that still used the old address had no network for up to
# 71 s (measured with netavark 1.4; the bridge of 1.14 is the same). With these settings it asks for
# the address again within a second.
_NEIGHBOUR: Final = "--sysctl=net.ipv4.neigh.eth0"
_BRIDGE_OPTIONS: Final = (
    f"{_NEIGHBOUR}.base_reachable_time_ms=1000",
    f"{_NEIGHBOUR}.delay_first_probe_time=0",
    f"{_NEIGHBOUR}.ucast_solicit=1",
    f"{_NEIGHBOUR}.retrans_time_ms=200",
)
PODMAN: Final = Dialect(
    name="podman",
    title="Podman",
    minimum_version=(4, 3),  # the oldest that the tests ran on
    rootless=False,
    in_virtual_machine=False,
    over_network=False,
    container_user=ContainerUser.SAME,
    host_alias="host.containers.internal",
    extra_hosts=(),
    alias_reaches_host=True,
    own_addresses_reach_host=True,
    bind_mounts=True,
    mount_alone="bind-nonrecursive",
    archive_copies=True,
    environment_carries_code=True,
    keeps_files=True,
    exit_file=None,
    companions=True,
    network_policies=False,
    reads_containers_conf=True,
    limits_need_delegation=False,
    # containers.conf can change the default of each. By default, containers also inherit the
    # proxies in Podman's environment. Those may hold a password; what is configured reaches a
    # session on the agent's stdin.
    create_options=("--http-proxy=false", "--env-host=false", *_OPTIONS),
    unset_variable_option="--unsetenv",
    # By default, a read-only root gets tmpfs mounts of unbounded size. Without these, Podman 5
    # makes /dev/shm read-only too.
    read_only_options=(
        "--read-only-tmpfs=false",
        f"--tmpfs=/dev/shm:rw,nosuid,nodev,mode=1777,size={SHM_BYTES}",
    ),
    tmpfs_owner_options="U,notmpcopyup",
    default_network="private",
    network_options=_BRIDGE_OPTIONS,
    log_driver="k8s-file",
    copy_out_options=(),
    daemon=False,
    locks_storage=True,  # a service too
    daemon_unpacks=False,
    tells_of_disappeared=True,
    spools_archives=True,  # measured with 4.3.1
)
ROOTLESS_PODMAN: Final = replace(
    PODMAN,
    rootless=True,
    mount_alone=None,
    container_user=ContainerUser.KEEP_ID,
    # pasta, which Podman 5 uses, gives containers the addresses of the host.
    own_addresses_reach_host=False,
    network_options=(),  # no bridge
    limits_need_delegation=True,
)
# The client of a service does not know the options that are about its own environment.
REMOTE_PODMAN: Final = replace(
    PODMAN,
    create_options=_OPTIONS,
    reads_containers_conf=False,
    daemon=True,
    tells_of_disappeared=False,  # the service writes it to its own log; measured with 4.3.1
)
REMOTE_ROOTLESS_PODMAN: Final = replace(
    ROOTLESS_PODMAN,
    create_options=_OPTIONS,
    reads_containers_conf=False,
    daemon=True,
    tells_of_disappeared=False,
    # Our machine may be another one than the service's.
    own_addresses_reach_host=True,
)
