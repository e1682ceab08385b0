"""A command's output: in the order of its arrival, bounded on disk, never lost silently."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_mcp.agent.commands import output
from claude_mcp.agent.commands.output import ERR, HEADER, OUT, Output, segments
from claude_mcp.contract.redaction import redactor


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MEMORY_BYTES", 100)
    monkeypatch.setattr(output, "SEGMENT_BYTES", 200)
    monkeypatch.setattr(output, "PART_BYTES", 40)
    monkeypatch.setattr(output, "FRAME_BYTES", 80)


def read_all(kept: Output, cursor: int = 0, limit: int = 50) -> tuple[bytes, int]:
    """All that is kept after a cursor, and how much is missing."""
    data, missing = b"", 0
    while cursor < kept.end:
        frames, cursor, gap = kept.read(cursor, limit)
        data += b"".join(part for _, part in frames)
        missing += gap
    return data, missing


def test_a_little_output_needs_no_file_and_keeps_its_order(tmp_path: Path) -> None:
    kept = Output(str(tmp_path / "c"))
    kept.write(OUT, b"one\n")
    kept.write(ERR, b"two\n")
    kept.write(OUT, b"three\n")
    frames, cursor, missing = kept.read(0, 1000)
    assert frames == [(OUT, b"one\n"), (ERR, b"two\n"), (OUT, b"three\n")]
    assert (cursor, missing) == (kept.end, 0)
    assert kept.read(cursor, 1000) == ([], cursor, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [1, 7, 50, 10_000])
def test_parts_of_any_size_make_the_whole(tmp_path: Path, limit: int) -> None:
    kept = Output(str(tmp_path))
    said = b"".join(b"line %d\n" % number for number in range(30))
    for line in said.splitlines(keepends=True):
        kept.write(OUT, line)
    assert kept.is_stored
    assert read_all(kept, limit=limit) == (said, 0)


def test_old_output_is_dropped_and_that_is_told(tmp_path: Path) -> None:
    kept = Output(str(tmp_path))
    lines = [b"line %03d\n" % number for number in range(1000)]
    for line in lines:
        kept.write(OUT, line)
    data, missing = read_all(kept)
    assert b"".join(lines).endswith(data)
    assert 200 < len(data) < 400
    assert missing + len(data) // 9 * (9 + HEADER.size) == kept.end
    assert len(list(tmp_path.iterdir())) == 2


def test_output_is_found_again_by_another_process(tmp_path: Path) -> None:
    kept = Output(str(tmp_path))
    for number in range(30):
        kept.write(ERR if number % 2 else OUT, b"line %d\n" % number)
    again = Output(str(tmp_path), segments(str(tmp_path)))
    assert again.end == kept.end
    assert read_all(again) == read_all(kept)


def test_what_cannot_be_written_is_a_gap_and_the_rest_is_kept(tmp_path: Path) -> None:
    kept = Output(str(tmp_path / "c"))
    kept.store()
    (tmp_path / "c").write_text("in the way")
    kept.write(OUT, b"lost\n")
    (tmp_path / "c").unlink()
    kept.write(OUT, b"kept\n")
    assert kept.read(0, 100) == ([(OUT, b"kept\n")], kept.end, HEADER.size + 5)


@pytest.mark.parametrize("forged", ["remove", "cut", "link", "garbage", "fifo"])
def test_files_that_the_session_tampered_with_are_a_gap(tmp_path: Path, forged: str) -> None:
    kept = Output(str(tmp_path))
    kept.store()
    kept.write(OUT, b"one\n")
    path = tmp_path / "0"
    if forged == "cut":
        path.write_bytes(path.read_bytes()[:-2])
    elif forged == "garbage":
        path.write_bytes(b"\xff" * 100)
    else:
        path.unlink()
    if forged == "link":
        (tmp_path / "secret").write_bytes(HEADER.pack(OUT, 4) + b"that")
        path.symlink_to(tmp_path / "secret")
    elif forged == "fifo":
        os.mkfifo(path)
    assert kept.read(0, 100) == ([], kept.end, kept.end)
    kept.write(OUT, b"two\n")
    assert len(read_all(kept)[0]) <= 100


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_character_is_never_split_between_two_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(output, "SEGMENT_BYTES", 10_000)
    kept = Output(str(tmp_path))
    text = "aé€🎉" * 20
    data = text.encode()
    for start in range(0, len(data), size):
        kept.write(OUT, data[start : start + size])
    kept.write(OUT, b"", is_last=True)
    frames, _, _ = kept.read(0, 10_000)
    assert "".join(part.decode() for _, part in frames) == text


def test_bytes_that_are_no_text_are_kept_as_they_are(tmp_path: Path) -> None:
    kept = Output(str(tmp_path))
    data = bytes(range(256)) + b"\xf0\x9f"
    kept.write(OUT, data)
    kept.write(OUT, b"", is_last=True)
    assert read_all(kept) == (data, 0)


def test_a_secret_is_not_kept_whole_or_in_parts(tmp_path: Path) -> None:
    key = "sk-in-kept-output-" + "0123456789" * 3
    redactor.add(key)
    kept = Output(str(tmp_path))
    kept.store()
    kept.write(OUT, f"{key}\n".encode())
    kept.write(OUT, ("x" * 25 + key).encode())
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"kept-output" not in data
    assert b"0123456789" not in data
