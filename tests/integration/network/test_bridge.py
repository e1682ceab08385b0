"""A bridge whose hardware address is that of a container, and changes when this one ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_mcp.engine.engine import Engine
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.turns import commands
from tests.engine_fixtures import Bare
from tests.restricted import own_address
from tests.witnesses import watching

pytestmark = pytest.mark.podman
HIGHER, LOWER = "02:00:00:00:00:01", "02:00:00:00:00:00"
"""Below those of all containers: the lowest is the bridge's."""
SECONDS = 10


@contextlib.contextmanager
def port(bridge: str, name: str, address: str) -> Iterator[None]:
    """A port of the bridge, as a container has one."""
    made = ["ip", "link", "add", name, "address", address, "type", "veth", "peer", f"{name}p"]
    subprocess.run(made, check=True)
    try:
        subprocess.run(["ip", "link", "set", name, "master", bridge, "up"], check=True)
        assert Path("/sys/class/net", bridge, "address").read_text().strip() == address
        yield
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


async def test_a_session_keeps_its_network_while_others_come_and_go(
    engine: Engine, sessions: Sessions, name: str, tmp_path: Path, bare: Bare
) -> None:
    if engine.dialect.rootless or os.geteuid() != 0:
        pytest.skip("the bridge is root's, and a rootless engine has none on this machine")
    session = (await create(sessions, CreateRequest(str(tmp_path), session_name=name))).session
    try:
        opened = await sessions.open(session.id)
        bridge = bare("network", "inspect", "--format={{.NetworkInterface}}", "podman").strip()
        with watching(0, own_address()) as host, contextlib.ExitStack() as ports:
            reach = (
                "import socket; socket.create_connection"
                f"(({own_address()!r}, {host.port}), {SECONDS}).sendall(b'here')"
            )
            with port(bridge, f"{name}-1"[-14:], HIGHER):
                ran = await commands.run(opened, f'python3 -c "{reach}"')
                assert ran.exit_code == 0, ran.stderr
                ports.enter_context(port(bridge, f"{name}-0"[-14:], LOWER))
            ran = await commands.run(opened, f'python3 -c "{reach}"')
            assert ran.exit_code == 0, ran.stderr
    finally:
        await sessions.destroy(session.id)
