"""The test cluster of ``scripts/start-kubernetes``, as tests look at it and disturb it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from claude_mcp.engine.kubernetes import marks

GATEWAY: Final = "10.244.0.1"
"""This machine, as pods reach it."""
CALL_SECONDS: Final = 120
COME_BACK_SECONDS: Final = 90.0
"""A bound for a machine that is busy; a program is back within two seconds on a quiet one."""
READY: Final = {
    "kube-apiserver": ("get", "--raw=/readyz"),
    "etcd": ("get", "--raw=/readyz"),
    "kubelet": ("get", "--raw=/api/v1/nodes/127.0.0.1/proxy/healthz"),
    "containerd": ("wait", "--for=condition=Ready", "node/127.0.0.1", "--timeout=1s"),
}


class Cluster:
    """``KUBECONFIG`` names the restricted user's file; that of the administrator is beside it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.kubeconfig = Path(environment["KUBECONFIG"])
        self.state = self.kubeconfig.parent
        # An older one may be under test.
        self._kubectl = str(self.state.parent / "bin" / "client" / "kubectl")
        self._environment = {**environment, "KUBECONFIG": str(self.state / "admin.kubeconfig")}

    def admin(self, *args: str, check: bool = True) -> str:
        """What ``kubectl`` prints in the namespace of the tests for one who may do everything."""
        return self.anywhere(args[0], "--namespace=claude-mcp", *args[1:], check=check)

    def anywhere(self, *args: str, data: str | None = None, check: bool = True) -> str:
        done = subprocess.run(
            [self._kubectl, *args],
            env=self._environment,
            input=data,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def until(self, *args: str) -> None:
        """Wait until ``kubectl`` succeeds with these arguments."""
        end = time.monotonic() + COME_BACK_SECONDS
        while not self._succeeds(*args):
            assert time.monotonic() < end, f"kubectl {' '.join(args)} goes on failing"
            time.sleep(0.2)

    def everything(self) -> str:
        """Every object of the namespace that the API server has, as it has it."""
        kinds = self.anywhere(
            "api-resources", "--namespaced", "--verbs=list", "--output=name"
        ).split()
        return "".join(self.admin("get", kind, "--output=json", check=False) for kind in kinds)

    def processes(self, program: str) -> list[int]:
        """Numbers of the cluster's processes of this program, which others here may run too."""
        box = (self.state / "pid").read_text().strip()
        space = os.readlink(f"/proc/{box}/ns/pid")
        return [pid for pid in map(int, _numbers()) if _runs(pid, program, space)]

    def until_left(self, directory: Path) -> None:
        """Until no pod has a volume there: its node ends it some seconds after its object."""
        box = (self.state / "pid").read_text().strip()
        own = os.readlink(f"/proc/{box}/ns/mnt")  # the kubelet takes its time to unmount
        end = time.monotonic() + COME_BACK_SECONDS
        while any(_mounts(each, directory.name, own) for each in _numbers()):
            assert time.monotonic() < end, f"a pod goes on with {directory}"
            time.sleep(0.1)

    def kill(self, program: str) -> None:
        """Return when it has ended; it is started again at once."""
        there = self.processes(program)
        assert there, f"the cluster has no {program}"
        for pid in there:
            _kill(pid)

    def take_memory(self, container: str) -> None:
        """Until the kernel has killed all of a container: its limit follows what it still has."""
        mark = f"{marks.ID_VARIABLE}={container}".encode()
        groups = [_memory_group(pid, mark) for pid in map(int, _numbers())]
        [directory] = {each for each in groups if each is not None}
        limit = directory / "memory.limit_in_bytes"
        end = time.monotonic() + COME_BACK_SECONDS
        while directory.exists():
            assert time.monotonic() < end, "the container outlives its memory"
            with contextlib.suppress(OSError):  # it is ending, or nothing can be taken now
                limit.write_text((directory / "memory.usage_in_bytes").read_text())
            time.sleep(0.02)

    @contextmanager
    def outage(self, program: str) -> Iterator[None]:
        """It is killed, and started again at the end, whatever happens meanwhile."""
        hold = self.state / "hold" / program
        hold.touch()
        try:
            self.kill(program)
            yield
        finally:
            hold.unlink()
            self.wait_for(program)

    def wait_for(self, program: str) -> None:
        """Until it answers again."""
        end = time.monotonic() + COME_BACK_SECONDS
        while not self.processes(program) or not self._succeeds(*READY[program]):
            assert time.monotonic() < end, f"{program} does not come back: see {self.state}/log"
            time.sleep(0.2)

    def _succeeds(self, *args: str) -> bool:
        done = subprocess.run(
            [self._kubectl, *args],
            env=self._environment,
            capture_output=True,
            timeout=CALL_SECONDS,
            check=False,
        )
        return done.returncode == 0


def _kill(pid: int) -> None:
    """A process, or what is forked of it and has not become another program yet."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            ended, _, _ = select.select([descriptor], [], [], COME_BACK_SECONDS)
            assert ended, f"process {pid} does not end"
        finally:
            os.close(descriptor)


def _numbers() -> list[str]:
    return [each for each in os.listdir("/proc") if each.isdigit()]


def _memory_group(pid: int, variable: bytes) -> Path | None:
    """Of a process with this variable. The test cluster has cgroups v1."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        # Afterwards: one that has ended has no variables, and belongs to no group any more.
        if variable not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return None
    except OSError:  # it has ended
        return None
    [group] = [line.split(":")[2] for line in lines if ":memory:" in line]
    return Path("/sys/fs/cgroup/memory") / group.lstrip("/")


def _mounts(number: str, name: str, but: str) -> bool:
    try:
        return os.readlink(f"/proc/{number}/ns/mnt") != but and (
            name in Path(f"/proc/{number}/mountinfo").read_text()
        )
    except OSError:  # it has ended
        return False


def _runs(pid: int, program: str, space: str) -> bool:
    try:
        name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 1)[0]
        return os.path.basename(name) == program.encode() and (
            os.readlink(f"/proc/{pid}/ns/pid") == space
        )
    except OSError:  # it has ended
        return False
