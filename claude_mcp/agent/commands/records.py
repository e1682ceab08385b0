"""Commands on disk: a directory for each, which holds its record and its output.

A record without an answer is that of a command which runs, or ran when the container was stopped.
Processes of the session can write these files too, so they are read as hostile input.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import Any

from claude_mcp.agent.store import files
from claude_mcp.agent.store.records import TURN_ID, NotRecorded

RECORD = "record.json"
MAX_KEPT = 100
MAX_KEPT_BYTES = 128 * 1024 * 1024

Record = dict[str, Any]
"""``digest`` of the command's text, ``entry`` and ``answer`` as in `operations`, and the time at
which it ``began``, more exact than in the entry."""


class Records:
    """Not thread-safe: its owner must hold a lock."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def directory(self, command_id: str) -> str:
        return os.path.join(self._directory, command_id)

    def save(self, command_id: str, record: Record) -> None:
        """Raises NotRecorded: it could not be written, for example on a full disk."""
        directory = self.directory(command_id)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            text = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace")
            files.replace(os.path.join(directory, RECORD), text)
        except (OSError, ValueError) as error:
            raise NotRecorded(str(error)) from error

    def get(self, command_id: str) -> Record | None:
        """None if there is no such command, or if its record is damaged."""
        if not TURN_ID.fullmatch(command_id):
            return None
        try:
            record = json.loads(files.read(os.path.join(self.directory(command_id), RECORD)))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(record, dict) or not isinstance(record.get("entry"), dict):
            return None
        return record

    def remove(self, command_id: str) -> None:
        shutil.rmtree(self.directory(command_id), ignore_errors=True)

    def ids(self) -> list[str]:
        """Those of all recorded commands, in the order in which they were recorded last."""
        try:
            with os.scandir(self._directory) as entries:
                found = [
                    (entry.stat(follow_symlinks=False).st_mtime, entry.name)
                    for entry in entries
                    if TURN_ID.fullmatch(entry.name)
                ]
        except OSError:
            return []
        return [name for _, name in sorted(found)]

    def tidy(self, running: set[str]) -> None:
        """Remove the oldest commands beyond the limits, but none that is ``running``."""
        left, size = MAX_KEPT, MAX_KEPT_BYTES
        for command_id in reversed([each for each in self.ids() if each not in running]):
            left -= 1
            size -= _size(self.directory(command_id))
            if left < 0 or size < 0:
                self.remove(command_id)


def _size(directory: str) -> int:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    return 0
