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
    path = bare("inspect", "--format={{.HostsPath}}", session.proxy.name).strip()
    if not os.access(of_engine(path), os.W_OK):  # of another user's engine
        _give_names_inside(bare, session.proxy.name, path, names)
        return
    before = of_engine(path).read_text()
    with of_engine(path).open("r+") as file:  # the same file: it is mounted
        file.write(_with_names(before, names))
        file.truncate()


def _with_names(hosts: str, names: Mapping[str, str]) -> str:
    lines = [line for line in hosts.splitlines() if not set(names) & set(line.split())]
    return "\n".join(lines + [f"{address} {name}" for name, address in names.items()]) + "\n"


def _give_names_inside(bare: Bare, proxy: str, path: str, names: Mapping[str, str]) -> None:
    """The same in a container of root's that has the file."""
    image = bare("inspect", "--format={{.Image}}", proxy).strip()
    run = (
        "run",
        "--rm",
        "--interactive",
        "--user=0",
        "--entrypoint=",
        f"--volume={path}:/hosts",
        image,
    )
    before = bare(*run, "cat", "/hosts")
    bare.feed(*run, "sh", "-c", "cat >/hosts", data=_with_names(before, names).encode())


def decisions(bare: Bare, session: Session) -> str:
    """What the session's proxy has written down."""
    assert session.proxy is not None
    return bare("logs", session.proxy.name)


def bash(command: str) -> str:
    """A prompt whose answer is what a command of Claude's Bash tool said."""
    return script({"tool": "Bash", "input": {"command": command}}, {"report": True})
