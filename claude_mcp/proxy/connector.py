"""Resolves a host name once, checks its addresses, and connects to one of them.

Runs on Python 3.9. The connection uses the checked address, so a name cannot resolve to one
address for the check and to another for the connection (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Callable, Sequence

from claude_mcp.proxy.connections import READ_BYTES, Connection, ConnectionLost, WriteFailed
from claude_mcp.proxy.hosts import parse_address
from claude_mcp.proxy.policy import Policy, Upstream
from claude_mcp.proxy.request_head import END, MOST_BYTES, connect

CONNECT_SECONDS = 15.0
MOST_ADDRESSES = 8
LOOKUPS = 24
"""Concurrent DNS lookups. The provider is exempt: a slow name server must not delay the model."""
KEEPALIVE_SECONDS = 60

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Refused(Exception):
    """The host is not allowed; the message says why."""


class Failed(Exception):
    """The host is allowed, but cannot be reached."""


async def look_up(name: str, port: int) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise Failed(f"its name cannot be resolved ({why or error})") from error
    return [str(entry[4][0]) for entry in found]


class Connector:
    """Opens the connections that a policy allows."""

    def __init__(self, policy: Policy, resolve: Resolve = look_up) -> None:
        self._policy = policy
        self._resolve = resolve
        self._lookups = asyncio.Semaphore(LOOKUPS)

    async def open(self, host: str, port: int, *, tunnel: bool, authorization: str) -> Connection:
        """A connection to a host, directly or through an upstream proxy.

        With ``tunnel``, an upstream proxy is asked for a tunnel (CONNECT).

        Raises:
            Refused, Failed
        """
        upstream = self._policy.upstream(host, port, tunnel=tunnel)
        try:
            if upstream is None:
                addresses = await asyncio.wait_for(self._addresses(host, port), CONNECT_SECONDS)
                return await _connect(addresses, port)
            return await asyncio.wait_for(
                _through(upstream, host, port, tunnel, authorization), CONNECT_SECONDS
            )
        except asyncio.TimeoutError:
            raise Failed(f"no connection within {CONNECT_SECONDS:g} s") from None
        except ConnectionLost as error:
            raise Failed("the connection was lost") from error

    async def _addresses(self, host: str, port: int) -> list[str]:
        if parse_address(host) is not None:
            found: Sequence[str] = [host]
        elif self._policy.serves_model(host, port):
            found = await self._resolve(host, port)
        else:
            await self._lookups.acquire()
            lookup = asyncio.ensure_future(self._resolve(host, port))
            lookup.add_done_callback(self._looked_up)
            # A lookup cannot be cancelled, so it counts until its thread has finished.
            found = await asyncio.shield(lookup)
        accepted = []
        for text in dict.fromkeys(found):
            address = parse_address(text)
            if address is not None and self._policy.accepts(address, host, port):
                accepted.append(text)
        if not accepted:
            raise Refused("it has no public address")
        return accepted[:MOST_ADDRESSES]

    def _looked_up(self, lookup: asyncio.Future[Sequence[str]]) -> None:
        self._lookups.release()
        if not lookup.cancelled():
            lookup.exception()  # retrieved, in case nobody awaits the lookup any more


async def _connect(addresses: Sequence[str], port: int) -> Connection:
    """A connection to the first address that accepts one."""
    loop = asyncio.get_running_loop()
    why = "it has no address"
    # An unresponsive address must leave time for the others.
    seconds = CONNECT_SECONDS / max(1, len(addresses))
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.setblocking(False)
                await asyncio.wait_for(loop.sock_connect(connection, (address, port)), seconds)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Connection(connection)
            except BaseException:
                connection.close()
                raise
        except asyncio.TimeoutError:
            why = f"no connection within {CONNECT_SECONDS:g} s"
        except OSError as error:  # also from socket(): unsupported family, no descriptors
            # Not the error's own text: asyncio includes the address in it.
            why = os.strerror(error.errno) if error.errno else str(error)
    raise Failed(why)


class _TlsConnection(Connection):
    """A connection to an upstream proxy that uses TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._unused = b""
        self._loop = asyncio.get_running_loop()
        self.used = self._loop.time()

    async def _receive(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ConnectionLost(str(error)) from error

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise WriteFailed(str(error)) from error
        self.used = self._loop.time()

    def finish(self) -> None:
        """Do nothing: TLS cannot be closed in one direction only."""

    def close(self) -> None:
        self._writer.close()


async def _through(
    upstream: Upstream, host: str, port: int, tunnel: bool, authorization: str
) -> Connection:
    end = await _to_proxy(upstream)
    if not tunnel:
        return end
    try:
        await end.write(connect(host, port, authorization))
        answer = await end.read_until(END, MOST_BYTES)
        status = (answer or b"").split(b"\r\n")[0].decode("latin-1").split(" ", 2)
        if len(status) < 2 or not status[0].startswith("HTTP/1.") or status[1][:1] != "2":
            said = re.sub(r"[^ -~]", "?", " ".join(status[1:])[:100])
            raise Failed(f"the proxy {upstream.host}:{upstream.port} answered: {said or 'nothing'}")
    except BaseException:
        end.close()
        raise
    return end


async def _to_proxy(upstream: Upstream) -> Connection:
    where = f"the proxy {upstream.host}:{upstream.port}"
    try:
        if not upstream.tls:
            return await _connect(await look_up(upstream.host, upstream.port), upstream.port)
        import ssl  # slow to import, rarely needed

        reader, writer = await asyncio.open_connection(
            upstream.host, upstream.port, ssl=ssl.create_default_context(), limit=READ_BYTES
        )
    except (OSError, Failed) as error:
        raise Failed(f"{where} cannot be reached: {error}") from error
    return _TlsConnection(reader, writer)
