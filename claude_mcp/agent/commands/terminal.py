"""Gives a command a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

# The leader of a session gets the first terminal that it opens as its controlling terminal.
ON_TERMINAL = b'exec <>"$0" >&0 2>&1; exec "$@"'
MAX_CELLS = 10_000


def opened(columns: int, rows: int) -> tuple[int, int, bytes]:
    """The master's and the terminal's descriptors, and the terminal's path.

    Raises:
        OSError: no terminal can be had.
    """
    master, terminal = os.openpty()
    try:
        cells = (max(1, min(rows, MAX_CELLS)), max(1, min(columns, MAX_CELLS)))
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *cells, 0, 0))
        return master, terminal, os.ttyname(terminal).encode()
    except OSError:
        os.close(master)
        os.close(terminal)
        raise
