"""Reads a bundle that a session made before git sees it, and bounds what git will unpack.

Only the pack goes on to git; names of refs and other parts of the header do not. A pack of a few
kilobytes can unpack to terabytes, so the size of each object is read here, where nothing is kept.
Formats: gitformat-bundle(5), gitformat-pack(5).
"""

from __future__ import annotations

import os
import re
import stat
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

from claude_mcp.errors import WorkRefused

MAX_BUNDLE_BYTES: Final = 2 * 1024**3
MAX_HEADER_BYTES: Final = 256 * 1024
MAX_PREREQUISITES: Final = 1_000
MAX_OBJECTS: Final = 2_000_000
MAX_OBJECT_BYTES: Final = 512 * 1024**2
"""Of one object, unpacked. Git holds up to three of them in memory."""
MAX_UNPACKED_BYTES: Final = 4 * 1024**3
"""Of all objects of a bundle."""
CHUNK_BYTES: Final = 64 * 1024
READ_BYTES: Final = 1024 * 1024

HASH_BYTES: Final = {"sha1": 20, "sha256": 32}
_SIGNATURES: Final = {b"# v2 git bundle": 2, b"# v3 git bundle": 3}
_REF: Final = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) (.+)")
_PREREQUISITE: Final = re.compile(rb"-([0-9a-f]{40}|[0-9a-f]{64})( .*)?")
_PACK: Final = b"PACK"
_COMMIT, _TREE, _BLOB, _TAG, _OFS_DELTA, _REF_DELTA = 1, 2, 3, 4, 6, 7
_MAX_SIZE_BYTES: Final = 10
"""Length of the longest size that is not absurd, in groups of seven bits."""


