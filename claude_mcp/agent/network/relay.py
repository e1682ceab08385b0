"""Relays to a proxy that requires a password, so that only the agent knows the password.

Claude Code learns of a proxy only from its environment, which all of its commands inherit.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Mapping

from claude_mcp.agent.channel import open_files, threads
from claude_mcp.agent.store.state import log
from claude_mcp.contract.urls import basic_authorization, proxy_parts

HEAD_BYTES = 64 * 1024
READ_BYTES = 64 * 1024
CONNECT_SECONDS = 30.0
HOP_BY_HOP = (b"proxy-authorization", b"proxy-connection", b"connection")
ACCEPT_PAUSE_SECONDS = 0.05
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"The session has too many open connections, or too many processes.\n"
)
FAILED = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"


class Relay:
    """Listens on the session's loopback for as long as the agent runs."""

    def __init__(self, proxy: str) -> None:
        self._proxy = proxy_parts(proxy)
        self._authorization = b"Proxy-Authorization: " + basic_authorization(proxy).encode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError as error:  # out of descriptors or memory, or the client has gone
                log(f"could not accept a connection to the proxy: {error}")
                time.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            try:
                with open_files.CONNECTIONS.taken():
                    started = threads.start(self._relay, client)
            except open_files.TooManyOpen:
                started = False
            if not started:
                _refuse(client)

    def _relay(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head, rest = _head(client)
            if head is None:
                return
            try:
                with open_files.CONNECTIONS.taken():
                    proxy = self._connect()
            except open_files.TooManyOpen:
                _refuse(client)
                return
            except OSError as error:
                where = f"{self._proxy.hostname}:{self._proxy.port}"
                log(f"cannot reach the proxy {where}: {error}")
                client.sendall(f"{FAILED}The proxy {where} cannot be reached.\n".encode())
                return
            with proxy:
                proxy.sendall(_authorized(head, self._authorization) + rest)
                back = threading.Thread(target=_copy, args=(proxy, client), daemon=True)
                back.start()
                _copy(client, proxy)
                back.join()

    def _connect(self) -> socket.socket:
        secure = self._proxy.scheme == "https"
        port = self._proxy.port or (443 if secure else 80)
        host = self._proxy.hostname or ""
        connection = socket.create_connection((host, port), CONNECT_SECONDS)
        try:
            if secure:
                import ssl  # importing it is slow, and a first command would wait for it

                context = ssl.create_default_context()
                connection = context.wrap_socket(connection, server_hostname=host)
            connection.settimeout(None)
        except BaseException:
            connection.close()
            raise
        return connection


def _refuse(client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):
        client.setblocking(False)
        client.send(BUSY)


def _head(client: socket.socket) -> tuple[list[bytes] | None, bytes]:
    """The lines of a request's head and the bytes after it; None if it is not a request."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(READ_BYTES)
        if not more or len(data) > HEAD_BYTES:
            return None, b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), rest


def _authorized(head: list[bytes], authorization: bytes) -> bytes:
    """The head with our authorization. Except for a tunnel, the connection is closed after one
    request, because a second one would lack it."""
    request, *headers = head
    kept = [line for line in headers if line.partition(b":")[0].strip().lower() not in HOP_BY_HOP]
    if not request.startswith(b"CONNECT "):
        kept.append(b"Connection: close")
    return b"\r\n".join([request, *kept, authorization, b"", b""])


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until the end of the source, and pass the end on."""
    with contextlib.suppress(OSError):
        while data := source.recv(READ_BYTES):
            target.sendall(data)
    for each, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            each.shutdown(how)


class Relays:
    """One relay for each proxy that requires a password."""

    def __init__(self) -> None:
        self._relays: dict[str, Relay] = {}

    def without_passwords(self, proxies: Mapping[str, str]) -> dict[str, str]:
        """The proxy variables, with relays in place of proxies that require a password."""
        return {name: self._replacement(value) for name, value in proxies.items()}

    def _replacement(self, proxy: str) -> str:
        try:
            if proxy_parts(proxy).password is None:
                return proxy
        except ValueError:
            return proxy
        if proxy not in self._relays:
            self._relays[proxy] = Relay(proxy)
        return self._relays[proxy].url
