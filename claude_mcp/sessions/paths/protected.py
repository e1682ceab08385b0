"""Host paths that no session may have."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from claude_mcp.config import Config
from claude_mcp.sessions.paths.mounts import HostMount, Location, MountTable, is_within

FIRST_USER_UID: Final = 1000
"""Lower uids, except 0, are system accounts, whose homes belong to nobody."""
NOBODY_UID: Final = 65534

# Refused with everything below them.
SYSTEM: Final = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found",
    "/proc", "/run", "/sbin", "/sys", "/usr", "/var/cache", "/var/log", "/var/run", "/var/spool",
)  # fmt: skip
ENGINES: Final = (
    "/var/lib/cni", "/var/lib/containerd", "/var/lib/containers", "/var/lib/docker",
    "/var/lib/kubelet",
)  # fmt: skip
SYSTEM_DIRECTORY: Final = "a system directory"
NOT_SYSTEM: Final = ("/run/media", "/usr/local/src", "/usr/src")
"""Exceptions below ``SYSTEM``, which belong to users."""
SHARED: Final = ("/home", "/opt", "/tmp", "/var", "/var/lib", "/var/tmp")
"""Refused themselves; their subdirectories are allowed."""

CREDENTIALS: Final = (
    ".aws", ".azure", ".claude.json", ".claude/.credentials.json", ".config/gcloud", ".config/gh",
    ".docker", ".git-credentials", ".gnupg", ".kube", ".local/share/keyrings", ".netrc", ".npmrc",
    ".password-store", ".pypirc", ".ssh",
)  # fmt: skip
BROWSERS: Final = (
    ".config/BraveSoftware", ".config/chromium", ".config/google-chrome", ".config/microsoft-edge",
    ".config/opera", ".config/vivaldi", ".librewolf", ".mozilla", ".thunderbird",
    ".var/app/com.brave.Browser", ".var/app/com.google.Chrome", ".var/app/com.microsoft.Edge",
    ".var/app/org.chromium.Chromium", ".var/app/org.mozilla.firefox", "snap/chromium",
    "snap/firefox",
)  # fmt: skip
ENGINES_OF_USERS: Final = (".local/share/containers", ".local/share/docker")
OURS: Final = ".config/claude-mcp"
IN_HOME: Final = (
    *((name, "a location of credentials") for name in CREDENTIALS),
    *((name, "a browser's profile") for name in BROWSERS),
    *((name, "a container engine's storage") for name in ENGINES_OF_USERS),
    (OURS, "the configuration of claude-mcp"),
)
"""Each protected path in a home, and what it is."""

# Variables that relocate credentials; a value may contain several paths.
CREDENTIAL_VARIABLES: Final = (
    "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "CLOUDSDK_CONFIG", "DOCKER_CONFIG",
    "GNUPGHOME", "GOOGLE_APPLICATION_CREDENTIALS", "KUBECONFIG",
)  # fmt: skip
DAEMON_VARIABLES: Final = ("DOCKER_HOST", "CONTAINER_HOST")
SOCKET: Final = "a container engine's socket"
SOCKET_NAMES: Final = ("docker.sock", "podman.sock", "containerd.sock", "crio.sock")


@dataclass(frozen=True, slots=True)
class Protected:
    """A protected path, its description, and whether its contents are protected as well."""

    location: Location
    what: str
    whole: bool = True

    @property
    def path(self) -> str:
        return self.location.names[0]


def refusal(
    requested: Location, mounts: MountTable, config: Config, owner: int
) -> tuple[str, str] | None:
    """Why a session may not have a path, and what to do about it; None if it may.

    ``owner`` is the uid that owns the path; that user's home is protected too.
    """
    known = [*protected_paths(config, owner, mounts, requested)]
    return _inside(requested, known) or _around(requested, known)


def _inside(requested: Location, known: Iterable[Protected]) -> tuple[str, str] | None:
    """The innermost protected path that equals this path or contains it."""
    hits = [
        each
        for each in known
        if requested.equals(each.location) or (each.whole and requested.lies_in(each.location))
    ]
    if not hits:
        return None
    hit = max(hits, key=lambda each: len(each.location.names[-1]))
    same = requested.equals(hit.location)
    if not hit.whole:
        return f"it is {hit.what}", "Choose a directory in it."
    where = "it is" if same else f"it lies in {hit.path}, which is"
    return f"{where} {hit.what}", "Copy what the session needs to another directory."


def _around(requested: Location, known: Iterable[Protected]) -> tuple[str, str] | None:
    """A protected path in this path, or in what is mounted there."""
    for each in known:
        if requested.contains(each.location) or (
            each.whole and requested.shows_part_of(each.location)
        ):
            why = f"it contains {each.path}, which is {each.what}"
            return why, "Choose a subdirectory without it."
    return None


def protected_paths(
    config: Config, owner: int, mounts: MountTable, requested: Location
) -> Iterator[Protected]:
    """Every protected path that could matter to the requested one.

    Missing paths too, which a session must not create.
    """
    environment = config.environment
    yield from _of_the_system(mounts, requested)
    for home in sorted(set(_homes(environment, owner))):
        location = mounts.locate(home.path)
        yield Protected(location, "a home directory", whole=False)
        near = home.mine or requested.lies_in(location) or requested.contains(location)
        # There may be thousands of homes. In one that is neither ours nor near, only what a link
        # or a mount puts elsewhere could be near.
        for path, what in _in_home(home.path) if near else _existing(home.path):
            yield Protected(mounts.locate(path), what)
    for path, what in _in_config_home(environment):
        yield Protected(mounts.locate(path), what)
    for name in CREDENTIAL_VARIABLES:
        for path in _absolute(environment.get(name, "").split(os.pathsep)):
            yield Protected(mounts.locate(path), f"a location of credentials (set by {name})")
    for path in _absolute(config.files):
        yield Protected(mounts.locate(path), "the configuration of claude-mcp")
    for path, what in _sockets(environment):
        yield Protected(mounts.locate(path), what)


def _of_the_system(mounts: MountTable, requested: Location) -> Iterator[Protected]:
    free = any(is_within(name, each) for name in requested.names for each in NOT_SYSTEM)
    roots: list[str] = []
    for path in SYSTEM:
        location = mounts.locate(path)
        inside = [*mounts.below(location.names[-1])]
        views = [mount for mount in inside if _is_view(mount, location, mounts)]
        shown = tuple(mount.shows for mount in inside if mount not in views and _is_system(mount))
        roots += [mount.point for mount in views if os.path.isdir(f"{mount.point}/etc")]
        if not free:
            yield Protected(replace(location, below=shown), SYSTEM_DIRECTORY)
    shared = "a directory shared by all programs of this machine"
    for root in ("", *roots):
        # An absolute link in another root leads elsewhere there.
        locate = mounts.locate_real if root else mounts.locate
        if root and not free:
            for path in SYSTEM:
                yield Protected(locate(root + path), SYSTEM_DIRECTORY)
        for path in ENGINES:
            yield Protected(locate(root + path), "a container engine's storage")
        for path in SHARED:
            yield Protected(locate(root + path), shared, whole=False)


def _is_view(mount: HostMount, system: Location, mounts: MountTable) -> bool:
    """Whether it shows storage that users reach under other names.

    In a toolbox, the host's root is mounted at ``/run/host``; tools for backups mount the whole
    disk below ``/run``. What such a view shows is not the system's for that reason.
    """
    return mount.point not in system.names and mounts.is_storage(mount)


def _is_system(mount: HostMount) -> bool:
    """What users mount below a system directory is their own."""
    return not any(is_within(mount.point, each) for each in NOT_SYSTEM)


@dataclass(frozen=True, slots=True, order=True)
class _Home:
    path: str
    mine: bool
    """Of this process's user, or of the owner of the requested path."""


