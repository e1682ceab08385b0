"""A terminal for the tests: a program on a pseudo-terminal, and what its screen shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyte

WAIT_SECONDS = 60.0


class Terminal:
    """``text`` is what the screen shows, ``written`` is all that the program wrote."""

    def __init__(self, pid: int, descriptor: int, columns: int, rows: int) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._status: int | None = None
        self.written = b""

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display).strip()

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        self._screen.resize(rows, columns)
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, shows: str | Callable[[str], bool]) -> None:
        """Wait until the screen shows something."""
        deadline = time.monotonic() + WAIT_SECONDS
        wanted = (lambda text: shows in text) if isinstance(shows, str) else shows
        while not wanted(self.text):
            assert self._read(), f"the program ended; its screen shows:\n{self.text}"
            assert time.monotonic() < deadline, f"the screen shows:\n{self.text}"

    def _read(self) -> bool:
        """Take in what the program has written; False at its end."""
        if not select.select([self._descriptor], [], [], 0.5)[0]:
            return True
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # how Linux reports that nobody has the other side any more
            return False
        self.written += data
        self._stream.feed(data)
        return bool(data)

    def wait(self) -> int:
        """The exit code of the program, once it has ended."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self._read():
            assert time.monotonic() < deadline, f"the screen shows:\n{self.text}"
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]
        return os.waitstatus_to_exitcode(self._status)

    def kill(self) -> None:
        """End the program at once, and with it the terminal."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            self._status = os.waitpid(self.pid, 0)[1]


@contextmanager
def terminal(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    columns: int = 100,
    rows: int = 30,
    kind: str = "xterm-256color",
) -> Iterator[Terminal]:
    """Run a program on a terminal of its own; it is killed at the end if it still runs."""
    size = struct.pack("HHHH", rows, columns, 0, 0)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            os.login_tty(theirs)
            os.execvpe(argv[0], list(argv), {**environment, "TERM": kind})
        finally:
            os._exit(127)
    os.close(theirs)
    opened = Terminal(pid, ours, columns, rows)
    try:
        yield opened
    finally:
        opened.kill()
        os.close(ours)
