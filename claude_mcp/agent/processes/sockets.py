"""Reads from /proc whether a process is connected to anything."""

from __future__ import annotations

import os

CONNECTED = (b"01", b"02")
"""ESTABLISHED and SYN_SENT in the kernel's tables (include/net/tcp_states.h)."""


def has_connection(pid: int) -> bool | None:
    """Whether a process holds a TCP connection, or is making one; None if that cannot be read."""
    connected = set()
    held = set()
    try:
        for table in ("tcp", "tcp6"):
            with open(f"/proc/{pid}/net/{table}", "rb") as file:
                rows = (line.split() for line in file.read().splitlines()[1:])
                connected |= {row[9] for row in rows if len(row) > 9 and row[3] in CONNECTED}
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    held.add(os.readlink(entry.path))
                except OSError:  # closed meanwhile
                    continue
    except OSError:
        return None
    return any(f"socket:[{inode.decode()}]" in held for inode in connected)
