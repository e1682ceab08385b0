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

    def kill(self, program: str) -> None:
        """Return when it has ended; it is started again at once."""
        there = self.processes(program)
        assert there, f"the cluster has no {program}"
        for pid in there:
            _kill(pid)

    def take_memory(self, container: str) -> None:
        """Until the kernel has killed all of a container: its limit follows what it still has."""
        mark = f"{marks.ID_VARIABLE}={container}".encode()
        pids = [pid for pid in map(int, _numbers()) if _has(pid, mark)]
        [directory] = {group for pid in pids if (group := _memory_group(pid))}
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
        while not self.processes(program) or not self._is_ready(program):
            assert time.monotonic() < end, f"{program} does not come back: see {self.state}/log"
            time.sleep(0.2)

    def _is_ready(self, program: str) -> bool:
        done = subprocess.run(
            [self._kubectl, *READY[program]],
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


def _has(pid: int, variable: bytes) -> bool:
    try:
        return variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return False


def _memory_group(pid: int) -> Path | None:
    """Of cgroups v1, which the test cluster has; None if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    [group] = [line.split(":")[2] for line in lines if ":memory:" in line]
    return Path("/sys/fs/cgroup/memory") / group.lstrip("/")


def _runs(pid: int, program: str, space: str) -> bool:
    try:
        name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 1)[0]
        return os.path.basename(name) == program.encode() and (
            os.readlink(f"/proc/{pid}/ns/pid") == space
        )
    except OSError:  # it has ended
        return False
