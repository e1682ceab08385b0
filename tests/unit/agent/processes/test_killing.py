"""What an activity started is found and killed, wherever it hides."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from claude_mcp.agent.processes import killing
from tests.unit.agent.scripted import until

if TYPE_CHECKING:
    from tests.unit.conftest import Lifeline

PATIENCE_SECONDS = 60.0

Starts = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def activity() -> str:
    """The whole machine is searched, so no two tests may share one."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def start(activity: str) -> Iterator[Starts]:
    """Starts a shell that belongs to the activity."""
    started = []

    def shell(script: str, **environment: str) -> subprocess.Popen[bytes]:
        environment = environment or killing.marker_environment(activity)
        process = subprocess.Popen(
            ["/bin/sh", "-c", script],
            env={"PATH": os.environ["PATH"], **environment},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield shell
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_nothing_belongs_to_an_unknown_activity(activity: str) -> None:
    assert killing.find(activity) == set()
    assert killing.kill(activity, 0.0) == set()


def test_an_activity_does_not_contain_another_whose_name_it_begins(
    activity: str, start: Starts, lifeline: Lifeline
) -> None:
    name = killing.MARKER_VARIABLE
    start(f"{lifeline.hold}; echo ready >&9; sleep 1000", **{name: f"{activity}1", "OTHER": name})
    lifeline.line()
    assert killing.find(activity) == set()


@pytest.mark.parametrize(
    "hiding",
    [
        pytest.param("{run}", id="plain"),
        pytest.param("setsid {run}", id="own session"),
        pytest.param("(setsid {run} &); true", id="orphan in its own session"),
        pytest.param("nohup {run} >/dev/null 2>&1", id="ignores hangup"),
        pytest.param("env -i {run}; true", id="environment cleared by a child"),
        pytest.param("env -i sh -c '{run}; true'; true", id="below one that was cleared"),
        pytest.param("trap '' TERM; {run}", id="ignores TERM"),
    ],
)
def test_a_process_is_killed_however_it_hides(
    activity: str, start: Starts, lifeline: Lifeline, hiding: str
) -> None:
    hidden = hiding.format(run="sleep 1000")
    parent = start(f"{lifeline.hold}; ({hidden}) & echo ready >&9; sleep 1000")
    lifeline.line()
    assert parent.pid in killing.find(activity)
    assert killing.kill(activity, 0.05) == set()
    assert lifeline.end() == ""
    assert killing.find(activity) == set()


def test_what_shows_no_environment_for_a_moment_is_found(
    activity: str, start: Starts, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the middle of an exec."""
    process = start(f"{lifeline.hold}; echo ready >&9; sleep 1000")
    lifeline.line()
    environment = killing._environment
    seen: set[int] = set()

    def empty_at_first(pid: int) -> bytes:
        if pid in seen:
            return environment(pid)
        seen.add(pid)
        return b""

    monkeypatch.setattr(killing, "_environment", empty_at_first)
    assert process.pid in killing.find(activity)


def test_the_end_of_an_exec_is_waited_for(
    activity: str, start: Starts, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine it takes longer than a look at all processes."""
    process = start(f"{lifeline.hold}; echo ready >&9; sleep 1000")
    lifeline.line()
    environment, looks = killing._environment, [0]

    def empty_for_a_while(pid: int) -> bytes:
        looks[0] += pid == process.pid
        return environment(pid) if looks[0] > 10 else b""

    monkeypatch.setattr(killing, "EXEC_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(killing, "_environment", empty_for_a_while)
    monkeypatch.setattr(killing, "_is_in_exec", lambda pid: pid == process.pid)
    assert process.pid in killing.find(activity)


def test_a_process_shows_that_it_is_in_the_middle_of_an_exec(
    activity: str, start: Starts, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with many arguments is there for ten milliseconds or more, and is killed all the same."""
    monkeypatch.setattr(killing, "EXEC_SECONDS", PATIENCE_SECONDS)
    assert not killing._is_in_exec(os.getpid())
    bare = start("exec env -i sleep 1000")
    # Afterwards it has no environment either.
    until(lambda: not killing._environment(bare.pid) and not killing._is_in_exec(bare.pid))
    bare.kill()
    bare.wait()
    assert not killing._is_in_exec(bare.pid)
    program = (
        "import os, sys\n"
        "os.write(9, b'ready\\n' * (len(sys.argv) == 2))\n"
        "words = ['-ISc', sys.argv[1], sys.argv[1], *['x'] * 100000]\n"
        "os.execve(sys.executable, [sys.executable, *words], os.environ)"
    )
    again = start(
        f"{lifeline.hold}; exec \"$PROGRAM\" -ISc \"$CODE\" \"$CODE\"",
        PROGRAM=sys.executable, CODE=program, **killing.marker_environment(activity),
    )  # fmt: skip
    lifeline.line()
    until(lambda: killing._is_in_exec(again.pid))
    assert killing.kill(activity, 0.0) == set()
    assert lifeline.end() == ""


def test_what_clears_its_environment_is_found_as_a_descendant(
    activity: str, start: Starts, lifeline: Lifeline
) -> None:
    parent = start(f"{lifeline.hold}; env -i sh -c 'sleep 1000 & echo $$ >&9; wait' & wait")
    child = int(lifeline.line())
    found = killing.find(activity)
    assert {parent.pid, child} <= found
    assert len(found) == 3  # the sleep, too


def test_a_process_may_have_any_name(activity: str, start: Starts, lifeline: Lifeline) -> None:
    rename = "open('/proc/self/comm', 'wb').write(b') R 1 (\\n')"
    script = f"import sys, time; {rename}; sys.stdout.write('ready\\n'); sys.stdout.flush()"
    start(f'{lifeline.hold}; exec {sys.executable} -ISc "{script}; time.sleep(1000)" >&9')
    lifeline.line()
    assert len(killing.find(activity)) == 1
    assert killing.kill(activity, 0.0) == set()
    assert lifeline.end() == ""


def test_a_process_that_has_ended_is_not_found(
    activity: str, start: Starts, lifeline: Lifeline
) -> None:
    start(f"{lifeline.hold}; echo ready >&9")
    lifeline.line()
    lifeline.end()
    assert killing.find(activity) == set()  # though nobody has waited for it


def test_a_process_is_asked_before_it_is_killed(
    activity: str, start: Starts, lifeline: Lifeline
) -> None:
    process = start(
        f"{lifeline.hold}; trap 'echo asked >&9; exit 5' TERM; echo ready >&9; while :; do :; done"
    )
    lifeline.line()
    assert killing.kill(activity, PATIENCE_SECONDS) == set()
    assert (lifeline.end(), process.wait(PATIENCE_SECONDS)) == ("asked\n", 5)


def test_without_a_grace_a_process_is_not_asked(
    activity: str, start: Starts, lifeline: Lifeline
) -> None:
    process = start(f"{lifeline.hold}; trap 'echo asked >&9' TERM; echo ready >&9; sleep 1000")
    lifeline.line()
    assert killing.kill(activity, 0.0) == set()
    assert (lifeline.end(), process.wait(PATIENCE_SECONDS)) == ("", -signal.SIGKILL)


def test_a_process_that_forks_as_it_dies_leaves_nobody(
    activity: str, start: Starts, lifeline: Lifeline
) -> None:
    start(
        f"{lifeline.hold}; trap 'setsid sleep 1000 & exit' TERM; echo ready >&9; sleep 1000 & wait"
    )
    lifeline.line()
    assert killing.kill(activity, 0.2) == set()
    assert lifeline.end() == ""


class Steps:
    """A shell of the activity, which does what it is told, step by step."""

    def __init__(self, start: Starts, lifeline: Lifeline) -> None:
        self._lifeline = lifeline
        steps = lifeline.path.with_name("steps")
        os.mkfifo(steps)
        self._steps = os.open(steps, os.O_RDWR)
        self.pid = start(
            f"{lifeline.hold}; while read -r step; do eval \"$step\"; done <'{steps}'"
        ).pid

    def run(self, step: str) -> int:
        """The pid that the step tells: ``$!`` or ``$$``."""
        os.write(self._steps, step.encode() + b"\n")
        return int(self._lifeline.line())

    def close(self) -> None:
        os.close(self._steps)


@pytest.fixture
def steps(activity: str, start: Starts, lifeline: Lifeline) -> Iterator[Steps]:
    made = Steps(start, lifeline)
    yield made
    made.close()
    killing.kill(activity, 0.0)  # orphans, too


CHILD = "sleep 1000 & echo $! >&9"
HIDDEN = "env -i sleep 1000 & echo $! >&9"
ORPHAN = "pid=$(setsid sh -c 'echo $$; exec sleep 1000 >/dev/null' &); echo $pid >&9"


def test_since_a_snapshot_only_what_started_then_is_found_and_killed(
    activity: str, steps: Steps, lifeline: Lifeline
) -> None:
    old = {steps.pid, steps.run(CHILD), steps.run(ORPHAN)}
    snapshot = killing.snapshot()
    assert killing.find(activity, since=snapshot, parent=steps.pid) == set()
    new = {steps.run(CHILD), steps.run(HIDDEN), steps.run(ORPHAN)}
    assert killing.find(activity, since=snapshot, parent=steps.pid) == new
    assert killing.find(activity) == old | new
    assert killing.kill(activity, 0.0, since=snapshot, parent=steps.pid) == set()
    assert killing.find(activity) == old
    assert killing.kill(activity, 0.0) == set()
    assert lifeline.end() == ""


def test_what_an_older_process_starts_is_its_own_affair_unless_that_is_the_parent(
    activity: str, steps: Steps
) -> None:
    snapshot = killing.snapshot()
    child, orphan = steps.run(CHILD), steps.run(ORPHAN)
    assert killing.find(activity, since=snapshot) == {orphan}
    assert killing.find(activity, since=snapshot, parent=steps.pid) == {child, orphan}
    assert killing.kill(activity, 0.0, since=snapshot) == set()
    assert killing.find(activity) == {steps.pid, child}


def test_a_process_is_told_from_an_older_namesake_by_its_start(activity: str, steps: Steps) -> None:
    orphan = steps.run(ORPHAN)
    snapshot = killing.snapshot()
    assert orphan not in killing.find(activity, since=snapshot)
    snapshot[orphan] -= 1
    assert killing.find(activity, since=snapshot) == {orphan}


def test_the_parent_is_spared_though_it_is_new(activity: str, steps: Steps) -> None:
    child = steps.run(CHILD)
    assert killing.find(activity, since={}, parent=steps.pid) == {child}


def test_the_agent_itself_is_never_among_them(activity: str) -> None:
    """Not even when it was started from within an activity, as in a session in a session."""
    script = (
        "import os, sys; from claude_mcp.agent.processes import killing; "
        "activity = os.environ[killing.MARKER_VARIABLE]; "
        "sys.exit(0 if os.getpid() not in killing.find(activity) else 1)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **killing.marker_environment(activity)},
        check=False,
    )
    assert found.returncode == 0


def test_whoever_bears_the_number_of_one_that_was_held_is_held_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Numbers go round: in a fork bomb within seconds."""
    signalled: list[set[int]] = []
    monkeypatch.setattr(killing, "_signal", lambda pids, number: signalled.append(set(pids)))
    looks = iter([{5}, {5, 6}, {5, 6}])
    assert killing._stop_all(lambda: next(looks)) == {5, 6}
    assert signalled == [{5}, {5, 6}]


def test_in_a_crowd_one_look_in_vain_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killing, "_signal", lambda pids, number: None)
    crowd = set(range(10, 11 + killing.CROWD))
    late = {5}
    looks = iter([crowd, crowd, crowd, crowd | late, *[crowd] * killing.CROWD_SCANS])
    assert killing._stop_all(lambda: next(looks)) == crowd | late
    assert list(looks) == []


def test_of_a_bomb_whoever_is_seen_is_stopped_at_once_and_looked_for_again(
    activity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is there between others' ends and their next forks is not missed by one look."""
    marked = f"A=b\0{killing.MARKER_VARIABLE}={activity}\0".encode()
    sweeps: list[int] = []
    stopped: list[set[int]] = []

    def listing(path: str) -> list[str]:
        sweeps.append(len(sweeps))
        return ["self", "7", "8"] if len(sweeps) < 4 else ["self", "7", "8", "9"]

    monkeypatch.setattr(os, "listdir", listing)
    monkeypatch.setattr(killing, "_environment", lambda pid: b"" if pid == 8 else marked)
    monkeypatch.setattr(killing, "_signal", lambda pids, number: stopped.append(set(pids)))
    killing._stop_fork_bomb(activity)
    assert stopped[:3] == [{7}] * 3
    assert stopped[3:] == [{7}, {9}] * (1 + killing.STABLE_SWEEPS)
