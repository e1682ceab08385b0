"""The session's side of its published ports: runs ``claude_mcp.ports.inside`` as long as we run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

import claude_mcp
from claude_mcp.agent.channel import threads
from claude_mcp.agent.store.state import log
from claude_mcp.contract import places

RESTART_SECONDS = 0.5
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from claude_mcp.ports.inside import main; main(*sys.argv[2:])"
)


def start(ports: Sequence[int], path: str = places.PORTS_SOCKET) -> None:
    """Connect visitors with servers at these ports, from now on."""
    if not threads.start(_supervise, [path, *map(str, ports)]):
        log("published ports do not work: the session's process limit is reached")


def _supervise(arguments: list[str]) -> None:
    code = os.path.dirname(os.path.dirname(claude_mcp.__file__))  # the archive
    argv = [sys.executable, "-I", "-S", "-c", _BOOT, code, *arguments]
    while True:
        try:
            with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
                # Nothing is ever written: stdin ends with this process.
                log(f"the forwarder to published ports ended, exit code {process.wait()}")
        except OSError as error:  # at the session's process limit
            log(f"the forwarder to published ports cannot be started: {error}")
        time.sleep(RESTART_SECONDS)
