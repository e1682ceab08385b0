"""The stderr of a Claude Code, as a pipe that the test writes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from claude_mcp.agent.turns import stderr
from claude_mcp.agent.turns.stderr import Stderr

LOGGED = "2026-11-29T11:22:55.537Z [ERROR] "


class Written:
    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        self.stderr = Stderr(os.fdopen(reading, "rb", buffering=0))
        self._thread = threading.Thread(target=self.stderr.drain)
        self._thread.start()

    def write(self, text: str) -> None:
        os.write(self._writing, text.encode())

    def close(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
        self._writing = -1
        self._thread.join()


@pytest.fixture
def written() -> Iterator[Written]:
    written = Written()
    yield written
    written.close()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (["one\n", "two"], "one\ntwo"),
        ([f"{LOGGED}noise\nthe reason\n{LOGGED}more noise\n"], "the reason"),
        (["the reason\n", LOGGED[:10], LOGGED[10:], "noise"], "the reason"),
        ([f"{LOGGED}{'x' * stderr.MAX_LINE_BYTES}", "xx\nthe reason"], "the reason"),
        (["x" * 2 * stderr.MAX_LINE_BYTES, "\nthe reason"], "the reason"),
    ],
)
def test_last_words_are_those_outside_the_debug_log(
    written: Written, parts: list[str], words: str
) -> None:
    for part in parts:
        written.write(part)
    written.close()
    assert written.stderr.last_words[-len(words) :] == words
    assert LOGGED not in written.stderr.last_words


def test_the_words_about_a_failed_request_may_arrive_late_and_are_given_out_once(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stderr, "WORDS_SECONDS", 20.0)
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(written.stderr.words_about(2)))
    asking.start()
    written.write(f"{LOGGED}API error (attempt 1/11): 403 403 earlier\n")
    written.write(f"{LOGGED}API error (attempt 2/11): 403 403 the token is invalid\n")
    asking.join()
    assert found == ["the token is invalid"]
    monkeypatch.setattr(stderr, "WORDS_SECONDS", 0.0)
    assert written.stderr.words_about(2) == ""
