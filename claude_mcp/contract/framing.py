"""Splits a byte stream into lines of bounded length."""

from __future__ import annotations

from collections.abc import Iterator


class LineTooLong(Exception):
    """A line is longer than its reader allows."""


class Splitter:
    """Collects the unfinished line between reads.

    A line may exceed ``max_bytes`` by what one read returns, because only an unfinished line is
    measured.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._skipping = False

    @property
    def pending(self) -> int:
        """The number of bytes of the unfinished line."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that end in ``data``, without their newlines.

        Raises:
            LineTooLong: once for each line that is too long, after the lines before it. A reader
                that goes on does not see the rest of that line.
        """
        self._buffer += data
        while (end := self._buffer.find(b"\n", self._scanned)) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._scanned = 0
            if not self._skipping:
                yield line
            self._skipping = False
        self._scanned = len(self._buffer)
        if self._skipping:
            self._clear()
        elif len(self._buffer) > self._max_bytes:
            self._clear()
            self._skipping = True
            raise LineTooLong(f"a line has more than {self._max_bytes} bytes")

    def reset(self) -> None:
        """Forget the unfinished line: the stream begins anew."""
        self._clear()
        self._skipping = False

    def _clear(self) -> None:
        self._buffer.clear()
        self._scanned = 0
