"""Whether anybody listens at an engine's address, found out without a client."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from claude_mcp.engine import detection, reach
from claude_mcp.engine.address import EngineAddress
from claude_mcp.engine.reach import nobody_at
from claude_mcp.errors import EngineNotFound, EngineUnavailable
from tests.ports import reserved_port


def at(host: str, **more: str) -> dict[str, str]:
    return EngineAddress(host=host).environment(more)


@pytest.fixture(autouse=True)
def loopback_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "NOBODY_SECONDS", 60.0)


def test_an_address_is_taken_while_somebody_listens(tmp_path: Path) -> None:
    with reserved_port() as number:
        path, port = f"unix://{tmp_path}/taken", f"tcp://localhost:{number}"
        with (
            socket.socket(socket.AF_UNIX) as sock,
            socket.create_server(("127.0.0.1", number)),
        ):
            sock.bind(f"{tmp_path}/taken")
            sock.listen()
            for address in (path, port):
                assert nobody_at(at(address)) is None
        for address in (path, port):
            assert nobody_at(at(address)) == address


def test_a_socket_that_is_missing_has_nobody(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/missing"
    assert nobody_at(at(address)) == address


def test_what_is_not_certain_is_left_to_the_client(tmp_path: Path) -> None:
    missing = f"unix://{tmp_path}/missing"
    long = f"unix://{tmp_path}/{'x' * 200}"
    far = "tcp://192.0.2.1:2375"  # nobody is asked, or this would wait
    for environment in (
        {},
        {"DOCKER_HOST": missing},
        {"CONTAINER_HOST": missing},
        {"DOCKER_HOST": missing, "CONTAINER_HOST": "unix:///other"},
        at(long),
        at(far),
        at("ssh://127.0.0.1:1"),
        at("tcp://127.0.0.1:1") | {"DOCKER_TLS_VERIFY": "1"},
    ):
        assert nobody_at(environment) is None


async def test_no_client_is_started_for_an_address_without_anybody(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
    address = f"unix://{tmp_path}/missing"
    with pytest.raises(EngineNotFound, match="'docker' is not installed"):
        await detection.connect("docker", at(address, PATH=str(tmp_path)), {})
    program.chmod(0o755)
    with pytest.raises(EngineUnavailable) as caught:
        await detection.connect("docker", at(address, PATH=str(tmp_path)), {})
    assert str(caught.value) == (
        f"Nobody listens at {address}. DOCKER_HOST names this engine, so no other is used instead. "
        "Start the engine or its service there, or correct the address."
    )
    assert not (tmp_path / "started").exists()
