"""Claude Code's stderr: its last words, and the failed requests in its debug log."""

from __future__ import annotations

import os
import threading
from typing import IO

from claude_mcp.claude import debug_log
from claude_mcp.contract.capture import BoundedCapture

CAPTURE_BYTES = 16 * 1024
READ_BYTES = 16 * 1024
MAX_LINE_BYTES = 64 * 1024
"""Longer lines are handled in parts."""
LAST_WORDS_CHARACTERS = 2000
WORDS_SECONDS = 0.3
"""How much later than its frame the line about a failed request may arrive."""


class Stderr:
    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._changed = threading.Condition()
        self._capture = BoundedCapture(CAPTURE_BYTES)
        self._unfinished = b""
        self._logging = False
        """Whether what follows continues a line of the debug log."""
        self._failed: debug_log.ApiError | None = None

    def drain(self) -> None:
        """Read until every process that holds the pipe has closed it."""
        with self._pipe as pipe:
            while data := os.read(pipe.fileno(), READ_BYTES):
                with self._changed:
                    self._take(data)
                    self._changed.notify_all()

    def _take(self, data: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        for line in lines:
            self._sort(line + b"\n")
        if len(self._unfinished) > MAX_LINE_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._sort(self._unfinished)
        self._unfinished = b""

    def _sort(self, part: bytes) -> None:
        """Tell the debug log from the rest. A part without a newline goes on in the next one."""
        if not self._logging and debug_log.is_line(part):
            self._logging = True
            self._failed = debug_log.api_error(part) or self._failed
        elif not self._logging:
            self._capture.write(part)
        if part.endswith(b"\n"):
            self._logging = False

    @property
    def last_words(self) -> str:
        """The end of it, without the debug log."""
        with self._changed:
            self._flush()
            return self._capture.text().strip()[-LAST_WORDS_CHARACTERS:]

    def words_about(self, attempt: int) -> str:
        """What the service said when this attempt failed; empty if that is not known in time.

        Words are given out once, because a later request counts its attempts anew.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._failed is not None and self._failed.attempt == attempt, WORDS_SECONDS
            )
            failed, self._failed = self._failed, None
        return "" if failed is None else failed.words
