"""Forged, huge and broken bundles. A control shows that the plain one of the same kind is taken."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path

import pytest

from claude_mcp.errors import WorkRefused
from claude_mcp.sessions.git import bundle as bundles
from claude_mcp.sessions.git.bundle import Bundle, Stopped, check_sizes, opened, read
from tests.unit.sessions.git.conftest import entry, number, pack

TIP = "a" * 40
BLOB, OFS_DELTA, REF_DELTA = 3, 6, 7
HEADER = f"# v2 git bundle\n-{'b' * 40} base\n{TIP} refs/heads/x\n\n"


def scan(path: Path, content: bytes, branch: str = "x", object_format: str = "sha1") -> int:
    path.write_bytes(content)
    with opened(str(path)) as file:
        header = read(file, branch, object_format)
        return check_sizes(file, header, object_format, threading.Event())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


def refusal(path: Path, content: bytes) -> str:
    with pytest.raises(WorkRefused) as refused:
        scan(path, content)
    return refused.value.message


def test_a_plain_bundle_is_measured(path: Path) -> None:
    delta = number(5) + number(700) + b"rest"
    objects = (
        entry(BLOB, b"hello"),
        entry(BLOB, b""),
        entry(BLOB, os.urandom(300_000)),
        entry(OFS_DELTA, delta, between=b"\x81\x05"),
        entry(REF_DELTA, delta, between=bytes(20)),
    )
    total = 5 + 300_000 + 2 * (len(delta) + 700)
    assert scan(path, HEADER.encode() + pack(*objects)) == total
    with opened(str(path)) as file:
        assert read(file, "x", "sha1") == Bundle(TIP, len(HEADER), 5, path.stat().st_size)


def test_version_three_states_its_object_format(path: Path) -> None:
    tip = "c" * 64
    body = b"PACK" + (2).to_bytes(4, "big") + (0).to_bytes(4, "big")
    content = f"# v3 git bundle\n@object-format=sha256\n{tip} refs/heads/x\n\n".encode()
    content += body + hashlib.sha256(body).digest()
    assert scan(path, content, object_format="sha256") == 0
    assert "uses sha1" in refusal(path, content)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "not a git bundle"),
        ("# v4 git bundle\n\n", "not a git bundle"),
        ("# v2 git bundle\n", "header is too long or cut off"),
        ("# v2 git bundle\n\n", "0 refs"),
        (f"# v2 git bundle\n{TIP} refs/heads/y\n\n", "another ref than x"),
        (f"# v2 git bundle\n{TIP} HEAD\n\n", "another ref than x"),
        (f"# v2 git bundle\n{TIP} refs/heads/x\n{TIP} refs/heads/x\n\n", "2 refs"),
        (f"# v2 git bundle\n{TIP} refs/heads/x\n{TIP} refs/heads/--upload-pack=x\n\n", "another"),
        (f"# v2 git bundle\n{TIP[:39]} refs/heads/x\n\n", "header is broken"),
        (f"# v2 git bundle\n@object-format=sha1\n{TIP} refs/heads/x\n\n", "header is broken"),
        (f"# v3 git bundle\n@filter=blob:none\n{TIP} refs/heads/x\n\n", "has a filter"),
        (f"# v3 git bundle\n@object-format=sha256\n{TIP} refs/heads/x\n\n", "uses sha1"),
        (f"# v2 git bundle\n{'a' * 64} refs/heads/x\n\n", "uses sha1"),
        ("# v2 git bundle\n" + "".join(f"{TIP} refs/heads/{n}\n" for n in range(10_000)) + "\n",
         "too long"),
        ("# v2 git bundle\n" + f"{TIP} refs/heads/x\n" * 2_000 + "\n", "2000 refs"),
        ("# v2 git bundle\n" + f"-{TIP}\n" * 1_001 + f"{TIP} refs/heads/x\n\n", "1000 other"),
    ],
)  # fmt: skip
def test_a_header_with_anything_else_is_refused(path: Path, header: str, reason: str) -> None:
    assert reason in refusal(path, header.encode() + pack(entry(BLOB, b"x")))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no pack"),
        (b"PAC", "no pack"),
        (b"JUNK" + bytes(40), "no pack"),
        (pack(version=4), "no pack"),
        (pack(count=2_000_001), "2000001 objects"),
        (pack(count=0xFFFFFFFF), "4294967295 objects"),
        (pack(entry(BLOB, b"x"), count=2), "broken"),
        (pack(entry(BLOB, b"x"), count=0), "does not end"),
        (pack(entry(BLOB, b"x"))[:-1], "does not end"),
        (pack(entry(BLOB, b"x"))[:-21], "cut off"),
        (pack(entry(BLOB, b"x")) + b"x", "does not end"),
        (pack(entry(0, b"x")), "unknown kind"),
        (pack(entry(5, b"x")), "unknown kind"),
        (pack(entry(BLOB, b"x", size=2)), "another size"),
        (pack(entry(BLOB, b"xxx", size=2)), "another size"),
        (pack(b"\x31garbage-garbage-garbage"), "garbage"),
        (pack(b"\xff" * 40), "absurd size"),
        (pack(entry(OFS_DELTA, b"x", between=b"\xff" * 20)), "absurd offset"),
        (pack(entry(OFS_DELTA, b"\x80", between=b"\x01")), "delta without sizes"),
        (pack(entry(OFS_DELTA, b"\xff" * 30, between=b"\x01")), "absurd size"),
        (pack(entry(BLOB, b"x", size=2**30)), "object of 1073741824 bytes"),
        (pack(entry(OFS_DELTA, number(1) + number(2**40), between=b"\x01")), "1099511627776 bytes"),
    ],
)
def test_a_forged_pack_is_refused(path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(path, HEADER.encode() + content)


def test_an_object_that_unpacks_to_more_than_allowed_is_refused_before_it_is_unpacked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = HEADER.encode() + pack(entry(BLOB, bytes(3_000_000)))
    assert len(bomb) < 4_000
    assert scan(path, bomb) == 3_000_000
    monkeypatch.setattr(bundles, "MAX_OBJECT_BYTES", 2_999_999)
    monkeypatch.setattr(bundles, "zlib", None)
    assert "object of 3000000 bytes" in refusal(path, bomb)


def test_an_object_that_hides_its_size_is_inflated_only_a_little_further(path: Path) -> None:
    bomb = HEADER.encode() + pack(entry(BLOB, bytes(50_000_000), size=1))
    assert "another size" in refusal(path, bomb)


def test_all_objects_and_all_deltas_count(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delta = entry(OFS_DELTA, number(1) + number(1_000), between=b"\x01")
    content = HEADER.encode() + pack(*[delta] * 3)
    total = scan(path, content)
    monkeypatch.setattr(bundles, "MAX_UNPACKED_BYTES", total - 1)
    assert f"more than {total - 1} bytes" in refusal(path, content)


def test_random_bytes_and_every_truncation_are_refused(path: Path) -> None:
    dice = random.Random(7)
    plain = HEADER.encode() + pack(
        entry(BLOB, b"hello"), entry(REF_DELTA, number(1) + number(9), between=bytes(20))
    )
    scan(path, plain)
    for length in range(len(plain)):
        refusal(path, plain[:length])
    for _ in range(500):
        refusal(path, HEADER.encode() + b"PACK\0\0\0\2\0\0\0\5" + dice.randbytes(200))
        refusal(path, dice.randbytes(200))


def test_links_devices_and_large_files_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(HEADER.encode() + pack())
    link = path.with_name("link")
    link.symlink_to(path)
    fifo = path.with_name("fifo")
    os.mkfifo(fifo)
    for each in (link, fifo, path.parent, path.with_name("missing"), Path("/dev/zero")):
        with pytest.raises(WorkRefused), opened(str(each)):
            pass
    monkeypatch.setattr(bundles, "MAX_BUNDLE_BYTES", 10)
    assert "at most 10" in refusal(path, HEADER.encode() + pack())


def test_reading_stops_when_asked(path: Path) -> None:
    stop = threading.Event()
    stop.set()
    path.write_bytes(HEADER.encode() + pack(entry(BLOB, b"x")))
    with opened(str(path)) as file, pytest.raises(Stopped):
        check_sizes(file, read(file, "x", "sha1"), "sha1", stop)
