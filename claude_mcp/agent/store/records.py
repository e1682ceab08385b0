"""The outcome of each turn, in one small file per turn that is kept as long as the session.

A record is written before its prompt is sent to Claude Code. After any crash it is therefore
known which prompts may have been sent. Processes of the session can write these files too, so
they are read as hostile input.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
import re
import time
from dataclasses import dataclass, field
from typing import Any

from claude_mcp.agent.store import files
from claude_mcp.agent.store.state import log
from claude_mcp.contract.numbers import amount

Result = dict[str, Any]

SUFFIX = ".json"
TURN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
KEPT_IN_MEMORY = 8
TEXT_CHARACTERS = 20_000
"""How much of a prompt a record keeps."""


def digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Record:
    """One turn. ``first`` and ``last`` are the numbers of the journal's events around it.

    Without a result it is running, or was when the agent ended. ``text`` is the beginning of the
    prompt, without secrets; ``at`` is when it was accepted, in seconds since 1970.
    """

    turn_id: str
    prompt: str
    """The prompt's digest; empty for a turn that Claude Code started by itself."""
    first: int
    last: int | None = None
    sent: bool = False
    result: Result | None = field(default=None)
    text: str = ""
    at: float = 0.0


class NotRecorded(Exception):
    """A record could not be written; the message says why."""


class Records:
    """Not thread-safe: its owner must hold a lock."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._recent: collections.OrderedDict[str, Record] = collections.OrderedDict()
        self._latest_ns = 0
        """The time of the record that was written last."""
        self._unwritten: dict[str, Record] = {}
        """Results that could not be written. On a full disk they are few, because no turn begins
        before it is recorded; a forged one may never be writable."""

    def _path(self, turn_id: str) -> str:
        return os.path.join(self._directory, turn_id + SUFFIX)

    def save(self, record: Record) -> None:
        """Write a record, so that it is known after any crash.

        Raises:
            NotRecorded: it could not be written, for example on a full disk.
        """
        self._write(record)
        for unwritten in list(self._unwritten.values()):
            self.keep(unwritten)

    def keep(self, record: Record) -> None:
        """The same for a result, which is kept in memory until it can be written."""
        try:
            self._write(record)
        except NotRecorded as error:
            log(f"could not write the record of turn {record.turn_id}: {error}")
            self._unwritten[record.turn_id] = record
            while len(self._unwritten) > KEPT_IN_MEMORY:
                del self._unwritten[next(iter(self._unwritten))]

    def _write(self, record: Record) -> None:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            text = json.dumps(vars(record), ensure_ascii=False)
            path = self._path(record.turn_id)
            files.replace(path, text.encode("utf-8", "replace"))
            # The kernel gives the same time to all that is written within some milliseconds.
            self._latest_ns = max(time.time_ns(), self._latest_ns + 1)
            os.utime(path, ns=(self._latest_ns, self._latest_ns), follow_symlinks=False)
        except (OSError, ValueError, RecursionError) as error:
            raise NotRecorded(str(error)) from error
        self._unwritten.pop(record.turn_id, None)
        self._recent[record.turn_id] = record
        self._recent.move_to_end(record.turn_id)
        while len(self._recent) > KEPT_IN_MEMORY:
            self._recent.popitem(last=False)

    def ids(self) -> list[str]:
        """The ids of the turns with a record, in the order in which they last changed."""
        try:
            with os.scandir(self._directory) as entries:
                found = [
                    (entry.stat(follow_symlinks=False).st_mtime_ns, entry.name[: -len(SUFFIX)])
                    for entry in entries
                    if entry.name.endswith(SUFFIX)
                ]
        except OSError:  # there is none yet
            found = []
        kept = [name for _, name in sorted(found) if name not in self._unwritten]
        return [*kept, *self._unwritten]

    def get(self, turn_id: str) -> Record | None:
        """None if there is no such turn, or if its record is damaged."""
        if turn_id in self._unwritten:
            return self._unwritten[turn_id]
        if turn_id in self._recent:
            return self._recent[turn_id]
        if not TURN_ID.fullmatch(turn_id):
            return None
        try:
            return _record(turn_id, json.loads(files.read(self._path(turn_id))))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            log(f"the record of turn {turn_id} is damaged: {error}")
            return None


def _record(turn_id: str, values: dict[str, Any]) -> Record:
    result, last = values["result"], values["last"]
    if not (
        values["turn_id"] == turn_id
        and isinstance(values["prompt"], str)
        and isinstance(values["first"], int)
        and (last is None or isinstance(last, int))
        and (result is None or (isinstance(result, dict) and isinstance(result["status"], str)))
    ):
        raise ValueError("not a record")
    return Record(
        turn_id,
        values["prompt"],
        values["first"],
        last,
        values["sent"] is True,
        result,
        str(values.get("text", ""))[:TEXT_CHARACTERS],
        amount(values.get("at")) or 0.0,
    )
