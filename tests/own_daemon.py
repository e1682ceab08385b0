"""A Docker daemon of a test's own, which it may stop and kill.

It runs in namespaces of its own, so that neither its network nor its mounts are the host's, and has
its state in memory. It reads the layers of an image from the host's daemon, so it is up within a
second; without an image, its store is empty. Everything in it ends with the process that holds the
namespaces.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

START_SECONDS: Final = 60.0
LOG_CHARS: Final = 1000
PYTHON: Final = os.path.realpath(sys.executable)
STANDIN: Final = Path(__file__).parents[1] / "scripts" / "messages_standin.py"

HOLD: Final = """
set -e
mount -t proc proc /proc
mkdir -p /run/containerd && mount -t tmpfs none /run/containerd
mkdir "$1/state/root"
mount -t tmpfs none "$1/state/root"  # a mount of its own, or the daemon hides the layers with one
mkdir -p "$1/state/root/image" "$1/state/root/overlay2"
if [ -n "$3" ]; then
    cp -a "$2/image/overlay2" "$1/state/root/image/"
    cp -a "$2/overlay2/l" "$1/state/root/overlay2/"
fi
for layer in $3; do
    mine="$1/state/root/overlay2/${layer##*/}"
    mkdir -p "$mine/diff" "$mine/work"
    for file in link lower committed; do
        [ ! -e "$layer/$file" ] || cp -a "$layer/$file" "$mine/"
    done
done
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo ready
read -r _ || true  # not another program: bash reaps what the daemon leaves when it is killed
"""
"""Holds the namespaces until its stdin ends: the directory, the host's data root, the layers."""


RUN: Final = """
root="$1"
for layer in $2; do
    mine="$root/overlay2/${layer##*/}/diff"
    mountpoint -q "$mine" || mount --bind "$layer/diff" "$mine"  # a daemon that ends unmounts all
done
shift 2
exec dockerd --data-root="$root" "$@"
"""


class OwnDaemon:
    def __init__(self, image: str | None) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="own-docker-"))
        (self._directory / "state").mkdir()
        self.host = f"unix://{self._directory}/socket"
        self._log = (self._directory / "log").open("w")
        root = _said("docker", "info", "--format={{.DockerRootDir}}")
        self._layers = " ".join(_layers(image) if image else ())
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
             "--propagation=private", "bash", "-c", HOLD, "_", str(self._directory), root,
             self._layers],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n", self.log
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self._first = children.read_text().split()[0]
        self._first_ends = os.pidfd_open(int(self._first))
        self._standin: subprocess.Popen[str] | None = None
        self._client: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text()

    @property
    def in_its_network(self) -> list[str]:
        """Starts a program on its network, with the files of this machine."""
        return ["nsenter", f"--net=/proc/{self._first}/ns/net", "--"]

    @property
    def root(self) -> str:
        """Where its files are, as it sees them."""
        return f"/proc/{self._first}/root"

    def inside(self, *argv: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a program in its namespaces, where the network is a loopback of its own."""
        enter = ["nsenter", f"--target={self._first}", "--net", "--mount", "--pid"]
        return subprocess.Popen([*enter, *argv], start_new_session=True, **options)

    def run_inside(self, *argv: str) -> None:
        """Start a program in its namespaces, which ends with them."""
        self._others.append(
            self.inside(*argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        )

    def start(self, *options: str) -> None:
        state = self._directory / "state"
        self._client = self.inside(
            "bash", "-c", RUN, "_", f"{state}/root", self._layers, f"--exec-root={state}/exec",
            f"--pidfile={state}/pid", f"--host={self.host}", "--storage-driver=overlay2", *options,
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while self.bare("version", check=False).returncode != 0:
            assert self._client.poll() is None, self.log[-LOG_CHARS:]
            assert time.monotonic() < deadline, self.log[-LOG_CHARS:]

    def hide(self, directory: Path) -> None:
        """Let it see something else than we do in a directory; begins before it starts."""
        assert self.inside("mount", "-t", "tmpfs", "none", str(directory)).wait() == 0
        other = str(directory / "other")
        assert self.inside("install", "-D", "/etc/hostname", f"{other}/not-ours").wait() == 0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon; wait for its end if it ends it."""
        assert self._client is not None
        children = f"/proc/{self._client.pid}/task/{self._client.pid}/children"
        os.kill(int(Path(children).read_text().split()[0]), number)
        if number is signal.SIGSTOP:
            self._await_stop()
        if number is signal.SIGCONT:
            os.kill(self._client.pid, number)  # nsenter stops with its child, but does not go on
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._client.wait(START_SECONDS)

    def _await_stop(self) -> None:
        """Wait until nsenter has stopped too: afterwards it would stop while the daemon runs."""
        assert self._client is not None
        deadline = time.monotonic() + START_SECONDS
        while (
            Path(f"/proc/{self._client.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T"
        ):
            assert time.monotonic() < deadline, "nsenter does not stop with the daemon"
            time.sleep(0.01)

    def bare(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", f"--host={self.host}", *args],
            capture_output=True, text=True, check=check, timeout=START_SECONDS,
        )  # fmt: skip

    def standin(self) -> int:
        """Start the Messages API where its containers reach it; its port."""
        self._standin = self.inside(
            PYTHON, str(STANDIN), "--host=0.0.0.0", "--until-stdin-closes",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._standin.stdout is not None
        return int(json.loads(self._standin.stdout.readline())["port"])

    def end(self) -> None:
        if self._client is not None and self._client.poll() is None:
            self.signal(signal.SIGCONT)
            containers = self.bare("ps", "--all", "--quiet", check=False).stdout.split()
            if containers:
                self.bare("rm", "--force", *containers, check=False)  # their cgroups too
        self._holder.kill()
        for each in (self._holder, self._client, self._standin, *self._others):
            if each is not None:
                each.wait(START_SECONDS)
                for pipe in (each.stdin, each.stdout):
                    if pipe is not None:
                        pipe.close()
        # The first process of a namespace ends after all others in it, which have files there.
        assert select.select([self._first_ends], [], [], START_SECONDS)[0], "it does not end"
        os.close(self._first_ends)
        self._log.close()
        shutil.rmtree(self._directory)


def _layers(image: str) -> list[str]:
    data = json.loads(
        _said("docker", "image", "inspect", "--format={{json .GraphDriver.Data}}", image)
    )
    layers = [data["UpperDir"], *data.get("LowerDir", "").split(":")]
    return [layer.removesuffix("/diff") for layer in layers if layer]


def _said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()
