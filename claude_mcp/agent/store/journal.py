"""Records the events of the session's turns, numbered, in a file that rotation keeps bounded.

Processes of the session can write to the file too. Lines are therefore checked when they are
read, and only their numbers are relied on.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator
from typing import Any

from claude_mcp.agent.store.state import log
from claude_mcp.contract.framing import LineTooLong, Splitter
from claude_mcp.contract.numbers import LARGEST
from claude_mcp.contract.redaction import redactor

Event = dict[str, Any]
"""A ``JournalEvent`` as JSON; ``turnId`` is None for an event of the session itself."""

SEGMENT_BYTES = 16 * 1024 * 1024
MAX_TEXT_CHARACTERS = 6 * 1024 * 1024
MAX_LINE_BYTES = 6 * MAX_TEXT_CHARACTERS + 4096
"""JSON needs at most six bytes for a character."""
INDEX_BYTES = 4 * 1024
"""Upper bound on the bytes that are read again for each new event."""
READ_BYTES = 256 * 1024
STEP_KINDS = frozenset({"message", "tool_call", "api_retry", "note", "permission"})
"""Kinds of events that say what Claude is doing."""
STEP_CHARACTERS = 1000
CURRENT = "journal.jsonl"
OLD = "journal.old.jsonl"


class Segment:
    """One file of the journal. It stays open, so it may be renamed in the meantime."""

    def __init__(self, path: str) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.close(self._descriptor)
            raise OSError(f"{path} is not a regular file")
        self.last = 0
        # The number and offset of about one event in each INDEX_BYTES.
        self._index: list[tuple[int, int]] = []
        for event, offset in self._scan(0, 0):
            self._remember(event["number"], offset)

    def _remember(self, number: int, offset: int) -> None:
        self.last = number
        if not self._index or offset - self._index[-1][1] >= INDEX_BYTES:
            self._index.append((number, offset))

    @property
    def oldest(self) -> int:
        """The number of its first event; 0 if it has none."""
        return self._index[0][0] if self._index else 0

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def append(self, number: int, line: bytes) -> None:
        offset = self.size
        while self._index and self._index[-1][1] >= offset:  # the file was truncated
            self._index.pop()
        if offset and os.pread(self._descriptor, 1, offset - 1) != b"\n":
            line = b"\n" + line  # after a fragment that a full disk left behind
        data = memoryview(line)
        while data:
            data = data[os.write(self._descriptor, data) :]
        self._remember(number, offset)

    def events(self, after: int) -> Iterator[Event]:
        """The events with numbers above ``after``, in order."""
        at = bisect.bisect_right(self._index, (after + 1, -1))
        offset = self._index[at - 1][1] if at else 0
        for event, _ in self._scan(offset, after):
            yield event

    def _scan(self, offset: int, after: int) -> Iterator[tuple[Event, int]]:
        """The events above ``after`` with their lines' offsets, from the line at ``offset``."""
        lines = Splitter(MAX_LINE_BYTES)
        while data := os.pread(self._descriptor, READ_BYTES, offset + lines.pending):
            try:
                for line in lines.feed(data):
                    event = parse(line)
                    if event is not None and event["number"] > after:
                        after = event["number"]
                        yield event, offset
                    offset += len(line) + 1
            except LineTooLong:  # the agent never writes such a line
                return

    def close(self) -> None:
        os.close(self._descriptor)


def parse(line: bytes) -> Event | None:
    """The event in a line; None if there is none."""
    try:
        event = json.loads(line)
        number, text, turn = event["number"], event["text"], event["turnId"]
        valid = (
            isinstance(number, int)
            and 0 < number < LARGEST
            and isinstance(text, str)
            and (turn is None or isinstance(turn, str))
        )
        if not valid:
            return None
        return {
            "number": number,
            "time": str(event["time"])[:40],
            "turnId": turn,
            "kind": str(event["kind"])[:40],
            "text": text,
            "leftOut": 0,
        }
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


class Journal:
    """Not thread-safe: its owner must hold a lock."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._segments: list[Segment] = []
        self._broken = False
        self._step: tuple[str | None, str] | None = None
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            self._segments = [Segment(self._path(OLD)), Segment(self._path(CURRENT))]
        except OSError as error:
            self._give_up(error)
        self.last = max((segment.last for segment in self._segments), default=0)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _give_up(self, error: OSError) -> None:
        if not self._broken:
            log(f"could not write the journal: {error}")
        self._broken = True

    def append(self, turn_id: str | None, kind: str, text: str) -> int:
        """Returns the event's number. An event that cannot be written is lost."""
        self.last += 1
        text = redactor.redact(text)
        if kind in STEP_KINDS:
            self._step = (turn_id, text[:STEP_CHARACTERS])
        cut = text[:MAX_TEXT_CHARACTERS]
        if len(cut) < len(text):
            cut += f"\n[... {len(text) - len(cut)} characters left out ...]"
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        event = {"number": self.last, "time": moment, "turnId": turn_id, "kind": kind, "text": cut}
        line = json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        try:
            if self._segments:
                if self._segments[-1].size + len(line) > SEGMENT_BYTES:
                    self._rotate()
                self._segments[-1].append(self.last, line)
                self._broken = False
        except OSError as error:
            self._give_up(error)
        return self.last

    def _rotate(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.replace(self._path(CURRENT), self._path(OLD))
        current = Segment(self._path(CURRENT))
        self._segments.pop(0).close()
        self._segments.append(current)

    def read(
        self, after: int, turn_id: str | None, limit: int, characters: int
    ) -> tuple[list[Event], int]:
        """Up to ``limit`` events of a turn, and of the session itself, numbered above ``after``.

        Returns the events, with texts cut to ``characters``, and the number to continue from.
        """
        found: list[Event] = []
        cursor = after
        for segment in self._segments:
            if segment.last <= after:
                continue
            for event in segment.events(after):
                if len(found) == limit:
                    return found, cursor
                cursor = event["number"]
                if event["turnId"] in (turn_id, None):
                    text = event["text"]
                    event.update(text=text[:characters], leftOut=max(0, len(text) - characters))
                    found.append(event)
        return found, max(cursor, after)

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is kept, or else the next one's."""
        numbers = (segment.oldest for segment in self._segments)
        return next((number for number in numbers if number), self.last + 1)

    def step(self, turn_id: str | None = None) -> str:
        """The start of the latest event that says what Claude is doing, of a turn or of any.

        Empty if there was none since the start of the agent.
        """
        if self._step is None or turn_id not in (None, self._step[0]):
            return ""
        return self._step[1]

    def get(self, number: int) -> Event | None:
        """One event with its whole text; None if it no longer exists."""
        for segment in self._segments:
            if segment.last >= number:
                event: Event | None = next(segment.events(number - 1), None)
                return event if event is not None and event["number"] == number else None
        return None
