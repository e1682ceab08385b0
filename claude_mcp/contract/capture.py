"""Keeps the beginning and the end of output that may have any length."""

from __future__ import annotations

from claude_mcp.contract.redaction import redactor


class BoundedCapture:
    """Keeps the first and the last half of ``limit`` bytes, and counts the bytes it drops."""

    def __init__(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0
        self.dropped = 0

    def write(self, data: bytes) -> None:
        self.total += len(data)
        free = self._half - len(self._head)
        if free > 0:
            self._head += data[:free]
            data = data[free:]
        self._tail += data
        surplus = len(self._tail) - self._half
        if surplus > 0:
            del self._tail[:surplus]
            self.dropped += surplus

    def value(self) -> bytes:
        """What was kept, with no mark where bytes were dropped."""
        return bytes(self._head + self._tail)

    def text(self) -> str:
        """What was kept as redacted text, with a note where bytes were dropped."""
        if not self.dropped:
            return redactor.redact(self.value().decode("utf-8", "replace"))
        head = redactor.redact(self._head.decode("utf-8", "replace"), goes_on=True)
        tail = redactor.redact(self._tail.decode("utf-8", "replace"), begun_before=True)
        return f"{head}\n[... {self.dropped} bytes left out ...]\n{tail}"
