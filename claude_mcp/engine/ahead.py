"""Engine calls that begin before anybody needs their answer.

A program that has yet to import what it works with begins the calls that it will make first, so
that the engine works meanwhile. ``process.run`` takes over a call that has begun, if argv and
environment are the same. The rule: only ``questions`` begin so, because nobody may ever take the
answer.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Final

from claude_mcp.contract.capture import BoundedCapture

READ_BYTES: Final = 64 * 1024
CAPTURE_BYTES: Final = 16 * 1024 * 1024
"""What is kept of each stream, as ``process.run`` does."""
LOOK_SECONDS: Final = 0.1
"""How often a thread that waits looks whether it still should."""
MOST_SECONDS: Final = 60.0
"""How long a program that has closed its streams may take to end."""


class Late(Exception):
    """The program has not ended in time, or was killed before."""


class Begun:
    """A running program. One thread at a time may call ``finish``, any may call ``kill``."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Raises OSError if the program cannot be started."""
        self.argv = tuple(argv)
        self.environment = dict(environment)
        self.out = BoundedCapture(CAPTURE_BYTES)
        self.err = BoundedCapture(CAPTURE_BYTES)
        self._killed = False
        self._process = subprocess.Popen(
            self.argv,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_of(self, argv: Sequence[str], environment: Mapping[str, str] | None) -> bool:
        return self.argv == tuple(argv) and self.environment == environment

    def finish(self, seconds: float | None) -> int:
        """Wait for the end, and read ``out`` and ``err``; returns the exit code.

        Raises:
            Late: it has not ended after ``seconds``; it may be waited for again.
        """
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            for stream, capture in self._open():
                selector.register(stream, selectors.EVENT_READ, capture)
            while selector.get_map():
                if self._killed or time.monotonic() > deadline:
                    raise Late
                for key, _ in selector.select(LOOK_SECONDS):
                    if data := os.read(key.fd, READ_BYTES):
                        key.data.write(data)
                    else:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
        try:
            return self._process.wait(min(max(0.0, deadline - time.monotonic()), MOST_SECONDS))
        except subprocess.TimeoutExpired:
            raise Late from None

    def _open(self) -> list[tuple[IO[bytes], BoundedCapture]]:
        streams = ((self._process.stdout, self.out), (self._process.stderr, self.err))
        return [(stream, into) for stream, into in streams if stream and not stream.closed]

    def kill(self) -> None:
        """End it and all that it started; a thread in ``finish`` returns soon."""
        self._killed = True
        # The kernel does not reuse the group's number while somebody of it holds a pipe.
        if self._process.returncode is None or self._open():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def discard(self) -> None:
        """End it, because nobody wants its answer. No thread may be in ``finish``."""
        self.kill()
        for stream, _ in self._open():
            stream.close()
        self._process.wait()


_begun: list[Begun] = []


def begin(argv: Sequence[str], environment: Mapping[str, str]) -> Begun | None:
    """Start a program that ``take`` finds, unless it has begun; None if it cannot be started."""
    for each in _begun:
        if each.is_of(argv, environment):
            return each
    try:
        begun = Begun(argv, environment)
    except OSError:
        return None  # whoever needs the answer meets the same error, and can tell of it
    _begun.append(begun)
    return begun


def take(argv: Sequence[str], environment: Mapping[str, str] | None) -> Begun | None:
    """The program that has begun with this argv and environment; nobody else gets it."""
    for begun in _begun:
        if begun.is_of(argv, environment):
            _begun.remove(begun)
            return begun
    return None


def discard_all() -> None:
    """End what nobody has taken."""
    while _begun:
        _begun.pop().discard()
