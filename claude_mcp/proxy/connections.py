"""Copies bytes between sockets in bounded memory, fairly among all connections.

Runs on Python 3.9. At most one chunk per direction is in memory, and the event loop serves other
connections after each chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

READ_BYTES = 64 * 1024
LINGER_SECONDS = 2.0
BACKLOG = 256
CONNECT_SECONDS = 1.0
"""The proxy may be elsewhere by then."""
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 2))
"""A peer that is silent is asked after 5 s, and lost after 15 s."""


class ConnectionLost(Exception):
    """The peer closed the connection prematurely, or it broke."""


class WriteFailed(ConnectionLost):
    """The peer stopped reading. It may have sent data before that."""


class Connection:
    """A socket with a buffer of bytes that were read but not consumed."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._unused = b""
        self.used = self._loop.time()
        """Loop time of the last read or write."""

    async def read(self) -> bytes:
        """The next chunk; b"" at the end."""
        if self._unused:
            data, self._unused = self._unused, b""
            return data
        data = await self._receive()
        self.used = self._loop.time()
        return data

    async def _receive(self) -> bytes:
        try:
            return await self._loop.sock_recv(self._socket, READ_BYTES)
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    def unread(self, data: bytes) -> None:
        self._unused = data + self._unused

    async def write(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise WriteFailed(str(error)) from error
        self.used = self._loop.time()

    def finish(self) -> None:
        """Shut down the writing side."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket; no task may still be reading or writing."""
        self._socket.close()

    async def linger(self) -> None:
        """Finish, and discard what the peer still sends.

        Closing a socket with unread data resets the connection, and the peer could lose what was
        written last.
        """
        self.finish()

        async def drain() -> None:
            with contextlib.suppress(ConnectionLost):
                while await self.read():  # noqa: ASYNC110
                    await asyncio.sleep(0)

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(drain(), LINGER_SECONDS)

    async def read_until(self, mark: bytes, most: int) -> bytes | None:
        """The bytes before ``mark``, which is consumed too.

        None if the stream ends, or if ``most`` bytes contain no mark.
        """
        data = b""
        while True:
            piece = await self.read() if len(data) <= most else b""
            if not piece:
                return None
            seen = max(0, len(data) - len(mark) + 1)
            data += piece
            at = data.find(mark, seen)
            if at >= 0:
                self.unread(data[at + len(mark) :])
                return data[:at]

    async def copy(self, target: Connection, count: int | None = None) -> None:
        """Copy ``count`` bytes, or everything until the end.

        Raises:
            ConnectionLost: the source ended before that, or either connection broke.
        """
        while count is None or count > 0:
            data = await self.read()
            if not data:
                if count is None:
                    return
                raise ConnectionLost("it ended prematurely")
            if count is not None:
                if len(data) > count:
                    self.unread(data[count:])
                    data = data[:count]
                count -= len(data)
            await target.write(data)
            await asyncio.sleep(0)  # otherwise a fast pair would starve the others


def listen(path: str) -> socket.socket:
    """A listening Unix socket. Every user who can see the path may connect to it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(BACKLOG)
    return listener


def listen_at(port: int) -> socket.socket:
    """A listening TCP socket at all addresses."""
    if socket.has_dualstack_ipv6():
        family, options = socket.AF_INET6, {"dualstack_ipv6": True}
    else:
        family, options = socket.AF_INET, {}
    return socket.create_server(("", port), family=family, backlog=BACKLOG, **options)


async def connect_to(address: str, port: int) -> Connection:
    """Connect to a TCP socket, which may belong to a machine that disappears without a word.

    Raises:
        OSError: nobody answers.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        for option, value in KEEP_ALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connecting = asyncio.get_running_loop().sock_connect(connection, (address, port))
        await asyncio.wait_for(connecting, CONNECT_SECONDS)
        return Connection(connection)
    except asyncio.TimeoutError:
        connection.close()
        raise TimeoutError("it does not answer") from None
    except BaseException:
        connection.close()
        raise


def connect(path: str) -> Connection:
    """Connect to a Unix socket.

    Not with the loop's ``sock_connect``: when the listener's queue is full, it would report the
    socket as connected.

    Raises:
        BlockingIOError: the listener's queue is full.
        OSError: nobody listens.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.connect(path)
        return Connection(connection)
    except BaseException:
        connection.close()
        raise


async def pass_on(source: Connection, target: Connection) -> None:
    """Copy until either connection ends, then shut down the target's writing side."""
    with contextlib.suppress(ConnectionLost):
        await source.copy(target)
    target.finish()


async def join(left: Connection, right: Connection) -> None:
    """Copy in both directions until both have ended; one direction may outlive the other."""
    tasks = [
        asyncio.ensure_future(pass_on(left, right)),
        asyncio.ensure_future(pass_on(right, left)),
    ]
    try:
        await asyncio.gather(*tasks)
    finally:
        await stop(*tasks)


async def stop(*tasks: asyncio.Future[None]) -> None:
    """Cancel tasks and wait until they have released their sockets."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
