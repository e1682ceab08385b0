"""A network that is nothing but a loopback, and in it Podman with an empty store of its own.

Like ``own_daemon.OwnDaemon``, for an engine without a daemon: as root, or as an ordinary user. Root
only. Everything in it ends with the process that holds the namespaces.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

STANDIN: Final = Path(__file__).parents[1] / "scripts" / "messages_standin.py"
SECONDS: Final = 60
HOLD: Final = """
mount --make-rshared /
ip link set lo up
[ -z "$1" ] || ip address add "$1" dev lo
echo ready
read -r _ || true
"""
OWN_ADDRESS: Final = "192.0.2.1/32"
"""Rootless Podman leads containers to an address of the machine that is none of the loopback's."""
PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


class OwnNetwork:
    def __init__(self, user: str | None) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="own-podman-"))
        self._directory.chmod(0o755)
        self._account = pwd.getpwnam(user) if user else pwd.getpwuid(0)
        for name in ("home", "runtime", "store", "run"):
            self._make(name)
        # What Podman chose for a store once, it keeps: with an old CNI's files, not netavark.
        backend = self._directory / "store" / "defaultNetworkBackend"
        backend.write_text("netavark")
        os.chown(backend, self._account.pw_uid, self._account.pw_gid)
        store, run = self._directory / "store", self._directory / "run"
        (self._directory / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\nrunroot = "{run}"\n'
            f'graphroot = "{store}"\nrootless_storage_path = "{store}"\n'
        )
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation=private", "bash", "-ec", HOLD, "_",
             OWN_ADDRESS if user else ""],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self._standin: subprocess.Popen[str] | None = None

    def _make(self, name: str) -> None:
        path = self._directory / name
        path.mkdir(mode=0o700)
        os.chown(path, self._account.pw_uid, self._account.pw_gid)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self._directory / "home"),
            "PATH": PATH,
            "USER": self._account.pw_name,
            "XDG_RUNTIME_DIR": str(self._directory / "runtime"),
            "CONTAINERS_STORAGE_CONF": str(self._directory / "storage.conf"),
        }

    def inside(
        self, *argv: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a program there, as the user."""
        enter = ["nsenter", f"--target={self._holder.pid}", "--net", "--mount"]
        if self._account.pw_uid:
            home = self.environment["HOME"]  # runuser sets the account's own
            enter += ["runuser", "-u", self._account.pw_name, "--", "env", f"HOME={home}"]
        return subprocess.Popen(
            [*enter, *argv], env={**self.environment, **(env or {})}, cwd="/",
            start_new_session=True, **options,
        )  # fmt: skip

    def standin(self) -> int:
        """Start the Messages API where its containers reach it; its port."""
        self._standin = subprocess.Popen(
            ["nsenter", f"--target={self._holder.pid}", "--net", sys.executable, str(STANDIN),
             "--host=0.0.0.0", "--until-stdin-closes"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._standin.stdout is not None
        return int(json.loads(self._standin.stdout.readline())["port"])

    def end(self) -> None:
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.inside("podman", "rm", "--all", "--force", "--time=0", **quiet).wait(SECONDS)
        self.inside("podman", "system", "migrate", **quiet).wait(SECONDS)
        # Mounts of the store, and files of users that only its namespace has.
        remove = ["podman", "unshare"] if self._account.pw_uid else []
        store = str(self._directory / "store")
        self.inside(*remove, "rm", "-rf", "--one-file-system", store, **quiet).wait(SECONDS)
        for each in (self._holder, self._standin):
            if each is not None:
                each.kill()
                each.wait(SECONDS)
                for pipe in (each.stdin, each.stdout):
                    if pipe is not None:
                        pipe.close()
        shutil.rmtree(self._directory, ignore_errors=True)
