"""Bytes from one socket to another: bounded memory, and nobody waits for somebody faster.

Runs on Python 3.9. Of each direction one piece is on its way at a time, and after each piece the
other connections have their turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

READ_BYTES = 64 * 1024
LINGER_SECONDS = 2.0


class Gone(Exception):
    """The other side has closed too early, or broke off."""


class Deaf(Gone):
    """The other side takes nothing more; it may have said something before."""


class End:
    """One end of a connection: a socket, and what was read from it but not used yet."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._unused = b""
        self.used = self._loop.time()
        """When something last came or went."""

    async def read(self) -> bytes:
        """The next piece; b"" at the end."""
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
            raise Gone(str(error)) from error

    def unread(self, data: bytes) -> None:
        self._unused = data + self._unused

    async def write(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise Deaf(str(error)) from error
        self.used = self._loop.time()

    def finish(self) -> None:
        """Nothing more will be written."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Only when nobody reads or writes any more."""
        self._socket.close()

    async def linger(self) -> None:
        """Finish, and take what still comes: a socket closed before that takes back, by a reset,
        what was written last."""
        self.finish()

        async def drain() -> None:
            with contextlib.suppress(Gone):
                while await self.read():  # noqa: ASYNC110
                    await asyncio.sleep(0)

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(drain(), LINGER_SECONDS)

    async def read_until(self, mark: bytes, most: int) -> bytes | None:
        """What comes before ``mark``, which is taken too; None at the end, or behind ``most``."""
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

    async def copy(self, target: End, count: int | None = None) -> None:
        """Pass on ``count`` bytes, or all until the end.

        Raises:
            Gone: it ended before, or one of the two is no more.
        """
        while count is None or count > 0:
            data = await self.read()
            if not data:
                if count is None:
                    return
                raise Gone("it ended too early")
            if count is not None:
                if len(data) > count:
                    self.unread(data[count:])
                    data = data[:count]
                count -= len(data)
            await target.write(data)
            await asyncio.sleep(0)  # a fast pair would not let others run


async def pass_on(source: End, target: End) -> None:
    """Copy to the end, and say so; when one of the two is no more, that is an end too."""
    with contextlib.suppress(Gone):
        await source.copy(target)
    target.finish()


async def join(left: End, right: End) -> None:
    """Pass on both ways, until both have ended: what comes one way is of use without the other."""
    tasks = [
        asyncio.ensure_future(pass_on(left, right)),
        asyncio.ensure_future(pass_on(right, left)),
    ]
    try:
        await asyncio.gather(*tasks)
    finally:
        await stop(*tasks)


async def stop(*tasks: asyncio.Future[None]) -> None:
    """Cancel, and wait until nobody uses their sockets any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
