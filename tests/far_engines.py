"""Ways to an engine that is far: TLS and ssh, each through a link that a test may cut.

The daemon is a test's own (``own_daemon``), whose loopback and files are not ours, or the shared
one behind an ssh server of the test's own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests import relay
from tests.own_daemon import OwnDaemon
from tests.ports import reserved_port
from tests.relay import Relay

SECONDS = 60.0
INSIDE_PORT = 2376


@dataclass(frozen=True, slots=True)
class Far:
    """An engine's address, what a configuration needs besides, and the link to it."""

    host: str
    settings: dict[str, str]
    link: Relay
    daemon: OwnDaemon | None = None

    @property
    def variables(self) -> dict[str, str]:
        host = {"CLAUDE_MCP_ENGINE_HOST": self.host} if self.host else {}
        return {**host, **self.settings}


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=SECONDS)


def certificates(directory: Path) -> None:
    """A certificate authority, and what it signed: for a server at the loopback, for a client."""
    directory.mkdir()
    where = str(directory)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _run(
        *("openssl", "req", "-x509", *key, "-days", "2", "-subj", "/CN=a test's authority"),
        *("-keyout", f"{where}/ca-key.pem", "-out", f"{where}/ca.pem"),
    )
    for name, prefix, use in (
        ("server", "server-", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"),
        ("client", "", "extendedKeyUsage=clientAuth\n"),
    ):
        (directory / "extensions").write_text(use)
        _run(
            *("openssl", "req", *key, "-subj", f"/CN={name}"),
            *("-keyout", f"{where}/{prefix}key.pem", "-out", f"{where}/request"),
        )
        _run(
            *("openssl", "x509", "-req", "-days", "2", "-in", f"{where}/request"),
            *("-CA", f"{where}/ca.pem", "-CAkey", f"{where}/ca-key.pem", "-CAcreateserial"),
            *("-extfile", f"{where}/extensions", "-out", f"{where}/{prefix}cert.pem"),
        )


def in_context(far: Far, directory: Path) -> Far:
    """The same engine by the name of a Docker context."""
    tls, where = far.settings["CLAUDE_MCP_ENGINE_TLS"], {"DOCKER_CONFIG": str(directory / "docker")}
    files = ",".join(f"{name}={tls}/{name}.pem" for name in ("ca", "cert", "key"))
    subprocess.run(
        ["docker", "context", "create", "far", f"--docker=host={far.host},{files}"],
        env={**os.environ, **where},
        check=True,
        capture_output=True,
        timeout=SECONDS,
    )
    return replace(far, host="", settings={"CLAUDE_MCP_ENGINE_CONTEXT": "far", **where})


@contextmanager
def over_tls(image: str, directory: Path, hidden: Path | None = None) -> Iterator[Far]:
    """A daemon of a test's own behind TLS; ``hidden`` is a directory where it has other files."""
    certificates(directory / "tls")
    where = directory / "tls"
    socket_path = directory / "way-in"
    with ExitStack() as stack:
        daemon = OwnDaemon(image)
        stack.callback(daemon.end)
        if hidden is not None:
            daemon.hide(hidden)
        daemon.start(
            f"--host=tcp://127.0.0.1:{INSIDE_PORT}", "--tlsverify", f"--tlscacert={where}/ca.pem",
            f"--tlscert={where}/server-cert.pem", f"--tlskey={where}/server-key.pem",
        )  # fmt: skip
        # It ends with the daemon's namespaces.
        daemon.run_inside(sys.executable, relay.__file__, str(socket_path), str(INSIDE_PORT))
        _await(lambda: connects(str(socket_path)))
        link = stack.enter_context(relay.relay(str(socket_path)))
        settings = {"CLAUDE_MCP_ENGINE": "docker", "CLAUDE_MCP_ENGINE_TLS": str(where)}
        yield Far(f"tcp://127.0.0.1:{link.port}", settings, link, daemon)


class Sshd:
    """An ssh server on the loopback that lets one key of its own in, as the user who runs us.

    ``variables`` are set for what it starts.
    """

    def __init__(self, directory: Path, variables: dict[str, str]) -> None:
        directory.mkdir(mode=0o700)
        self.key = directory / "key"
        for name in ("key", "host-key"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{directory}/{name}")
        (directory / "authorized").write_text((directory / "key.pub").read_text())
        self._stack = ExitStack()
        self.port = self._stack.enter_context(reserved_port())
        set_variables = " ".join(f'"{name}={value}"' for name, value in variables.items())
        (directory / "config").write_text(
            f"Port {self.port}\n"
            "ListenAddress 127.0.0.1\n"
            f"HostKey {directory}/host-key\n"
            f"AuthorizedKeysFile {directory}/authorized\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            "MaxStartups 200\nMaxSessions 200\n"
            + (f"SetEnv {set_variables}\n" if variables else "")
        )
        self.public = (directory / "host-key.pub").read_text().split(maxsplit=2)[:2]
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        self._log = (directory / "log").open("w")
        self._process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", str(directory / "config")],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        _await(lambda: connects(("127.0.0.1", self.port)))

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)
        self._log.close()
        self._stack.close()


def connects(target: relay.Address) -> bool:
    try:
        relay.connected(target).close()
    except OSError:
        return False
    return True


def _await(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def over_ssh(
    directory: Path,
    variables: dict[str, str],
    *,
    program: str = "docker",
    path: str = "",
) -> Iterator[Far]:
    """The engine behind an ssh server of the test's own.

    ``path`` is the socket of Podman's service there.
    """
    with ExitStack() as stack:
        server = Sshd(directory / "ssh", variables)
        stack.callback(server.end)
        link = stack.enter_context(relay.relay(("127.0.0.1", server.port)))
        settings = {
            "CLAUDE_MCP_ENGINE": program,
            "CLAUDE_MCP_ENGINE_SSH_KEY": str(server.key),
            **knowing(directory, f"[127.0.0.1]:{link.port} {' '.join(server.public)}\n"),
        }
        yield Far(f"ssh://root@127.0.0.1:{link.port}{path}", settings, link)


@contextmanager
def podman_service(socket: Path, user: str = "", enter: Sequence[str] = ()) -> Iterator[None]:
    """Podman's API on a socket, of root or of another user; ``enter`` leads to where it runs."""
    argv = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
    if user:
        argv = [*as_user(user), *argv]
    running = subprocess.Popen([*enter, *argv], cwd="/")
    try:
        deadline = time.monotonic() + SECONDS
        while not connects(str(socket)):
            if running.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Podman's service did not start.")
            time.sleep(0.05)
        yield
    finally:
        running.terminate()
        running.wait(SECONDS)


def as_user(name: str) -> list[str]:
    """Starts a program as another user, as after a login."""
    user = pwd.getpwnam(name)
    own = {
        "HOME": user.pw_dir,
        "USER": name,
        "LOGNAME": name,
        "XDG_RUNTIME_DIR": f"/run/user/{user.pw_uid}",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
    }
    dropped = (f"--unset={each}" for each in ("TMPDIR", "PYENV_VERSION", "VIRTUAL_ENV"))
    become = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--")
    return [*become, "env", *dropped, *map("=".join, own.items())]


def knowing(directory: Path, hosts: str) -> dict[str, str]:
    """The environment of a user whose known hosts are these.

    ssh looks for them in the home that the system knows, so this ``ssh`` names the file. Podman
    goes by HOME.
    """
    (directory / "home" / ".ssh").mkdir(parents=True, mode=0o700)
    known = directory / "home" / ".ssh" / "known_hosts"
    known.write_text(hosts)
    (directory / "bin").mkdir()
    program = directory / "bin" / "ssh"
    program.write_text(
        f"#!/bin/sh\nexec '{shutil.which('ssh')}' -o 'UserKnownHostsFile={known}' "
        '-o GlobalKnownHostsFile=/dev/null -F none "$@"\n'
    )
    program.chmod(0o755)
    return {"PATH": f"{directory}/bin:{os.environ['PATH']}", "HOME": str(directory / "home")}
