"""The sockets that the server listens on: its own, or those that systemd passes to it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

from claude_mcp.errors import ConfigError

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8765
BACKLOG: Final = 1024


def passed(descriptors: range) -> list[socket.socket]:
    """The sockets of these descriptors.

    Raises:
        ConfigError: one is no listening stream socket.
    """
    sockets = []
    for descriptor in descriptors:
        try:
            one = socket.socket(fileno=descriptor)
        except OSError as error:
            raise ConfigError(
                f"Descriptor {descriptor}, which systemd passed, is no socket: {error.strerror}."
            ) from error
        one.set_inheritable(False)
        listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if one.type != socket.SOCK_STREAM or not listens:
            one.detach()
            raise ConfigError(
                f"Descriptor {descriptor}, which systemd passed, is no listening stream socket.",
                hint="Use ListenStream= and Accept=no in the socket unit.",
            )
        one.setblocking(False)
        sockets.append(one)
    return sockets


def bound(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for all addresses of a host.

    Raises:
        ConfigError: the host is unknown, or the port cannot be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(f"The host {host!r} is unknown: {error.strerror}.") from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
            one.setblocking(False)
    except OSError as error:
        for one in sockets:
            one.close()
        raise ConfigError(
            f"The server cannot listen at {host} port {port}: {error.strerror}.",
            hint="Choose another port with --port." if port else None,
        ) from error
    return sockets


def is_local(sockets: Sequence[socket.socket]) -> bool:
    """Whether only programs of this machine can reach all of them."""
    return all(
        one.family == socket.AF_UNIX or ipaddress.ip_address(one.getsockname()[0]).is_loopback
        for one in sockets
    )


def described(one: socket.socket) -> str:
    name = one.getsockname()
    if one.family == socket.AF_UNIX:
        return f"the socket {name if isinstance(name, str) else name.decode()}"
    host = f"[{name[0]}]" if one.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}/mcp"
