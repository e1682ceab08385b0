"""Runs tests of `tests/integration` on an engine that is reached in another way.

Usage: PYTHONPATH=. python scripts/far_suite.py WAY [pytest's arguments]

The ways: ``docker-ssh`` and ``podman-ssh`` lead through an ssh server of our own to the engines of
this machine, ``podman-service`` to Podman's API on a socket. Each test runs as it is; what it
creates is on this machine, so that it can be looked at. Needs root and `/usr/sbin/sshd`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.far_engines import over_ssh

WAYS = ("docker-ssh", "podman-ssh", "podman-service")
SECONDS = 30.0


@contextmanager
def podman_service(socket: Path) -> Iterator[None]:
    running = subprocess.Popen(["podman", "system", "service", "--time=0", f"unix://{socket}"])
    try:
        deadline = time.monotonic() + SECONDS
        while not socket.exists():
            if running.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("Podman's service did not start.")
            time.sleep(0.05)
        yield
    finally:
        running.terminate()
        running.wait(SECONDS)


@contextmanager
def way(name: str, directory: Path) -> Iterator[Mapping[str, str]]:
    """The variables by which the engine is reached."""
    socket = directory / "podman.sock"
    with ExitStack() as stack:
        if name.startswith("podman"):
            stack.enter_context(podman_service(socket))
        if name == "docker-ssh":
            yield stack.enter_context(over_ssh(directory, {})).variables
        elif name == "podman-ssh":
            far = over_ssh(directory, {}, program="podman", path=str(socket))
            yield stack.enter_context(far).variables
        else:
            yield {"CLAUDE_MCP_ENGINE": "podman", "CLAUDE_MCP_ENGINE_HOST": f"unix://{socket}"}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in WAYS:
        print(__doc__, file=sys.stderr)
        return 2
    name, rest = arguments[0], arguments[1:] or ["tests/integration"]
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="far-suite-"))
        variables = stack.enter_context(way(name, Path(directory)))
        environment = {**os.environ, **variables, "CLAUDE_MCP_REQUIRE_ENGINES": "1"}
        argv = [sys.executable, "-m", "pytest", *rest]
        return subprocess.run(argv, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
