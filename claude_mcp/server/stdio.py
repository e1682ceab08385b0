"""stdin for the stdio transport, read without a thread.

The SDK reads stdin in a thread that cannot be interrupted: after a signal, the server would wait
for its client's next message before it ends.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import anyio

READ_BYTES: Final = 256 * 1024


class Lines:
    """Lines until end of file or ``close``; invalid UTF-8 is replaced."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = anyio.CancelScope()
        self._closed = False

    def close(self) -> None:
        """End the lines, as if the client had disconnected."""
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
            # epoll rejects regular files and /dev/null, which are always readable.
            with suppress(PermissionError):
                await anyio.wait_readable(self._descriptor)
            return os.read(self._descriptor, READ_BYTES)
        return b""
