"""Finds and kills what an activity started, wherever it hides.

Every command and every Claude gets a marker in its environment. A child that called
``setsid``, changed its group or lost its parent still carries it in /proc/PID/environ. What
cleared its environment is found as the descendant of something that did not.
"""

from __future__ import annotations

import os
import signal
import time

MARKER_VARIABLE = "CLAUDE_MCP_ACTIVITY"
POLL_SECONDS = 0.02
MAX_SEARCHES = 100
"""How often new processes are looked for that were forked while others were being stopped."""


def marker_environment(activity: str) -> dict[str, str]:
    return {MARKER_VARIABLE: activity}


def _parents() -> dict[int, int]:
    """Parent of every living process that we can see; zombies are left out."""
    parents = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                # The name is in parentheses and may itself contain any byte.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] not in (b"Z", b"X"):
            parents[int(entry)] = int(fields[1])
    return parents


def find(activity: str) -> set[int]:
    """Pids of the activity's processes and of all their descendants."""
    parents = _parents()
    wanted = f"{MARKER_VARIABLE}={activity}".encode()
    found = set()
    for pid in parents:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.add(pid)
        except OSError:
            continue
    grew = True
    while grew:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found |= children
        grew = bool(children)
    found.discard(os.getpid())
    return found


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue


def _hold_still(activity: str) -> set[int]:
    """Stop all of the activity's processes and return them.

    What has no marker is found through its parent, and a parent that dies right after a fork
    would leave a child that nobody finds.
    """
    held: set[int] = set()
    for _ in range(MAX_SEARCHES):
        new = find(activity) - held
        if not new:
            break
        _signal(new, signal.SIGSTOP)
        held |= new
    return held


def kill(activity: str, grace_seconds: float, limit_seconds: float = 5.0) -> set[int]:
    """TERM, and after the grace KILL, until nothing of the activity is left.

    Looks again after each signal, because a process may have forked in between. Returns what
    still lives after ``limit_seconds`` (only a process stuck in the kernel).
    """
    started = time.monotonic()
    known = _hold_still(activity)
    if grace_seconds > 0:
        _signal(known, signal.SIGTERM)
        _signal(known, signal.SIGCONT)
        while known and time.monotonic() - started < grace_seconds:
            time.sleep(POLL_SECONDS)
            known = _alive(known) | find(activity)
        if known:
            known |= _hold_still(activity)
    while known and time.monotonic() - started < grace_seconds + limit_seconds:
        _signal(known, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
        known = _alive(known) | find(activity)
    return known


def _alive(pids: set[int]) -> set[int]:
    return pids & set(_parents())
