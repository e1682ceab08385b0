"""Reads a tar stream with ustar headers, GNU long names and pax headers, as engines write them.

``tarfile`` is unsuitable for hostile input: it keeps every header in memory and accepts extended
headers of any size and number. This reader needs one buffer per stream.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Final, cast

BLOCK_BYTES: Final = 512
CHUNK_BYTES: Final = 128 * 1024
"""Chunks of 1 MiB take three times the CPU time, because each is newly mapped memory (measured)."""
MAX_EXTENSION_BYTES: Final = 1024 * 1024
"""Maximum size of an extended header, which holds a name, a link target and attributes."""
MAX_EXTENSIONS: Final = 8
"""Maximum number of extended headers before one entry."""

_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,6}) ")
_SECONDS: Final = re.compile(rb"(-?[0-9]{1,11})(\.[0-9]*)?")
_SIZE: Final = re.compile(rb"[0-9]{1,18}")


class BrokenArchive(Exception):
    """The stream is not an archive, or uses features that no engine writes."""


class Truncated(BrokenArchive):
    """The archive is truncated."""


class Kind(Enum):
    FILE = b"0"
    HARD_LINK = b"1"
    LINK = b"2"
    DIRECTORY = b"5"
    OTHER = b""


_KINDS: Final = {
    b"\0": Kind.FILE, b"0": Kind.FILE, b"7": Kind.FILE,
    b"1": Kind.HARD_LINK, b"2": Kind.LINK, b"5": Kind.DIRECTORY,
}  # fmt: skip
_WITHOUT_CONTENT: Final = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry's header: ``size`` of the content in bytes, ``mtime`` in seconds."""

    name: str
    kind: Kind
    mode: int
    size: int
    mtime: int
    link: str


class TarReader:
    """Iterates over the entries of a stream and reads the content of the current one.

    Use as a context manager. The pipe stays open and remains its owner's.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._stream = io.BufferedReader(cast(io.RawIOBase, pipe), CHUNK_BYTES)
        self._left = 0
        """Unread bytes of the current entry's content."""
        self._padding = 0

    def __enter__(self) -> TarReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.detach()

    def __iter__(self) -> Iterator[Entry]:
        while True:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
            entry = self._entry()
            if entry is None:
                return
            yield entry

    def read_into(self, buffer: memoryview) -> int:
        """Read the next bytes of the current entry's content; 0 at its end."""
        wanted = min(len(buffer), self._left)
        if wanted == 0:
            return 0
        count = self._stream.readinto(buffer[:wanted])
        if not count:
            raise Truncated("it is truncated")
        self._left -= count
        return count

    def finish(self) -> None:
        """Discard everything after the end; otherwise the engine's write would fail."""
        while self._stream.read(CHUNK_BYTES):
            pass

    def _entry(self) -> Entry | None:
        """The next header with its extended headers applied; None at the end."""
        extended: dict[bytes, bytes] = {}
        for _ in range(MAX_EXTENSIONS + 1):
            header = self._exactly(BLOCK_BYTES)
            if header == b"\0" * BLOCK_BYTES:
                return None
            kind, size = header[156:157], _number(header[124:136])
            if _number(header[148:156]) != sum(header[:148]) + sum(header[156:]) + 8 * ord(" "):
                raise BrokenArchive("a header's checksum is wrong")
            match kind:
                case b"x":
                    extended.update(_records(self._extension(size)))
                case b"L":
                    extended[b"path"] = self._extension(size).partition(b"\0")[0]
                case b"K":
                    extended[b"linkpath"] = self._extension(size).partition(b"\0")[0]
                case b"g" | b"S":
                    raise BrokenArchive("it uses a feature that engines do not write")
                case _:
                    return self._described(header, kind, size, extended)
        raise BrokenArchive("it has too many extended headers")

    def _described(
        self, header: bytes, kind: bytes, size: int, extended: dict[bytes, bytes]
    ) -> Entry:
        if any(key.startswith(b"GNU.sparse") for key in extended):
            raise BrokenArchive("it uses a feature that engines do not write")
        name = _text(header[:100])
        if header[257:263] == b"ustar\0" and header[345] != 0:
            name = _text(header[345:500]) + b"/" + name
        name = extended.get(b"path", name)
        if b"size" in extended:
            if not _SIZE.fullmatch(extended[b"size"]):
                raise BrokenArchive("a size is not a number")
            size = int(extended[b"size"])
        if kind not in _WITHOUT_CONTENT:
            self._left, self._padding = size, -size % BLOCK_BYTES
        known = _KINDS.get(kind, Kind.OTHER)
        if kind == b"\0" and name.endswith(b"/"):  # as before tar had a type for directories
            known = Kind.DIRECTORY
        return Entry(
            name=name.decode("utf-8", "surrogateescape"),
            kind=known,
            mode=_number(header[100:108]),
            size=size,
            mtime=_mtime(header, extended),
            link=extended.get(b"linkpath", _text(header[157:257])).decode(
                "utf-8", "surrogateescape"
            ),
        )

    def _extension(self, size: int) -> bytes:
        if size > MAX_EXTENSION_BYTES:
            raise BrokenArchive("an extended header is too long")
        content = self._exactly(size)
        self._skip(-size % BLOCK_BYTES)
        return content

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise Truncated("it is truncated")
        return data

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._exactly(min(size, CHUNK_BYTES)))


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """A number in octal digits or, for large values, in GNU's binary form."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise BrokenArchive("a number in a header is malformed")
    return int(match[1] or b"0", 8)


def _mtime(header: bytes, extended: dict[bytes, bytes]) -> int:
    """The modification time, clamped to what file systems support."""
    if b"mtime" in extended:
        match = _SECONDS.fullmatch(extended[b"mtime"])
        if match is None:
            raise BrokenArchive("a time is not a number")
        seconds = int(match[1])
    elif header[136] == 0xFF:  # before 1970
        seconds = 0
    else:
        seconds = _number(header[136:148])
    return max(0, min(seconds, 2**33))


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The lines of a pax header: each is its own length in bytes, a space, and KEY=VALUE."""
    position = 0
    while position < len(content) and content[position]:
        match = _RECORD.match(content, position)
        end = position + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(content) or content[end - 1] != 0x0A:
            raise BrokenArchive("an extended header is malformed")
        key, equals, value = content[match.end() : end - 1].partition(b"=")
        if not equals:
            raise BrokenArchive("an extended header is malformed")
        yield key, value
        position = end
