"""Holds a transfer while it is under way, so that a test can do something to it right then."""

from __future__ import annotations

import threading
from typing import Any, BinaryIO

import anyio.to_thread
import pytest

from claude_mcp.sessions.files import archive, unpacking
from claude_mcp.sessions.files import transfer as transfers

PATIENCE_SECONDS = 60.0
SENT_BYTES = 2_000_000
"""More than fits into the pipes between us and the engine."""


class Brake:
    """Holds a transfer when it is under way, until it is released."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._released = threading.Event()

    def hold(self) -> None:
        self._reached.set()
        self._released.wait(PATIENCE_SECONDS)

    async def until_reached(self) -> None:
        assert await anyio.to_thread.run_sync(self._reached.wait, PATIENCE_SECONDS)

    def release(self) -> None:
        self._released.set()


class BrakedPipe:
    def __init__(self, pipe: BinaryIO, brake: Brake) -> None:
        self._pipe, self._brake, self._written = pipe, brake, 0

    def write(self, data: bytes) -> int:
        before, self._written = self._written, self._written + len(data)
        if before < SENT_BYTES <= self._written:
            self._brake.hold()
        return self._pipe.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


def fit_brake(monkeypatch: pytest.MonkeyPatch) -> Brake:
    """One for all transfers: into a session once enough is sent, out of one before it is read."""
    brake = Brake()
    write, read = archive.write_archive, unpacking.read_archive

    def slow_write(parent: int, path: str, name: str, owner: Any, pipe: Any, tally: Any) -> None:
        write(parent, path, name, owner, BrakedPipe(pipe, brake), tally)  # type: ignore[arg-type]

    def slow_read(*args: Any) -> Any:
        brake.hold()
        return read(*args)

    monkeypatch.setattr(transfers, "write_archive", slow_write)
    monkeypatch.setattr(transfers, "read_archive", slow_read)
    return brake
