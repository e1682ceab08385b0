"""A terminal taken over as a whole: drawn at once, keys as they are pressed, its size followed.

However it ends, the terminal is given back as it was.
"""

from __future__ import annotations

import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from claude_mcp.cli.drawing import INVERSE, fit, is_plain, pad, styled
from claude_mcp.cli.line import LINE
from claude_mcp.cli.terminal import visible
from claude_mcp.errors import UsageError

OPEN: Final = "\x1b[?1049h\x1b[?25l"
CLOSE: Final = "\x1b[?25h\x1b[?1049l"
RESIZED: Final = "resized"
ENDED: Final = "ended"
"""The terminal is gone."""
KEYS: Final = {
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down", "\x1b": "escape",
    "\r": "enter", "\n": "enter",
}  # fmt: skip
READ_BYTES: Final = 64
KEPT_KEYS: Final = 16
"""Keys that are pressed faster than they are worked on are lost."""


class Screen:
    """What is on it is replaced as a whole by ``draw``."""

    def __init__(self, keyboard: int) -> None:
        self._keyboard = keyboard
        self._sending, self._events = anyio.create_memory_object_stream[str](KEPT_KEYS)
        self._plain = is_plain(sys.stdout)
        self._held = anyio.Event()
        self._held.set()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            return os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return 80, 24

    def draw(self, lines: Sequence[str], selected: int | None = None) -> None:
        """Show lines from the top, cut to the screen; one of them may stand out."""
        wide, rows = self.size
        shown = []
        for number, line in enumerate(lines[:rows]):
            text = fit(visible(line), wide)
            if number == selected:
                marked = f">{text[1:]}" if self._plain else styled(pad(text, wide), INVERSE)
                text = marked
            shown.append(f"{text}\x1b[K")
        sys.stdout.write("\x1b[H" + "\r\n".join(shown) + "\x1b[J")
        sys.stdout.flush()

    async def event(self, seconds: float) -> str | None:
        """The next key, ``RESIZED`` or ``ENDED``; None if there is none within some seconds."""
        with anyio.move_on_after(seconds):
            return await self._events.receive()
        return None

    @contextmanager
    def left(self) -> Iterator[None]:
        """Give the terminal back for a while, so that a person can be asked in lines."""
        self._held = anyio.Event()
        _show(CLOSE)
        termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, self._before)
        try:
            yield
        finally:
            self._take()
            self._held.set()

    def _take(self) -> None:
        self._before = termios.tcgetattr(self._keyboard)
        tty.setcbreak(self._keyboard, termios.TCSAFLUSH)
        mode = termios.tcgetattr(self._keyboard)
        mode[6][termios.VSUSP] = b"\0"  # stopped, it would leave the terminal as it is here
        termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, mode)
        _show(OPEN)

    def _give_back(self) -> None:
        _show(CLOSE)
        termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, self._before)

    async def _read_keys(self) -> None:
        while True:
            await self._held.wait()
            await anyio.wait_readable(self._keyboard)
            if not self._held.is_set():
                continue
            try:
                data = os.read(self._keyboard, READ_BYTES)
            except OSError:
                data = b""
            if not data:
                await self._sending.send(ENDED)
                return
            for key in keys(data.decode(errors="replace")):
                _offer(self._sending, key)

    async def _follow_size(self) -> None:
        with anyio.open_signal_receiver(signal.SIGWINCH) as signals:
            async for _ in signals:
                _offer(self._sending, RESIZED)


def keys(text: str) -> Iterator[str]:
    """The keys in what a terminal sent at once; a sequence without a name is left out."""
    while text:
        length = 1
        if text[0] == "\x1b" and text[1:2] in ("[", "O"):
            length = 2
            while length < len(text) and not text[length].isalpha() and text[length] != "~":
                length += 1
            length += 1
        sequence, text = text[:length], text[length:]
        if sequence in KEYS or len(sequence) == 1:
            yield KEYS.get(sequence, sequence)


def _offer(events: MemoryObjectSendStream[str], event: str) -> None:
    try:
        events.send_nowait(event)
    except anyio.WouldBlock:
        return


def _show(sequence: str) -> None:
    try:
        sys.stdout.write(sequence)
        sys.stdout.flush()
    except OSError:  # the terminal is gone
        return


@asynccontextmanager
async def open_screen(command: str) -> AsyncIterator[Screen]:
    """Take the terminal over for this block.

    Raises:
        UsageError: there is none; ``command`` says what to use instead.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("This needs a terminal.", hint=f"Elsewhere, use '{command}'.")
    screen = Screen(sys.stdin.fileno())
    screen._take()
    try:
        with LINE.away():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(screen._read_keys)
                tasks.start_soon(screen._follow_size)
                yield screen
                tasks.cancel_scope.cancel()
    finally:
        screen._give_back()