def _homes(environment: Mapping[str, str], owner: int) -> Iterator[_Home]:
    """The homes of this process's user, of the path's owner, and of all listed people."""
    mine = {os.geteuid(), os.getuid(), owner}
    for path in _absolute([environment.get("HOME", "")]):
        yield _Home(path, mine=True)
    users = pwd.getpwall()
    for uid in mine - {user.pw_uid for user in users}:
        try:
            # A directory service may know users without listing them.
            users.append(pwd.getpwuid(uid))
        except KeyError:
            continue
    for user in users:
        person = user.pw_uid == 0 or FIRST_USER_UID <= user.pw_uid != NOBODY_UID
        if user.pw_uid in mine or person:
            for path in _absolute([user.pw_dir]):
                yield _Home(path, mine=user.pw_uid in mine)


def _in_home(home: str) -> Iterator[tuple[str, str]]:
    for name, what in IN_HOME:
        yield f"{home}/{name}", what


def _existing(home: str) -> Iterator[tuple[str, str]]:
    try:
        there = frozenset(os.listdir(home))
    except OSError:  # most users of a directory service have no home on this host
        return
    for name, what in IN_HOME:
        path = f"{home}/{name}"
        if name.partition("/")[0] in there and os.path.lexists(path):
            yield path, what


def _in_config_home(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for directory in _absolute([environment.get("XDG_CONFIG_HOME", "")]):
        for name, what in IN_HOME:
            if name.startswith(".config/"):
                yield os.path.join(directory, name.removeprefix(".config/")), what


def _sockets(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Paths of sockets, and what each is."""
    for name in DAEMON_VARIABLES:
        scheme, _, path = environment.get(name, "").partition(":")
        for socket in _absolute([path] if scheme == "unix" else []):
            yield socket, SOCKET
    for path in _absolute([environment.get("XDG_RUNTIME_DIR", "")]):
        yield path, "the directory of a user's sockets"
    for path in _absolute([environment.get("SSH_AUTH_SOCK", "")]):
        yield path, "the socket of an SSH agent"


def _absolute(paths: Iterable[str]) -> Iterator[str]:
    """The absolute ones, normalized, without ``/``, which is always refused."""
    for path in paths:
        normal = os.path.normpath(path) if path.startswith("/") else "/"
        if normal.strip("/"):
            yield f"/{normal.lstrip('/')}"
