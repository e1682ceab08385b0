"""How engines differ, as data.

``Dialect`` has no default values: whoever adds a field must answer it for every engine. The rest
of the program asks for a field and never compares an engine's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, assert_never

SHM_BYTES: Final = 64 * 1024 * 1024
"""The size of /dev/shm, where the agent keeps its files; both engines' own default."""


class ContainerUser(Enum):
    """Which user of a container can own files that belong to a given user of the host."""

    SAME = auto()
    """Users of the container are users of the host."""
    KEEP_ID = auto()
    """The engine can map its own user of the host onto itself."""
    ROOT = auto()
    """The engine's own user of the host is root in the container."""
    APART = auto()
    """No file of the host is seen in a container, so any user will do that is not root."""


APART_USER: Final = 1000
"""The user and the group of a container if those of the host are root's."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of engine: what it can do, and which options it needs."""

    name: str
    """For results, such as ``docker``. Never compare it: ask for one of the fields below."""
    title: str
    """For messages, such as ``Docker``."""
    minimum_version: tuple[int, int]

    rootless: bool
    """The engine runs as an ordinary user of the host."""
    in_virtual_machine: bool
    """The engine runs in a virtual machine that shares the host's loopback, as Docker Desktop
    does."""
    over_network: bool
    """It is reached over a network: its loopback is not ours, and the connection may be cut."""
    container_user: ContainerUser
    host_alias: str
    """The name by which a container reaches the host."""
    extra_hosts: tuple[str, ...]
    """``--add-host`` values without which a container does not know ``host_alias``."""
    alias_reaches_host: bool
    """``host_alias`` leads to the machine that the engine runs on."""
    own_addresses_reach_host: bool
    """The addresses of that machine lead to it, and not back into the container."""

    bind_mounts: bool
    """A container can see a directory of the host."""
    mount_alone: str | None
    """The field of ``--mount`` that leaves out the file systems mounted below a directory. None for
    an engine in a user namespace: the kernel lets it mount a directory only as a whole."""
    archive_copies: bool
    """Tar archives can be copied into and out of a container."""
    environment_carries_code: bool
    """The description of a container may hold the agent's code. Otherwise the code is written to
    the container's stdin at its first start."""
    keeps_files: bool
    """The files of a container that has ended are still there, and the container can be started
    again. Otherwise only its ``kept_directories`` outlive its main process, as long as the engine
    starts that again by itself."""
    exit_file: str | None
    """The file in which a container leaves its exit code before it ends with 0, because the engine
    starts one again that ends with another code. None if the engine does not."""
    companions: bool
    """A container can be created without a network, and containers can share a volume. So a
    session's proxy and its published ports are containers beside it. Otherwise, its ports are open
    here alone, and lead to it through ``exec``."""
    network_policies: bool
    """Every container has an address in a network of all, and the engine limits its ``traffic`` if
    its network enforces that. A session reaches its proxy by address."""
    reads_containers_conf: bool
    """``containers.conf`` of this machine may change every container."""
    limits_need_delegation: bool
    """The engine can set only the limits whose cgroup controllers are delegated to its user. It
    ignores the others or fails to start the container: ask its ``info`` which they are."""

    create_options: tuple[str, ...]
    """Options that every container needs at ``create``."""
    unset_variable_option: str
    """The option of ``create`` that removes a variable, whoever defined it."""
    read_only_options: tuple[str, ...]
    """Options that a container with a read-only root needs at ``create``."""
    tmpfs_owner_options: str
    """Options of a tmpfs that make it empty and the container's user its owner; ``{uid}`` and
    ``{gid}`` stand for that user."""
    default_network: str | None
    """The value of ``--network`` for the engine's own network; None if it needs no option."""
    network_options: tuple[str, ...]
    """Options that a container on that network needs at ``create``, unless another runtime than the
    engine's own makes its network."""
    log_driver: str
    """A driver that ``logs`` can read on every host and whose files can be bounded in size."""
    copy_out_options: tuple[str, ...]
    """Options of ``cp`` that make it copy the target of a symbolic link, not the link."""
    daemon: bool
    """A daemon does the work, and may hang."""
    locks_storage: bool
    """A command may wait for another one that has locked the engine's storage, as a pull does while
    it unpacks a layer."""
    daemon_unpacks: bool
    """A daemon unpacks what is copied in. It goes on when ``cp`` is killed, and recreates a
    directory that was removed meanwhile."""
    tells_of_disappeared: bool
    """``cp`` of a container that is removed meanwhile fails, or says that files are missing."""
    spools_archives: bool
    """``cp -`` writes its stdin to a file below TMPDIR and leaves it there."""

    def user_options(self, uid: int, gid: int) -> dict[str, str]:
        """``user`` and ``userns`` of a container whose files belong to uid:gid on the host."""
        match self.container_user:
            case ContainerUser.SAME:
                # A daemon or a configuration may remap the users of all containers.
                return {"user": f"{uid}:{gid}", "userns": "host"}
            case ContainerUser.KEEP_ID:
                return {"userns": "keep-id"}
            case ContainerUser.ROOT:
                return {"user": "0:0"}
            case ContainerUser.APART:
                return {"user": f"{uid or APART_USER}:{gid or APART_USER}"}
            case unknown:
                assert_never(unknown)
