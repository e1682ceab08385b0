"""What tests of restricted sessions share, such as names that only a session's proxy knows."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from claude_mcp.sessions.session import Session
from tests.engine_fixtures import Bare
from tests.peers import script


def own_address() -> str:
    """An address of this machine that containers reach, which is no loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


def of_engine(path: str) -> Path:
    """A file of the engine; scripts/far_suite.py says where those of its own daemon are."""
    return Path(os.environ.get("CLAUDE_MCP_TEST_ENGINE_ROOT", "") + path)


def give_names(bare: Bare, session: Session, names: Mapping[str, str]) -> None:
    """Have the session's proxy resolve names to addresses; a later one of a name replaces it.

    The engine has the file that is /etc/hosts in a container on the host; it makes it anew whenever
    the container is started.
    """
    assert session.proxy is not None
    path = of_engine(bare("inspect", "--format={{.HostsPath}}", session.proxy.name).strip())
    lines = [line for line in path.read_text().splitlines() if not set(names) & set(line.split())]
    lines += [f"{address} {name}" for name, address in names.items()]
    with path.open("r+") as file:  # the same file: it is mounted
        file.write("\n".join(lines) + "\n")
        file.truncate()


def decisions(bare: Bare, session: Session) -> str:
    """What the session's proxy has written down."""
    assert session.proxy is not None
    return bare("logs", session.proxy.name)


def bash(command: str) -> str:
    """A prompt whose answer is what a command of Claude's Bash tool said."""
    return script({"tool": "Bash", "input": {"command": command}}, {"report": True})
