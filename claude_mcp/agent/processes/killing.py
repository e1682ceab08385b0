"""Finds and kills what an activity started, wherever it hides.

Every command and every Claude gets a marker in its environment. A child that called
``setsid``, changed its group or lost its parent still carries it in /proc/PID/environ. What
cleared its environment is found as the descendant of something that did not.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Callable

MARKER_VARIABLE = "CLAUDE_MCP_ACTIVITY"
POLL_SECONDS = 0.02
EXEC_SECONDS = 0.001
"""How long an exec may show no environment."""
CROWD = 50
"""So many processes at once may fork and end faster than they are looked at."""
LOOKS_IN_A_CROWD = 5
MAX_SWEEPS = 500
SWEEPS_IN_VAIN = 10
SWEEP_PAUSE_SECONDS = 0.002
MAX_SEARCHES = 100
"""How often new processes are looked for that were forked while others were being stopped."""


def marker_environment(activity: str) -> dict[str, str]:
    return {MARKER_VARIABLE: activity}


Snapshot = dict[int, int]
"""pid -> when it started, in clock ticks since boot: what tells a process from a later namesake."""


def _table() -> dict[int, tuple[int, int]]:
    """Parent and start of every living process that we can see; zombies are left out."""
    table = {}
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
            table[int(entry)] = int(fields[1]), int(fields[19])
    return table


def snapshot() -> Snapshot:
    """What lives now."""
    return {pid: started for pid, (_, started) in _table().items()}


def _with_descendants(roots: set[int], table: dict[int, tuple[int, int]]) -> set[int]:
    found = set(roots)
    while True:
        children = {pid for pid, (parent, _) in table.items() if parent in found} - found
        if not children:
            return found
        found |= children


def _environment(pid: int) -> bytes:
    """Empty in the middle of an exec, and for a process that we may not look into."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def find(activity: str, since: Snapshot | None = None, parent: int = 0, root: int = 0) -> set[int]:
    """Pids of the activity's processes and of all their descendants; ``root`` is one of them,
    whatever became of its environment.

    With ``since``, only those that did not live then; what descends from one that did is its own
    affair, unless that one is ``parent``.
    """
    table = _table()
    wanted = f"{MARKER_VARIABLE}={activity}".encode()
    environments = {pid: _environment(pid) for pid in table}
    if unknown := [pid for pid, environment in environments.items() if environment == b""]:
        time.sleep(EXEC_SECONDS)
        environments.update((pid, _environment(pid)) for pid in unknown)
    found = {pid for pid, each in environments.items() if wanted in each.split(b"\0")}
    found = _with_descendants(found | ({root} & set(table)), table)
    if since is not None:
        old = {pid for pid, (_, started) in table.items() if since.get(pid) == started}
        # Whoever lost its parent is a child of the init, which is older than all.
        found -= _with_descendants((old & found) - {parent}, table) | {parent}
    found.discard(os.getpid())
    return found


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue


def _catch(activity: str) -> None:
    """Stop whoever bears the marker the moment it is seen, until nobody new is.

    Where forks fail, processes of a bomb live for less time than ``find`` takes; a few of them are
    enough for it to grow again.
    """
    wanted = f"{MARKER_VARIABLE}={activity}".encode()
    before: set[int] = set()
    same = 0
    for _ in range(MAX_SWEEPS):
        found = set()
        for entry in os.listdir("/proc"):
            if entry.isdigit() and wanted in _environment(int(entry)).split(b"\0"):
                _signal({int(entry)}, signal.SIGSTOP)
                found.add(int(entry))
        same = same + 1 if found == before else 0
        if same == SWEEPS_IN_VAIN:
            return
        before = found
        time.sleep(SWEEP_PAUSE_SECONDS)


def _hold_still(look: Callable[[], set[int]], looks: int = 1) -> set[int]:
    """Stop all processes that ``look`` finds and return them; ``looks`` in vain are the end.

    What has no marker is found through its parent, and a parent that dies right after a fork
    would leave a child that nobody finds.
    """
    held: set[int] = set()
    misses = 0
    for _ in range(MAX_SEARCHES):
        found = look()
        misses = 0 if found - held else misses + 1
        held |= found
        if misses >= max(looks, _enough_looks(held)):
            break
        # All of them: numbers go round, and one that was held may be another's by now.
        _signal(found, signal.SIGSTOP)
    return held


def _enough_looks(found: set[int]) -> int:
    """How many looks in vain it takes to believe that nobody is left.

    Reading /proc takes a while. In a crowd that forks and ends all the time, one may be born at a
    number that was read already, of a parent that is gone before its own is.
    """
    return LOOKS_IN_A_CROWD if len(found) > CROWD else 1


def kill(
    activity: str,
    grace_seconds: float,
    limit_seconds: float = 5.0,
    since: Snapshot | None = None,
    parent: int = 0,
    root: int = 0,
    bomb: bool = False,
) -> set[int]:
    """TERM, and after the grace KILL, until nothing that ``find`` finds is left.

    Looks again after each signal, because a process may have forked in between. Returns what
    still lives after ``limit_seconds`` of killing (only a process stuck in the kernel). To look
    takes long where hundreds of processes want to run, so that is not counted. ``bomb`` tells of an
    activity that has used up the session's processes, whose marker nobody else bears.
    """

    def look() -> set[int]:
        return find(activity, since, parent, root)

    if bomb:
        _catch(activity)
    known = _hold_still(look)
    looks = _enough_looks(known)
    if grace_seconds > 0:
        _signal(known, signal.SIGTERM)
        _signal(known, signal.SIGCONT)
        deadline = time.monotonic() + grace_seconds
        while known and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            known = _alive(known) | look()
        if bomb:
            _catch(activity)
        if known or bomb:
            known |= _hold_still(look, looks)
    deadline = time.monotonic() + limit_seconds
    while known and time.monotonic() < deadline:
        _signal(known, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
        # Each that is gone makes room for another fork: who is left must not have the time.
        known = _alive(known) | _hold_still(look, looks)
    return known


def _alive(pids: set[int]) -> set[int]:
    return pids & set(_table())
