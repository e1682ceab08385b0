"""A command's output in the order of its arrival: in memory while it is small, then on disk.

It is kept as frames: the stream's number, the length, and the data. A cursor is a position among
all frames that were ever written, so it always names a place between two frames. On disk, the
output is in segments, named by the position of their first byte. Only the last two are kept, and
a reader is told how much is missing. Secrets are redacted before it is kept. Processes of the
session can write these files too.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterator

from claude_mcp.contract.redaction import redactor

OUT, ERR = 1, 2
HEADER = struct.Struct(">BI")
PART_BYTES = 16 * 1024
FRAME_BYTES = 2 * PART_BYTES
"""Redaction may lengthen a part."""
MEMORY_BYTES = 64 * 1024
SEGMENT_BYTES = 4 * 1024 * 1024
KEPT_SEGMENTS = 2

Frame = tuple[int, bytes]
"""A stream's number, and data of it."""


def _whole(data: bytes) -> int:
    """How many bytes there are before a UTF-8 character that is incomplete at the end."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if length > back else len(data)
        if byte < 0x80:
            break
    return len(data)


def segments(directory: str) -> list[int]:
    """The positions at which the segments in a directory begin."""
    try:
        return sorted(int(name) for name in os.listdir(directory) if name.isdigit())
    except OSError:
        return []


class Output:
    """Not thread-safe: its owner must hold a lock."""

    def __init__(self, directory: str, bases: list[int] | None = None) -> None:
        """``directory`` is made when something is stored; with ``bases``, it holds output."""
        self._directory = directory
        self._memory: bytearray | None = bytearray() if bases is None else None
        self._bases = bases or []
        self._partial: dict[int, bytes] = {}
        self._failed = False
        self.end = 0
        if bases:
            with contextlib.suppress(OSError):
                self.end = bases[-1] + os.path.getsize(self._path(bases[-1]))

    @property
    def is_stored(self) -> bool:
        return self._memory is None

    def _path(self, base: int) -> str:
        return os.path.join(self._directory, str(base))

    def write(self, stream: int, data: bytes, *, is_last: bool = False) -> None:
        """Append data; an incomplete character waits for its rest unless it ``is_last``."""
        data = self._partial.pop(stream, b"") + data
        whole = len(data) if is_last else _whole(data)
        if whole < len(data):
            self._partial[stream] = data[whole:]
        frames = bytearray()
        start = 0
        while start < whole:
            part = data[start : min(start + PART_BYTES, whole)]
            part = part[: _whole(part) or len(part)]
            start += len(part)
            text = part.decode("utf-8", "surrogateescape")
            part = redactor.redact(text, begun_before=True, goes_on=True).encode(
                "utf-8", "surrogateescape"
            )
            frames += HEADER.pack(stream, len(part)) + part
        if frames:
            self._append(frames)

    def _append(self, frames: bytearray) -> None:
        if self._memory is not None:
            self._memory += frames
            self.end += len(frames)
            if len(self._memory) > MEMORY_BYTES:
                self.store()
            return
        if self._failed or not self._bases or self.end - self._bases[-1] >= SEGMENT_BYTES:
            self._begin_segment()
        if not self._failed:
            try:
                _append_to(self._path(self._bases[-1]), frames)
            except OSError:
                self._failed = True  # the next segment begins behind the gap
        self.end += len(frames)

    def _begin_segment(self) -> None:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(self._path(self.end), flags, 0o600))
        except OSError:
            self._failed = True
            return
        self._failed = False
        self._bases.append(self.end)
        while len(self._bases) > KEPT_SEGMENTS:
            with contextlib.suppress(OSError):
                os.unlink(self._path(self._bases.pop(0)))

    def store(self) -> None:
        """Keep it on disk from now on. Where it cannot be written, it will be missing."""
        if self._memory is None:
            return
        frames, self._memory = self._memory, None
        if frames:
            self.end = 0
            self._append(frames)

    def read(self, cursor: int, limit: int) -> tuple[list[Frame], int, int]:
        """Frames from ``cursor`` on, the cursor behind them, and how many bytes are missing.

        Together the frames are no longer than ``limit``, but there is one if there is any output.
        """
        frames: list[Frame] = []
        size = missing = 0
        at = min(cursor, self.end)
        while at < self.end:
            start = at
            for stream, data in _frames(self._read(at, max(limit, HEADER.size + FRAME_BYTES))):
                if frames and size + len(data) > limit:
                    return frames, at, missing
                frames.append((stream, data))
                size += len(data)
                at += HEADER.size + len(data)
            if at == start:
                if frames:
                    break
                at = min((base for base in self._bases if base > at), default=self.end)
                missing += at - start
        return frames, at, missing

    def _read(self, at: int, length: int) -> bytes:
        """Bytes from ``at`` on, within one segment; none where nothing is kept."""
        if self._memory is not None:
            return bytes(self._memory[at : at + length])
        base = max((base for base in self._bases if base <= at), default=None)
        if base is None:
            return b""
        try:
            with _opened(self._path(base), os.O_RDONLY) as descriptor:
                return os.pread(descriptor, length, at - base)
        except OSError:
            return b""


def _frames(data: bytes) -> Iterator[Frame]:
    """The whole frames at the beginning of ``data``."""
    at = 0
    while at + HEADER.size <= len(data):
        stream, length = HEADER.unpack_from(data, at)
        at += HEADER.size + length
        if stream not in (OUT, ERR) or not 0 < length <= FRAME_BYTES or at > len(data):
            return
        yield stream, data[at - length : at]


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def _append_to(path: str, data: bytearray) -> None:
    with _opened(path, os.O_WRONLY | os.O_APPEND) as descriptor:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
