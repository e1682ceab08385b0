"""What is told of limits that were reached, from files as both versions of cgroups show them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from claude_mcp.agent.processes import cgroup_events

MEMORY_NOTE = "Out of memory: the kernel killed 2 processes in the session; its limit is 512 MiB."
PIDS_NOTE = (
    "Out of processes: 5 could not be started in the session; its limit is 300 processes and "
    "threads."
)


def version_1(directory: Path, limit: str, killed: int, failed: int) -> None:
    for name in ("memory", "pids"):
        (directory / name).mkdir(exist_ok=True)
    (directory / "memory/memory.limit_in_bytes").write_text(f"{limit}\n")
    (directory / "memory/memory.oom_control").write_text(
        f"oom_kill_disable 0\nunder_oom 0\noom_kill {killed}\n"
    )
    (directory / "pids/pids.max").write_text("300\n")
    (directory / "pids/pids.events").write_text(f"max {failed}\n")


def version_2(directory: Path, limit: str, killed: int, failed: int) -> None:
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.events").write_text(f"low 0\nmax 9\noom 3\noom_kill {killed}\n")
    (directory / "pids.max").write_text("300\n")
    (directory / "pids.events").write_text(f"max {failed}\n")


@pytest.mark.parametrize("write", [version_1, version_2])
def test_what_has_happened_since_is_told(
    tmp_path: Path, write: Callable[[Path, str, int, int], None]
) -> None:
    cgroup = str(tmp_path)
    write(tmp_path, str(512 << 20), 1, 7)
    before = cgroup_events.counts(cgroup)
    assert before == {"memory": 1, "pids": 7}
    assert cgroup_events.notes(before, cgroup) == []
    write(tmp_path, str(512 << 20), 3, 12)
    assert cgroup_events.notes(before, cgroup) == [MEMORY_NOTE, PIDS_NOTE]


@pytest.mark.parametrize(
    ("write", "limit"), [(version_1, "9223372036854771712"), (version_2, "max")]
)
def test_without_a_limit_the_counters_are_somebody_elses(
    tmp_path: Path, write: Callable[[Path, str, int, int], None], limit: str
) -> None:
    write(tmp_path, limit, 3, 0)
    assert cgroup_events.counts(str(tmp_path)) == {"memory": 0, "pids": 0}


def test_a_kernel_that_tells_nothing_is_no_reason_to_fail(tmp_path: Path) -> None:
    assert cgroup_events.counts(str(tmp_path)) == {"memory": 0, "pids": 0}
    cgroup_events.prefer_for_oom_kill(0)


def test_there_is_no_room_when_a_fork_failed_or_a_thread_cannot_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup = str(tmp_path)
    version_2(tmp_path, "max", 0, 1)
    before = cgroup_events.counts(cgroup)
    assert cgroup_events.cannot_fork(before, cgroup) is False
    version_2(tmp_path, "max", 0, 2)
    assert cgroup_events.cannot_fork(before, cgroup) is True
    monkeypatch.setattr("threading.Thread.start", refuse)
    assert cgroup_events.cannot_fork({"memory": 0, "pids": 2}, cgroup) is True


def refuse(thread: object) -> None:
    raise RuntimeError("can't start new thread")
