"""What tests of restricted sessions share, such as names that only a session's proxy knows."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
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

    def named(hosts: str) -> str:
        kept = [line for line in hosts.splitlines() if not set(names) & set(line.split())]
        added = [f"{address} {name}" for name, address in names.items()]
        return "\n".join(kept + added) + "\n"

    rewrite(bare, session.proxy.name, "HostsPath", named)


def rewrite(bare: Bare, container: str, file: str, change: Callable[[str], str]) -> None:
    """Change a file of the host that the engine has mounted into a container.

    ``file`` is what ``inspect`` calls its path. If it belongs to another user's engine, a container
    of root's changes it.
    """
    path = bare("inspect", f"--format={{{{.{file}}}}}", container).strip()
    if os.access(of_engine(path), os.W_OK):
        text = change(of_engine(path).read_text())
        with of_engine(path).open("r+") as opened:  # the same file: it is mounted
            opened.write(text)
            opened.truncate()
        return
    image = bare("inspect", "--format={{.Image}}", container).strip()
    run = (
        "run",
        "--rm",
        "--interactive",
        "--user=0",
        "--entrypoint=",
        f"--volume={path}:/it",
        image,
    )
    text = change(bare(*run, "cat", "/it"))
    bare.feed(*run, "sh", "-c", "cat >/it", data=text.encode())


def decisions(bare: Bare, session: Session) -> str:
    """What the session's proxy has written down."""
    assert session.proxy is not None
    return bare("logs", session.proxy.name)


def bash(command: str) -> str:
    """A prompt whose answer is what a command of Claude's Bash tool said."""
    return script({"tool": "Bash", "input": {"command": command}}, {"report": True})
