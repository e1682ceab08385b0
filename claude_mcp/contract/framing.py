"""Cuts what is read from a pipe or a file into lines."""

from __future__ import annotations

from collections.abc import Iterator


class Splitter:
    """Keeps the line that has not ended yet; how long it may become is for its owner to say."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0

    @property
    def pending(self) -> int:
        """Bytes of the line that has not ended yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that end in ``data``, without their ends."""
        self._buffer += data
        while (end := self._buffer.find(b"\n", self._scanned)) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._scanned = 0
            yield line
        self._scanned = len(self._buffer)

    def drop(self) -> None:
        """Forget the line that has not ended yet."""
        self._buffer.clear()
        self._scanned = 0
