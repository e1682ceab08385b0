"""stdin for the stdio transport, read without a thread.

The SDK reads stdin in a thread that nothing can interrupt: a server told to stop by a signal
would wait there for its client's next message.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import anyio

READ_BYTES: Final = 256 * 1024


class Lines:
    """Lines up to the end of file, or to ``close``; bytes that are no UTF-8 are replaced."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = anyio.CancelScope()
        self._closed = False

    def close(self) -> None:
        """From here on it is as if the client had hung up."""
        self._closed = True
        self._waiting.cancel()

    async def __aiter__(self) -> AsyncIterator[str]:
        buffer = bytearray()
        scanned = 0
        while data := await self._read():
            buffer += data
            while (end := buffer.find(b"\n", scanned)) >= 0:
                yield buffer[: end + 1].decode("utf-8", "replace")
                del buffer[: end + 1]
                scanned = 0
            scanned = len(buffer)
        if buffer and not self._closed:
            yield buffer.decode("utf-8", "replace")

    async def _read(self) -> bytes:
        if self._closed:
            return b""
        with anyio.CancelScope() as self._waiting:
            # A regular file or /dev/null is always readable, and epoll refuses it.
            with suppress(PermissionError):
                await anyio.wait_readable(self._descriptor)
            return os.read(self._descriptor, READ_BYTES)
        return b""
