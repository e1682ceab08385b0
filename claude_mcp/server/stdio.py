"""stdin and stdout for the stdio transport, read and written without a thread.

The SDK reads and writes in threads that cannot be interrupted: the server could not end before its
client sends the next message, or reads what was written to it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import anyio

READ_BYTES: Final = 256 * 1024
WRITE_BYTES: Final = 4096
"""A pipe or socket that is ready for writing takes this much without blocking (PIPE_BUF)."""
LINE_BYTES: Final = 16 * 1024 * 1024
"""A longer line is skipped."""


class Lines:
    """Lines until end of file or ``close``.

    None stands for a line that is longer than ``LINE_BYTES``.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = anyio.CancelScope()
        self._closed = False

    def close(self) -> None:
        """End the lines, as if the client had disconnected."""
        self._closed = True
        self._waiting.cancel()

    async def __aiter__(self) -> AsyncIterator[bytes | None]:
        buffer = bytearray()
        scanned = 0
        skipping = False
        while data := await self._read():
            buffer += data
            while (end := buffer.find(b"\n", scanned)) >= 0:
                if not skipping:
                    yield bytes(buffer[: end + 1])
                del buffer[: end + 1]
                scanned = 0
                skipping = False
            if len(buffer) > LINE_BYTES and not skipping:
                skipping = True
                yield None
            if skipping:
                buffer.clear()
            scanned = len(buffer)
        if buffer and not self._closed:
            yield bytes(buffer)

    async def _read(self) -> bytes:
        if self._closed:
            return b""
        with anyio.CancelScope() as self._waiting:
            # epoll rejects regular files and /dev/null, which are always readable.
            with suppress(PermissionError):
                await anyio.wait_readable(self._descriptor)
            return os.read(self._descriptor, READ_BYTES)
        return b""


class Output:
    """Whole texts, one after the other, to a descriptor that may be slow or stuck."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._turn = anyio.Lock()

    async def write(self, text: str) -> None:
        async with self._turn:
            rest = memoryview(text.encode("utf-8", "backslashreplace"))
            while rest:
                # epoll rejects regular files and /dev/null, which are always writable.
                with suppress(PermissionError):
                    await anyio.wait_writable(self._descriptor)
                with suppress(BlockingIOError):
                    rest = rest[os.write(self._descriptor, rest[:WRITE_BYTES]) :]

    async def flush(self) -> None:
        """Nothing is buffered."""


@contextmanager
def claimed_stdout() -> Iterator[int]:
    """A descriptor of stdout for messages only; anything else written to stdout goes to stderr."""
    claimed = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    os.dup2(2, 1)
    try:
        yield claimed
    finally:
        os.dup2(claimed, 1)
        os.close(claimed)
