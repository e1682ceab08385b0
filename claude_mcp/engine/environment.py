"""The environment of the engine's processes: an allowlist, and what we set ourselves.

The environment belongs to the user, and some of it changes what an engine's commands do:
``DOCKER_CONTENT_TRUST`` makes ``create`` ask a notary, ``PODMAN_USERNS`` moves a container into
another user namespace, ``LISTEN_FDS`` hands descriptors to it. So only variables that help to
reach the engine or to find its files are passed on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from claude_mcp.engine import reach, ssh

ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "finding programs, files and the user": (
        "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME",
    ),
    "Docker's daemon, its configuration and its certificates": (
        "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS",
        "DOCKER_TLS_VERIFY", "DOCKER_API_VERSION", "DOCKER_CUSTOM_HEADERS",
    ),
    "Podman's service, its configuration and its storage": (
        "CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINER_SSHKEY", "CONTAINERS_CONF",
        "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_HELPER_BINARY_DIR", "CONTAINERS_STORAGE_CONF",
        "PODMAN_CONNECTIONS_CONF", "STORAGE_DRIVER", "STORAGE_OPTS", "REGISTRY_AUTH_FILE",
    ),
    "a process inside of 'podman unshare'": (
        "_CONTAINERS_USERNS_CONFIGURED", "_CONTAINERS_ROOTLESS_UID", "_CONTAINERS_ROOTLESS_GID",
    ),
    "reaching an engine over ssh, TLS or a proxy": (
        "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
        "http_proxy", "https_proxy", "no_proxy",
    ),
    "a cluster of Kubernetes, also from inside of it": (
        "KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT",
    ),
    "cgroups of rootless engines, which systemd manages": ("DBUS_SESSION_BUS_ADDRESS",),
}  # fmt: skip
"""By what the variables are for."""

FIXED: Final[Mapping[str, str]] = {
    # Whether an image is signed is decided when it is pulled, which we do not do.
    "DOCKER_CONTENT_TRUST": "0",
    # Its hint for people would become a line of a session's log at every call.
    "DOCKER_CLI_HINTS": "false",
    # The same for its warning about cgroups version 1.
    "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
    # A server has nobody who could answer ssh. Its processes have no terminal either.
    "SSH_ASKPASS_REQUIRE": "never",
    # Messages are matched in English.
    "LC_ALL": "C.UTF-8",
}

PROXIES: Final = tuple(
    spelling
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")
    for spelling in (name, name.lower())
)
"""What an engine's configuration may put into every container, with passwords."""

_NAMES: Final = frozenset(name for names in ALLOWED.values() for name in names)


def engine_environment(environment: Mapping[str, str], login: Mapping[str, str]) -> dict[str, str]:
    """What of ``environment`` the engine's processes get, and ``FIXED``.

    Over ssh also our ssh, and the variables of ``login``: a tunnel through a cloud needs them.
    """
    found = {name: value for name, value in environment.items() if name in _NAMES} | dict(FIXED)
    if found.get("DOCKER_HOST", "").startswith("ssh://") or reach.has_context(found):
        return ssh.with_options({**found, **login})
    return found


def without(environment: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}
