"""Runs the tests of sessions on an engine that is reached in another way.

Usage: PYTHONPATH=. python scripts/far_suite.py WAY [pytest's arguments]

The tests have a directory of temporary files that the engine does not see, as on another machine.
So each session has a clone or a copy of its project. Containers are processes of this machine
nevertheless, and tests may look at them. What needs a mounted project is marked ``near`` and left
out. The ways:

  docker-ssh       Docker through an ssh server of our own
  docker-tls       a daemon of our own behind TLS, in a network of its own; the tests run there too
  docker-context   the same by the name of a Docker context
  podman-service   Podman's service on a socket
  podman-ssh       the same through ssh
  podman-docker    podman-docker's command ``docker`` as its client
  podman-user      root as the client of another user's service
  podman-of-user   that user as the client of root's service

Needs root, and for the ways with ssh `/usr/sbin/sshd`. The user is claude-mcp-test, or the one that
TEST_USER names; it must be able to read the checkout, and tests run as it with the Python that
`scripts/test --engine rootless` makes.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.far_engines import INSIDE_PORT, as_user, in_context, over_ssh, over_tls, podman_service

WAYS = (
    "docker-ssh",
    "docker-tls",
    "docker-context",
    "podman-service",
    "podman-ssh",
    "podman-docker",
    "podman-user",
    "podman-of-user",
)
USER = os.environ.get("TEST_USER", "claude-mcp-test")
IMAGE = os.environ.get("CLAUDE_MCP_IMAGE", "claude-code-custom:latest")
PODMAN_DOCKER = (
    '#!/bin/sh\necho "Emulate Docker CLI using podman." >&2\nexec /usr/bin/podman "$@"\n'
)
"""What Debian's package installs as ``docker``, with the message that it prints by default."""
OWN_ADDRESS = (
    "link add far0 type veth peer name far1",
    "address add 10.213.0.2/24 dev far0",
    "link set far0 up",
    "link set far1 up",
    "route add default dev far0",
)
"""Gives a network that is only a loopback an address that containers reach, as a machine has."""
OF_OTHER_ENGINES = (
    "integration/test_bundle.py",
    "integration/test_daemon.py",
    "integration/test_far_engines.py",
    "integration/test_image.py",
    "integration/test_images.py",
    "integration/test_named_engines.py",
    "integration/test_remote_engine.py",
    "integration/test_several.py",
    "integration/test_ci_examples.py",
    "integration/test_screens.py",
    "e2e/test_server_container.py",
)
"""Tests that choose their engines themselves, or build images."""


@dataclass(frozen=True, slots=True)
class Way:
    """How pytest is started, so that it reaches the engine and the engine not its files."""

    variables: Mapping[str, str]
    enter: Sequence[str]
    """The program that leads to where the tests run."""
    python: str = sys.executable


def podman_at(address: str) -> dict[str, str]:
    return {"CLAUDE_MCP_ENGINE": "podman", "CLAUDE_MCP_ENGINE_HOST": address}


HIDDEN = 'mount -t tmpfs -o mode=1777 none "$1" && shift && exec "$@"'


def apart(files: Path) -> tuple[str, ...]:
    """Starts a program that has ``files`` to itself."""
    shell = ("sh", "-c", HIDDEN, "_", str(files))
    return ("unshare", "--mount", "--propagation=private", *shell)


@contextmanager
def way(name: str, directory: Path, files: Path) -> Iterator[Way]:
    socket = directory / "podman.sock"
    with ExitStack() as stack:
        if name in ("docker-tls", "docker-context"):
            far = stack.enter_context(over_tls(IMAGE, directory, files))
            assert far.daemon is not None
            daemon = far.daemon
            for words in OWN_ADDRESS:
                subprocess.run([*daemon.in_its_network, "ip", *words.split()], check=True)
            # On its network, the daemon itself is at this address.
            far = replace(far, host=f"tcp://127.0.0.1:{INSIDE_PORT}")
            if name == "docker-context":
                far = in_context(far, directory)
            variables = {**far.variables, "CLAUDE_MCP_TEST_ENGINE_ROOT": daemon.root}
            yield Way(variables, daemon.in_its_network)
            return
        if name == "docker-ssh":
            far = stack.enter_context(over_ssh(directory, {}))
            yield Way(far.variables, apart(files))
            return
        service_user = USER if name == "podman-user" else ""
        if service_user:
            shutil.chown(directory, service_user)
        of_user = name == "podman-of-user"
        # A user's Podman joins namespaces that it has already, so there the service is apart.
        stack.enter_context(podman_service(socket, service_user, apart(files) if of_user else ()))
        if name == "podman-ssh":
            far = stack.enter_context(over_ssh(directory, {}, program="podman", path=str(socket)))
            yield Way(far.variables, apart(files))
        elif of_user:
            shutil.chown(socket, USER)
            # Root's own Python may be out of the user's reach; scripts/test makes this one.
            python = f"{pwd.getpwnam(USER).pw_dir}/checkout/.venv/bin/python"
            yield Way(podman_at(f"unix://{socket}"), as_user(USER), python)
        elif name == "podman-docker":
            program = directory / "docker"
            program.write_text(PODMAN_DOCKER)
            program.chmod(0o755)
            yield Way(
                {**podman_at(f"unix://{socket}"), "CLAUDE_MCP_ENGINE": str(program)}, apart(files)
            )
        else:
            rootless = {"CLAUDE_MCP_TEST_ROOTLESS": "1"} if service_user else {}
            yield Way({**podman_at(f"unix://{socket}"), **rootless}, apart(files))


def remove_left(program: Sequence[str], files: Path) -> None:
    """Destroys the sessions that failed tests left: those whose project is among our files."""

    def run(*words: str) -> str:
        argv = [*program, "-m", "claude_mcp", *words]
        return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout

    sessions = json.loads(run("list", "--quick", "--json"))["sessions"]
    left = [each for each in sessions if str(each["projectPath"]).startswith(f"{files}/")]
    if left:
        names = ", ".join(each["sessionName"] for each in left)
        print(f"Removing what tests left behind: {names}", file=sys.stderr)
        run("destroy", "--yes", "--force", *(each["sessionId"] for each in left))


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in WAYS:
        print(__doc__, file=sys.stderr)
        return 2
    name, rest = arguments[0], arguments[1:]
    if not any(each.startswith("tests/") for each in rest):
        ignored = [f"--ignore=tests/{each}" for each in OF_OTHER_ENGINES]
        rest = ["tests/integration", "tests/e2e", *ignored, *rest]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="far-suite-")))
        directory.chmod(0o755)
        files = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="far-files-")))
        files.chmod(0o1777)
        found = stack.enter_context(way(name, directory, files))
        variables = {
            **found.variables,
            "CLAUDE_MCP_CONFIG": os.devnull,
            "CLAUDE_MCP_REQUIRE_ENGINES": "1",
            "CLAUDE_MCP_TEST_FAR": "1",
            # The user may not be able to write to the checkout.
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": f"{files}/hypothesis",
            "TMPDIR": str(files),
        }
        set_variables = (f"{key}={value}" for key, value in variables.items())
        program = [*found.enter, "env", *set_variables, found.python]
        try:
            argv = [*program, "-m", "pytest", "-p", "no:cacheprovider", *rest]
            return subprocess.run(argv, check=False).returncode
        finally:
            remove_left(program, files)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
