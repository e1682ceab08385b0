"""Finds and kills all processes that an activity started.

Every command and every Claude Code has a marker in its environment. A child that called
``setsid``, changed its process group or lost its parent still shows the marker in
/proc/PID/environ. A child that cleared its environment is found as a descendant of one that did
not.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Callable

MARKER_VARIABLE = "CLAUDE_MCP_ACTIVITY"
POLL_SECONDS = 0.02
EXEC_SECONDS = 1.0
"""How long to wait for the environment of a process that is in the middle of an exec."""
EXEC_POLL_SECONDS = 0.001
PF_EXITING, PF_KTHREAD = 0x4, 0x200000
"""Flags of a process that has no environment any more, or never had any (linux/sched.h)."""
CROWD = 50
"""So many processes may fork and end faster than /proc can be read."""
CROWD_SCANS = 5
MAX_SWEEPS = 500
STABLE_SWEEPS = 10
SWEEP_PAUSE_SECONDS = 0.002
MAX_SCANS = 100
"""How often to look for processes that were forked while others were being stopped."""


def exit_code(returncode: int) -> int:
    """The exit code as a shell reports it: 128 + n for signal n."""
    return 128 - returncode if returncode < 0 else returncode


def marker_environment(activity: str) -> dict[str, str]:
    return {MARKER_VARIABLE: activity}


Snapshot = dict[int, int]
"""PID -> start time in clock ticks since boot, which distinguishes a process from a later one with
the same PID."""


def _table() -> dict[int, tuple[int, int]]:
    """The parent and start time of every visible process except zombies."""
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
    """The processes that exist now."""
    return {pid: started for pid, (_, started) in _table().items()}


def _with_descendants(roots: set[int], table: dict[int, tuple[int, int]]) -> set[int]:
    found = set(roots)
    while True:
        children = {pid for pid, (parent, _) in table.items() if parent in found} - found
        if not children:
            return found
        found |= children


def _is_in_exec(pid: int) -> bool:
    """Whether the kernel is just making the environment of a process, which is empty until then."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    flags, start_code, env_end = (int(fields[number]) for number in (6, 23, 48))
    # Of a process that we may not read, the start of the code is 1 (fs/proc/array.c).
    return env_end == 0 and start_code != 1 and not flags & (PF_EXITING | PF_KTHREAD)


def _environment(pid: int) -> bytes:
    """Empty during an exec, and for a process that we are not allowed to read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def find(activity: str, since: Snapshot | None = None, parent: int = 0, root: int = 0) -> set[int]:
    """The PIDs of the activity's processes and all their descendants.

    ``root`` is one of them, whatever its environment is now. With ``since``, processes that
    existed then are left out, and so are the descendants of all of them but ``parent``.
    """
    table = _table()
    wanted = f"{MARKER_VARIABLE}={activity}".encode()
    environments = {pid: _environment(pid) for pid in table}
    unknown = [pid for pid, environment in environments.items() if environment == b""]
    deadline = time.monotonic() + EXEC_SECONDS
    while unknown:
        in_exec = [pid for pid in unknown if _is_in_exec(pid)]
        # Also of those whose exec has just ended.
        environments.update((pid, _environment(pid)) for pid in unknown)
        unknown = [pid for pid in in_exec if environments[pid] == b""]
        if not unknown or time.monotonic() >= deadline:
            break
        time.sleep(EXEC_POLL_SECONDS)
    found = {pid for pid, each in environments.items() if wanted in each.split(b"\0")}
    found = _with_descendants(found | ({root} & set(table)), table)
    if since is not None:
        old = {pid for pid, (_, started) in table.items() if since.get(pid) == started}
        # An orphan is a child of init, which is older than everything else.
        found -= _with_descendants((old & found) - {parent}, table) | {parent}
    found.discard(os.getpid())
    return found


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue


def _stop_fork_bomb(activity: str) -> None:
    """Stop each process that has the marker as soon as it is seen, until no new one appears.

    When forks fail, the processes of a fork bomb live shorter than ``find`` takes, and a few
    survivors are enough for it to grow again.
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
        if same == STABLE_SWEEPS:
            return
        before = found
        time.sleep(SWEEP_PAUSE_SECONDS)


def _stop_all(scan: Callable[[], set[int]], scans: int = 1) -> set[int]:
    """Stop and return all processes that ``scan`` finds, until ``scans`` find nothing new.

    Processes without the marker are found through their parent. A parent that exits right after
    a fork would leave a child that cannot be found.
    """
    held: set[int] = set()
    misses = 0
    for _ in range(MAX_SCANS):
        found = scan()
        misses = 0 if found - held else misses + 1
        held |= found
        if misses >= max(scans, _scans_needed(held)):
            break
        # All of them: PIDs are reused, so a stopped one may belong to another process by now.
        _signal(found, signal.SIGSTOP)
    return held


def _scans_needed(found: set[int]) -> int:
    """How many scans must find nothing new before the result is complete.

    Reading /proc takes a while. Among many processes that fork and exit constantly, a new process
    may reuse a PID that was already read, while its parent exits before its own PID is read.
    """
    return CROWD_SCANS if len(found) > CROWD else 1


def kill(
    activity: str,
    grace_seconds: float,
    limit_seconds: float = 5.0,
    since: Snapshot | None = None,
    parent: int = 0,
    root: int = 0,
    fork_bomb: bool = False,
) -> set[int]:
    """Send TERM, and KILL after the grace, until ``find`` finds nothing.

    It scans again after each signal, because a process may have forked in between. Returns the
    processes that remain after ``limit_seconds`` of killing: only those stuck in the kernel. The
    first scan is not counted, because it is slow when hundreds of processes are running.
    ``fork_bomb`` says that the activity has used up the session's processes; nothing else may have
    its marker.
    """

    def scan() -> set[int]:
        return find(activity, since, parent, root)

    if fork_bomb:
        _stop_fork_bomb(activity)
    known = _stop_all(scan)
    scans = _scans_needed(known)
    if grace_seconds > 0:
        _signal(known, signal.SIGTERM)
        _signal(known, signal.SIGCONT)
        deadline = time.monotonic() + grace_seconds
        while known and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            known = _alive(known) | scan()
        if fork_bomb:
            _stop_fork_bomb(activity)
        if known or fork_bomb:
            known |= _stop_all(scan, scans)
    deadline = time.monotonic() + limit_seconds
    while known and time.monotonic() < deadline:
        _signal(known, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
        # Each one that exits permits another fork, so stop the rest at once.
        known = _alive(known) | _stop_all(scan, scans)
    return known


def _alive(pids: set[int]) -> set[int]:
    return pids & set(_table())
