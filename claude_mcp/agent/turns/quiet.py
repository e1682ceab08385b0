"""What is said about a Claude Code that has written nothing for a while.

A model may think for minutes, and Claude Code writes nothing meanwhile. So nothing is ended here;
the caller decides.
"""

from __future__ import annotations

from claude_mcp.agent.processes import sockets
from claude_mcp.agent.turns.live import Live

QUIET_SECONDS = 30.0
"""After this long without a line of Claude Code, its silence is worth a note."""
UNREAD = (
    "Claude Code has not read its input for {:.0f} s, so it may be stuck. If this lasts, cancel "
    "the turn: the next prompt then starts Claude Code again."
)
UNCONNECTED = (
    "Claude Code has written nothing for {:.0f} s, runs no tool and has no connection to the "
    "model, so it may be stuck. If this lasts, cancel the turn."
)
CONNECTED = (
    "Claude Code has written nothing for {:.0f} s. It is connected, so the model may still be "
    "answering."
)
UNKNOWN = "Claude Code has written nothing for {:.0f} s."


def seems_stuck(live: Live) -> str | None:
    """The note about a Claude Code that waits for nothing that we know of; else None."""
    seconds = live.quiet_seconds
    if seconds < QUIET_SECONDS:
        return None
    if live.has_unread_input:
        return UNREAD.format(seconds)
    if not live.tools and sockets.has_connection(live.pid) is False:
        return UNCONNECTED.format(seconds)
    return None


def note(live: Live) -> str | None:
    """A note about its silence; None while it is not silent, or while a tool runs."""
    stuck = seems_stuck(live)
    if stuck is not None or live.tools or live.quiet_seconds < QUIET_SECONDS:
        return stuck
    connected = sockets.has_connection(live.pid)
    return (UNKNOWN if connected is None else CONNECTED).format(live.quiet_seconds)
