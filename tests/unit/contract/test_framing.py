"""Lines of a stream, however it is cut."""

from __future__ import annotations

from collections.abc import Iterable

from claude_mcp.contract.framing import LineTooLong, Splitter


def lines_of(splitter: Splitter, pieces: Iterable[bytes]) -> list[bytes | type[LineTooLong]]:
    """What a reader sees that goes on behind a line that is too long."""
    seen: list[bytes | type[LineTooLong]] = []
    for piece in pieces:
        try:
            seen.extend(splitter.feed(piece))
        except LineTooLong:
            seen.append(LineTooLong)
    return seen


def test_lines_come_without_their_newlines_and_an_unfinished_one_is_kept() -> None:
    splitter = Splitter(100)
    assert lines_of(splitter, [b"one\n\ntw", b"o\nthr"]) == [b"one", b"", b"two"]
    assert splitter.pending == 3
    assert lines_of(splitter, [b"ee\r\n"]) == [b"three\r"]
    assert splitter.pending == 0


def test_a_line_that_is_too_long_is_reported_once_and_skipped_to_its_end() -> None:
    splitter = Splitter(4)
    pieces = [b"one\nfar t", b"oo lo", b"ng", b", this\ntwo\n"]
    assert lines_of(splitter, pieces) == [b"one", LineTooLong, b"two"]


def test_a_line_of_just_the_bound_is_not_too_long() -> None:
    splitter = Splitter(4)
    assert lines_of(splitter, [b"four", b"\nfive!", b"\n"]) == [b"four", LineTooLong]


def test_the_rest_of_a_line_that_is_too_long_takes_no_memory() -> None:
    splitter = Splitter(4)
    assert lines_of(splitter, [b"far too long", b"x" * 1000]) == [LineTooLong]
    assert splitter.pending == 0


def test_after_a_reset_the_stream_begins_anew() -> None:
    splitter = Splitter(4)
    assert lines_of(splitter, [b"abc"]) == []
    splitter.reset()
    assert lines_of(splitter, [b"d\n"]) == [b"d"]
    assert lines_of(splitter, [b"far too long"]) == [LineTooLong]
    splitter.reset()
    assert lines_of(splitter, [b"d\n"]) == [b"d"]
