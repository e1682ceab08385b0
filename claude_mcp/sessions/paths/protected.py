"""Host paths that no session may have."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from claude_mcp.config import Config

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

    path: str
    what: str
    whole: bool = True


def protected_paths(config: Config, owner: int) -> Iterator[Protected]:
    """Every protected path, including missing ones, which a session must not create.

    ``owner`` is the uid that owns the requested path; its home is protected too.
    """
    environment = config.environment
    for path in SYSTEM:
        yield Protected(path, SYSTEM_DIRECTORY)
    for path in ENGINES:
        yield Protected(path, "a container engine's storage")
    for path in SHARED:
        yield Protected(path, "a directory shared by all programs of this machine", whole=False)
    for home in sorted(set(_homes(environment, owner))):
        yield Protected(home, "a home directory", whole=False)
        yield from _in_home(home, environment)
    for name in CREDENTIAL_VARIABLES:
        for path in _absolute(environment.get(name, "").split(os.pathsep)):
            yield Protected(path, f"a location of credentials (set by {name})")
    for path in _absolute(config.files):
        yield Protected(path, "the configuration of claude-mcp")
    yield from _sockets(environment)


def _homes(environment: Mapping[str, str], owner: int) -> Iterator[str]:
    """The homes of this process's user, of the path's owner, and of all listed people."""
    mine = {os.geteuid(), os.getuid(), owner}
    yield from _absolute([environment.get("HOME", "")])
    users = pwd.getpwall()
    for uid in mine - {user.pw_uid for user in users}:
        try:
            users.append(
                pwd.getpwuid(uid)
            )  # a directory service may know users without listing them
        except KeyError:
            continue
    for user in users:
        person = user.pw_uid == 0 or FIRST_USER_UID <= user.pw_uid != NOBODY_UID
        if user.pw_uid in mine or person:
            yield from _absolute([user.pw_dir])


def _in_home(home: str, environment: Mapping[str, str]) -> Iterator[Protected]:
    kinds = (
        (CREDENTIALS, "a location of credentials"),
        (BROWSERS, "a browser's profile"),
        (ENGINES_OF_USERS, "a container engine's storage"),
        ((OURS,), "the configuration of claude-mcp"),
    )
    for names, what in kinds:
        for name in names:
            yield Protected(os.path.join(home, name), what)
            config_home = environment.get("XDG_CONFIG_HOME", "")
            if name.startswith(".config/") and config_home.startswith("/"):
                yield Protected(os.path.join(config_home, name.removeprefix(".config/")), what)


def _sockets(environment: Mapping[str, str]) -> Iterator[Protected]:
    for name in DAEMON_VARIABLES:
        scheme, _, path = environment.get(name, "").partition(":")
        for socket in _absolute([path] if scheme == "unix" else []):
            yield Protected(socket, SOCKET)
    for path in _absolute([environment.get("XDG_RUNTIME_DIR", "")]):
        yield Protected(path, "the directory of a user's sockets")
    for path in _absolute([environment.get("SSH_AUTH_SOCK", "")]):
        yield Protected(path, "the socket of an SSH agent")


def _absolute(paths: Iterable[str]) -> Iterator[str]:
    """The absolute ones, normalized, without ``/``, which is always refused."""
    for path in paths:
        normal = os.path.normpath(path) if path.startswith("/") else "/"
        if normal.strip("/"):
            yield f"/{normal.lstrip('/')}"
