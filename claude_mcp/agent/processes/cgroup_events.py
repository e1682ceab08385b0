"""Reports what the kernel did in this session because a limit was reached.

The counters come from the container's own cgroup, version 1 or 2. Without a limit they might be
the host's, so they are not read.
"""

from __future__ import annotations

import os
import threading

from claude_mcp.contract.numbers import counted

CGROUP = "/sys/fs/cgroup"
UNLIMITED_BYTES = 1 << 60
"""Version 1 represents "no limit" as a number near 2 ** 63."""

PROBE_THREADS = 5

Counts = dict[str, int]
"""How often each limit was reached: ``memory`` counts killed processes, ``pids`` failed forks."""


def _limit(directory: str, name: str) -> int | None:
    text = _read(os.path.join(directory, name)).strip()
    return int(text) if text.isdigit() and int(text) < UNLIMITED_BYTES else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(10_000)
    except OSError:
        return ""


def _count(path: str, key: str) -> int:
    for line in _read(path).splitlines():
        name, _, number = line.partition(" ")
        if name == key and number.isdigit():
            return int(number)
    return 0


def memory_limit(cgroup: str = CGROUP) -> int | None:
    """The memory limit in bytes; None if there is none."""
    return _limit(cgroup, "memory.max") or _limit(f"{cgroup}/memory", "memory.limit_in_bytes")


def pids_limit(cgroup: str = CGROUP) -> int | None:
    return _limit(cgroup, "pids.max") or _limit(f"{cgroup}/pids", "pids.max")


def counts(cgroup: str = CGROUP) -> Counts:
    """The counts since the container was started."""
    memory = pids = 0
    if memory_limit(cgroup) is not None:
        memory = _count(f"{cgroup}/memory.events", "oom_kill") or _count(
            f"{cgroup}/memory/memory.oom_control", "oom_kill"
        )
    if pids_limit(cgroup) is not None:
        pids = _count(f"{cgroup}/pids.events", "max") or _count(f"{cgroup}/pids/pids.events", "max")
    return {"memory": memory, "pids": pids}


def notes(before: Counts, cgroup: str = CGROUP) -> list[str]:
    """A sentence for each limit that was reached since ``before``."""
    now = counts(cgroup)
    sentences = []
    killed, failed = (now[name] - before[name] for name in ("memory", "pids"))
    if killed > 0:
        size = (memory_limit(cgroup) or 0) >> 20
        sentences.append(
            f"Out of memory: the kernel killed {counted(killed, 'process', 'processes')} in the "
            f"session; its limit is {size} MiB."
        )
    if failed > 0:
        sentences.append(
            f"Out of processes: {failed} could not be started in the session; its limit is "
            f"{pids_limit(cgroup)} processes and threads."
        )
    return sentences


def pids_exhausted(before: Counts, cgroup: str = CGROUP) -> bool:
    """Whether processes could not be started since ``before``."""
    return counts(cgroup)["pids"] > before["pids"]


def cannot_fork(before: Counts, cgroup: str = CGROUP) -> bool:
    """Whether processes could not be started since ``before``, or cannot be started now.

    The second question is needed for limits outside the cgroup, which have no counter.
    """
    if pids_exhausted(before, cgroup):
        return True
    try:
        for _ in range(PROBE_THREADS):
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
    except RuntimeError:
        return True
    return False


def prefer_for_oom_kill(pid: int) -> None:
    """Make the OOM killer prefer a process of the session over the agent."""
    try:
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            own = int(file.read())
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(min(1000, own + 200)))
    except (OSError, ValueError):  # the process has ended, or this kernel has no such file
        return