class Stopped(Exception):
    """The caller no longer wants the result."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose header is fine. ``pack`` is where its pack starts, ``size`` its end."""

    tip: str
    pack: int
    objects: int
    size: int


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a bundle, which must be a regular file and no link.

    Raises:
        WorkRefused
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise WorkRefused(f"The bundle cannot be opened: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise WorkRefused("The bundle is not a regular file.")
    with open(descriptor, "rb") as file:
        yield file


def read(file: BinaryIO, branch: str, object_format: str) -> Bundle:
    """Read the header of a bundle, which must hold ``refs/heads/<branch>`` and nothing else.

    Raises:
        WorkRefused
    """
    size = os.fstat(file.fileno()).st_size
    if size > MAX_BUNDLE_BYTES:
        raise WorkRefused(f"The bundle has {size} bytes; at most {MAX_BUNDLE_BYTES} are taken.")
    file.seek(0)
    start = file.read(MAX_HEADER_BYTES)
    header, gap, _ = start.partition(b"\n\n")
    lines = header.split(b"\n")
    version = _SIGNATURES.get(lines[0])
    if version is None:
        raise WorkRefused("What the session sent is not a git bundle.")
    if not gap:
        raise WorkRefused("The bundle's header is too long or cut off.")
    tip = _tip(lines[1:], version, branch, object_format)
    pack = len(header) + len(gap)
    file.seek(pack)
    head = file.read(12)
    if len(head) < 12 or head[:4] != _PACK or int.from_bytes(head[4:8], "big") not in (2, 3):
        raise WorkRefused("The bundle holds no pack.")
    objects = int.from_bytes(head[8:], "big")
    if objects > MAX_OBJECTS:
        raise WorkRefused(f"The bundle holds {objects} objects; at most {MAX_OBJECTS} are taken.")
    return Bundle(tip, pack, objects, size)


def _tip(lines: list[bytes], version: int, branch: str, object_format: str) -> str:
    """The object that the only ref names."""
    expected = os.fsencode(f"refs/heads/{branch}")
    found: list[str] = []
    stated, prerequisites = "sha1", 0
    for each in lines:
        if version == 3 and each.startswith(b"@"):
            key, _, value = each[1:].partition(b"=")
            if key != b"object-format":
                raise WorkRefused("The bundle lacks objects on purpose (it has a filter).")
            stated = value.decode("ascii", "replace")
        elif _PREREQUISITE.fullmatch(each):
            prerequisites += 1
        elif (ref := _REF.fullmatch(each)) and ref[2] == expected:
            found.append(ref[1].decode())
        elif ref:
            raise WorkRefused(f"The bundle holds another ref than {branch}.")
        else:
            raise WorkRefused("The bundle's header is broken.")
    if prerequisites > MAX_PREREQUISITES:
        raise WorkRefused(f"The bundle builds on more than {MAX_PREREQUISITES} other commits.")
    if len(found) != 1:
        raise WorkRefused(f"The bundle holds {len(found)} refs in place of one.")
    if stated != object_format or len(found[0]) != HASH_BYTES[object_format] * 2:
        raise WorkRefused(f"The host's repository uses {object_format}, the bundle does not.")
    return found[0]


def check_sizes(file: BinaryIO, bundle: Bundle, object_format: str, stop: threading.Event) -> int:
    """Read the whole pack once; returns how many bytes its objects and deltas have unpacked.

    Git checks later that each object really has the size that its header states.

    Raises:
        WorkRefused: an object or all of them are too large, or the pack is broken or cut off.
        Stopped: ``stop`` was set.
    """
    reader = _Reader(file, bundle.pack + 12, stop)
    hash_bytes = HASH_BYTES[object_format]
    total = 0
    for _ in range(bundle.objects):
        kind, size = reader.object_head()
        if kind == _OFS_DELTA:
            reader.skip_offset()
        elif kind == _REF_DELTA:
            reader.skip(hash_bytes)
        elif kind not in (_COMMIT, _TREE, _BLOB, _TAG):
            raise WorkRefused("The bundle's pack is broken: unknown kind of object.")
        _bounded(size)
        start = reader.inflate(size)
        total += size
        if kind in (_OFS_DELTA, _REF_DELTA):
            total += _bounded(_result_size(start))
        if total > MAX_UNPACKED_BYTES:
            raise WorkRefused(
                f"The bundle's objects have more than {MAX_UNPACKED_BYTES} bytes unpacked."
            )
    if reader.position + hash_bytes != bundle.size:
        raise WorkRefused("The bundle's pack is broken: it does not end after its last object.")
    return total


def _bounded(size: int) -> int:
    if size > MAX_OBJECT_BYTES:
        raise WorkRefused(
            f"The bundle holds an object of {size} bytes; at most {MAX_OBJECT_BYTES} are taken."
        )
    return size


def _result_size(delta: bytes) -> int:
    """The size of what a delta makes: the second of the two numbers that it starts with."""
    position, value = 0, 0
    for _ in range(2):
        value = 0
        for shift in range(0, 7 * _MAX_SIZE_BYTES, 7):
            if position >= len(delta):
                raise WorkRefused("The bundle's pack is broken: a delta without sizes.")
            byte = delta[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
        else:
            raise WorkRefused("The bundle's pack is broken: an absurd size.")
    return value


class _Reader:
    """Reads a pack forwards. ``position`` is in the file."""

    def __init__(self, file: BinaryIO, start: int, stop: threading.Event) -> None:
        self._file = file
        self._stop = stop
        self._buffer = b""
        self._used = 0
        self._base = start
        file.seek(start)

    @property
    def position(self) -> int:
        return self._base + self._used

    def object_head(self) -> tuple[int, int]:
        """Kind and size: three and four bits, then groups of seven."""
        byte = self._byte()
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 0x80:
            if shift > 7 * _MAX_SIZE_BYTES:
                raise WorkRefused("The bundle's pack is broken: an absurd size.")
            byte = self._byte()
            size |= (byte & 0x7F) << shift
            shift += 7
        return kind, size

    def skip_offset(self) -> None:
        for _ in range(_MAX_SIZE_BYTES):
            if not self._byte() & 0x80:
                return
        raise WorkRefused("The bundle's pack is broken: an absurd offset.")

    def skip(self, count: int) -> None:
        for _ in range(count):
            self._byte()

    def inflate(self, size: int) -> bytes:
        """Read one compressed object of this size; returns its first bytes."""
        stream = zlib.decompressobj()
        start, seen = b"", 0
        while not stream.eof:
            if self._stop.is_set():
                raise Stopped
            data = stream.unconsumed_tail or self._piece(size - seen)
            try:
                output = stream.decompress(data, READ_BYTES)
            except zlib.error as error:
                raise WorkRefused("The bundle's pack is broken: an object is garbage.") from error
            start += output[: 2 * _MAX_SIZE_BYTES - len(start)]
            seen += len(output)
            if seen > size:
                break
        if seen != size:
            raise WorkRefused("The bundle's pack is broken: an object has another size than said.")
        self._used -= len(stream.unused_data)
        return start

    def _byte(self) -> int:
        if self._used >= len(self._buffer):
            self._fill()
        byte = self._buffer[self._used]
        self._used += 1
        return byte

    def _piece(self, expected: int) -> bytes:
        """The next bytes, and not many more than an object needs that inflates to ``expected``."""
        if self._used >= len(self._buffer):
            self._fill()
        wanted = min(CHUNK_BYTES, max(expected, 0) + (expected >> 8) + 64)
        piece = self._buffer[self._used : self._used + wanted]
        self._used += len(piece)
        return piece

    def _fill(self) -> None:
        self._base += len(self._buffer)
        self._used = 0
        self._buffer = self._file.read(READ_BYTES)
        if not self._buffer:
            raise WorkRefused("The bundle's pack is cut off.")
