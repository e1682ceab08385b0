"""What is kept of long output."""

from __future__ import annotations

import pytest

from claude_mcp.contract.capture import BoundedCapture

ALPHABET = b"abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("limit", [2, 10, 11])
@pytest.mark.parametrize("chunk", [1, 3, 26])
def test_a_capture_is_the_same_however_the_data_comes(limit: int, chunk: int) -> None:
    capture = BoundedCapture(limit)
    for start in range(0, len(ALPHABET), chunk):
        capture.write(ALPHABET[start : start + chunk])
    half = limit // 2
    assert capture.value() == ALPHABET[:half] + ALPHABET[-half:]
    assert capture.dropped == len(ALPHABET) - 2 * half
    assert capture.total == len(ALPHABET)


def test_a_capture_that_is_just_full_drops_nothing() -> None:
    capture = BoundedCapture(4)
    capture.write(b"abcd")
    assert (capture.value(), capture.dropped) == (b"abcd", 0)


def test_the_text_says_how_much_is_missing_and_where() -> None:
    capture = BoundedCapture(8)
    capture.write(ALPHABET)
    assert capture.text() == "abcd\n[... 18 bytes left out ...]\nwxyz"
