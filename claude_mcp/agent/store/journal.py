"""What happened in the session's turns, as numbered events in a file that is bounded by rotation.

Whatever runs in the session can write to the file too, so what is read from it is checked, and
nothing but the numbers is relied on.
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
from claude_mcp.contract.redaction import redactor

Event = dict[str, Any]
"""number, time (UTC, RFC 3339), turnId (None: the session's own), kind, text, leftOut (characters
of the text that are not here)."""

SEGMENT_BYTES = 16 * 1024 * 1024
MAX_TEXT_CHARACTERS = 6 * 1024 * 1024
MAX_LINE_BYTES = 6 * MAX_TEXT_CHARACTERS + 4096
"""JSON takes at most six bytes for a character."""
INDEX_BYTES = 4 * 1024
"""What is read for nothing, at most, each time that somebody is told of a new event."""
READ_BYTES = 256 * 1024
CURRENT = "journal.jsonl"
OLD = "journal.old.jsonl"


class Segment:
    """One file of the journal; it stays open, so that its name may point elsewhere meanwhile."""

    def __init__(self, path: str) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.close(self._descriptor)
            raise OSError(f"{path} is no file")
        self.last = 0
        # Number and offset of about one event in INDEX_BYTES.
        self._index: list[tuple[int, int]] = []
        for event, offset in self._scan(0, 0):
            self._remember(event["number"], offset)

    def _remember(self, number: int, offset: int) -> None:
        self.last = number
        if not self._index or offset - self._index[-1][1] >= INDEX_BYTES:
            self._index.append((number, offset))

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def append(self, number: int, line: bytes) -> None:
        offset = self.size
        while self._index and self._index[-1][1] >= offset:  # somebody cut the file
            self._index.pop()
        if offset and os.pread(self._descriptor, 1, offset - 1) != b"\n":
            line = b"\n" + line  # behind a fragment, as a full disk leaves it
        data = memoryview(line)
        while data:
            data = data[os.write(self._descriptor, data) :]
        self._remember(number, offset)

    def events(self, after: int) -> Iterator[Event]:
        """Those with higher numbers, in order."""
        at = bisect.bisect_right(self._index, (after + 1, -1))
        offset = self._index[at - 1][1] if at else 0
        for event, _ in self._scan(offset, after):
            yield event

    def _scan(self, offset: int, after: int) -> Iterator[tuple[Event, int]]:
        """Events with higher numbers and where their lines begin, from the line at ``offset``."""
        lines = Splitter(MAX_LINE_BYTES)
        while data := os.pread(self._descriptor, READ_BYTES, offset + lines.pending):
            try:
                for line in lines.feed(data):
                    event = parse(line)
                    if event is not None and event["number"] > after:
                        after = event["number"]
                        yield event, offset
                    offset += len(line) + 1
            except LineTooLong:  # the agent writes no such line
                return

    def close(self) -> None:
        os.close(self._descriptor)


def parse(line: bytes) -> Event | None:
    """An event, or None for what is none."""
    try:
        event = json.loads(line)
        number, text, turn = event["number"], event["text"], event["turnId"]
        fine = (
            isinstance(number, int)
            and 0 < number < 2**53
            and isinstance(text, str)
            and (turn is None or isinstance(turn, str))
        )
        if not fine:
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
    """Not safe for several threads at once: the lock is its owner's."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._segments: list[Segment] = []
        self._broken = False
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
            log(f"the journal cannot be written: {error}")
        self._broken = True

    def append(self, turn_id: str | None, kind: str, text: str) -> int:
        """Returns the event's number; what cannot be written is missing from then on."""
        self.last += 1
        text = redactor.redact(text)
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
        self, after: int, turn_id: str | None, most: int, characters: int
    ) -> tuple[list[Event], int]:
        """Up to ``most`` events of a turn, and of the session itself, behind the number ``after``.

        Returns them, their texts cut to ``characters``, and the number to go on from.
        """
        found: list[Event] = []
        cursor = after
        for segment in self._segments:
            if segment.last <= after:
                continue
            for event in segment.events(after):
                if len(found) == most:
                    return found, cursor
                cursor = event["number"]
                if event["turnId"] in (turn_id, None):
                    text = event["text"]
                    event.update(text=text[:characters], leftOut=max(0, len(text) - characters))
                    found.append(event)
        return found, max(cursor, after)

    def get(self, number: int) -> Event | None:
        """One event, whole; None when it is gone."""
        for segment in self._segments:
            if segment.last >= number:
                event: Event | None = next(segment.events(number - 1), None)
                return event if event is not None and event["number"] == number else None
        return None
