"""The signals that end the program after its clean-up."""

from __future__ import annotations

import signal


def stopping() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM and SIGHUP; without SIGHUP under ``nohup``, which ignores it."""
    always = (signal.SIGINT, signal.SIGTERM)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return always
    return (*always, signal.SIGHUP)
