"""The reader of tar streams: what engines write it understands, all else it refuses, cheaply."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from typing import Any

import pytest

from claude_mcp.sessions.files.tar import (
    MAX_EXTENSION_BYTES,
    MAX_EXTENSIONS,
    BrokenArchive,
    Entry,
    Kind,
    TarReader,
    Truncated,
)

END = bytes(1024)


def header(name: str = "f", kind: bytes = b"0", size: int = 0, **fields: Any) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(*records: bytes) -> bytes:
    """An extended header of these KEY=VALUE records."""
    content = b""
    for record in records:
        length = len(record) + 2
        while len(str(length)) + len(record) + 2 != length:
            length = len(str(length)) + len(record) + 2
        content += b"%d %s\n" % (length, record)
    return header("x", b"x", len(content)) + padded(content)


def read(data: bytes) -> list[tuple[Entry, bytes]]:
    """Every entry and its content."""
    found = []
    with TarReader(io.BytesIO(data)) as archive:
        for entry in archive:
            buffer, content = memoryview(bytearray(1000)), b""
            while count := archive.read_into(buffer):
                content += bytes(buffer[:count])
            found.append((entry, content))
        archive.finish()
    return found


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["f", "d/" * 60 + "f", "é" * 40, "x" * 100, "a" * 99 + "/b"])
def test_archives_written_by_python_are_read(format: int, name: str) -> None:
    content = bytes(range(256)) * 9
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as made:
        for kind in (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime, info.linkname = kind, 0o640, 1_000_000_000, "target"
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            made.addfile(info, io.BytesIO(content))
    kinds = [Kind.FILE, Kind.DIRECTORY, Kind.LINK, Kind.HARD_LINK]
    read_ = read(buffer.getvalue())
    assert [
        (entry.name.rstrip("/"), entry.kind, entry.mode, entry.mtime) for entry, _ in read_
    ] == [(name, kind, 0o640, 1_000_000_000) for kind in kinds]
    assert [content_ for _, content_ in read_] == [content, b"", b"", b""]
    assert [entry.link for entry, _ in read_[2:]] == ["target", "target"]


def test_an_extended_header_supplies_long_values() -> None:
    extended = pax(b"path=a\nb", b"size=3", b"mtime=12.75", b"linkpath=l", b"SCHILY.xattr.a==\0=")
    entries = read(extended + header("short", size=900) + padded(b"abc") + END)
    assert entries == [(Entry("a\nb", Kind.FILE, 0o644, 3, 12, "l"), b"abc")]


def test_an_extended_header_applies_to_one_entry() -> None:
    assert [e.name for e, _ in read(pax(b"path=long") + header("a") + header("b") + END)] == [
        "long",
        "b",
    ]


def test_gnus_long_names_are_read() -> None:
    long = header("L", b"L", 300) + padded(b"n" * 299 + b"\0")
    link = header("K", b"K", 4) + padded(b"far\0")
    assert [(e.name, e.link) for e, _ in read(long + link + header("s", b"2") + END)] == [
        ("n" * 299, "far")
    ]


def test_unread_content_is_skipped() -> None:
    data = header("a", size=1000) + padded(bytes(1000)) + header("b", size=1) + padded(b"b") + END
    with TarReader(io.BytesIO(data)) as archive:
        assert [entry.name for entry in archive] == ["a", "b"]


@pytest.mark.parametrize(
    ("mtime", "expected"), [(b"-5", 0), (b"0", 0), (b"99999999999", 2**33), (b"7.", 7)]
)
def test_unsupported_times_are_clamped(mtime: bytes, expected: int) -> None:
    assert read(pax(b"mtime=" + mtime) + header() + END)[0][0].mtime == expected
    assert read(header(mtime=-1) + END)[0][0].mtime == 0
    assert read(header(mtime=2**60) + END)[0][0].mtime == 2**33


def test_unknown_types_are_recognized_and_their_content_is_skipped() -> None:
    data = header("v", b"V", 5) + padded(b"12345") + header("c", b"3") + header("d/", b"\0") + END
    assert [(entry.name, entry.kind) for entry, _ in read(data)] == [
        ("v", Kind.OTHER), ("c", Kind.OTHER), ("d/", Kind.DIRECTORY),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"x" * 512, "a number in a header is malformed"),
        (header()[:148] + b"0000000\0" + header()[156:], "a header's checksum is wrong"),
        (header("g", b"g", 0), "it uses a feature that engines do not write"),
        (header("S", b"S", 0), "it uses a feature that engines do not write"),
        (pax(b"GNU.sparse.major=1") + header(), "it uses a feature that engines do not write"),
        (header("x", b"x", MAX_EXTENSION_BYTES + 1), "an extended header is too long"),
        (header("x", b"x", 2**70), "an extended header is too long"),
        (header("L", b"L", 2**40), "an extended header is too long"),
        (header("x", b"x", 8) + padded(b"9 a=bcd\n"), "an extended header is malformed"),
        (header("x", b"x", 8) + padded(b"3 a=bcd\n"), "an extended header is malformed"),
        (header("x", b"x", 8) + padded(b"8 abcde\n"), "an extended header is malformed"),
        (header("x", b"x", 8) + padded(b"x a=bcd\n"), "an extended header is malformed"),
        (header("x", b"x", 8) + padded(b"-8 a=bc\n"), "an extended header is malformed"),
        (pax(b"size=-1") + header(), "a size is not a number"),
        (pax(b"size=1_0") + header(), "a size is not a number"),
        (pax(b"mtime=nan") + header(), "a time is not a number"),
        (pax(b"a=b") * (MAX_EXTENSIONS + 1) + header(), "it has too many extended headers"),
        (pax(b"a=b") * 10_000, "it has too many extended headers"),
    ],
)
def test_unsupported_features_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(BrokenArchive) as caught:
        read(data + END)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    "data",
    [b"", b"x", bytes(511), header()[:511], header(), header(size=1), header(size=2**70),
     header(size=600) + bytes(599), header("L", b"L", 10) + b"12345", pax(b"a=b")],
)  # fmt: skip
def test_a_truncated_archive_is_reported(data: bytes) -> None:
    with pytest.raises(Truncated, match="it is truncated"):
        read(data)


def test_memory_does_not_grow_with_the_stream() -> None:
    one = pax(b"path=" + b"n" * 900, b"comment=" + b"c" * 5000) + header("a", size=512) + bytes(512)

    class Stream(io.RawIOBase):
        left = 20_000
        rest = b""

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            while len(self.rest) < len(buffer) and self.left:
                self.left -= 1
                self.rest += one if self.left else END
            data, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
            buffer[: len(data)] = data
            return len(data)

    tracemalloc.start()
    try:
        with TarReader(Stream()) as archive:  # type: ignore[arg-type]
            count = sum(1 for _ in archive)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 19_999
    assert peak < 2_000_000
