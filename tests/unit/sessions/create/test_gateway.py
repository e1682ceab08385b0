"""A gateway that the session does not reach is told of when the session is made."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from claude_mcp.agent import boot
from claude_mcp.contract.handover import Credentials
from claude_mcp.contract.places import PROBED_OK
from claude_mcp.engine.dialects.docker import DOCKER, ROOTLESS_DOCKER
from claude_mcp.engine.dialects.podman import ROOTLESS_PODMAN
from claude_mcp.sessions.create import gateway
from claude_mcp.sessions.create.gateway import Gateway
from claude_mcp.sessions.network.access import Network
from claude_mcp.sessions.providers import addresses

OWN = "192.0.2.7"


def credentials(base_url: str | None, **changes: Any) -> Credentials:
    return Credentials("anthropic", None, changes.get("proxies", {}), (), base_url)


@pytest.mark.parametrize(
    ("base_url", "tried"),
    [
        ("http://host.docker.internal:8080/v1", Gateway("host.docker.internal", 8080)),
        ("https://u:pw@10.1.2.3", Gateway("10.1.2.3", 443)),
        ("http://[fd00::1]:81", Gateway("fd00::1", 81)),
        ("https://gateway.example.org", None),
        (None, None),
    ],
)
def test_only_an_address_that_no_name_server_is_asked_for_is_tried(
    base_url: str | None, tried: Gateway | None
) -> None:
    assert gateway.to_try(credentials(base_url), DOCKER, Network.OPEN) == tried


def test_a_gateway_behind_a_proxy_is_not_tried() -> None:
    given = credentials("http://10.1.2.3", proxies={"HTTP_PROXY": "http://p"})
    assert gateway.to_try(given, DOCKER, Network.OPEN) is None
    assert gateway.to_try(credentials("http://10.1.2.3"), DOCKER, Network.RESTRICTED) is None


@pytest.mark.parametrize(
    ("host", "dialect", "advice"),
    [
        (OWN, ROOTLESS_PODMAN, "Use http://host.containers.internal instead: it leads to this"),
        (OWN, ROOTLESS_DOCKER, f"Use this machine's own address ({OWN}) instead."),
        ("host.docker.internal", DOCKER, "Start the gateway, make it listen on all addresses"),
        ("198.51.100.9", DOCKER, "Start the gateway, make it listen on all addresses"),
    ],
)
def test_the_warning_says_which_address_would_do(
    monkeypatch: pytest.MonkeyPatch, host: str, dialect: Any, advice: str
) -> None:
    monkeypatch.setattr(addresses, "own_address", lambda: OWN)
    monkeypatch.setattr(addresses, "is_own_address", lambda host: host == OWN)
    (said,) = gateway.warnings(Gateway(host, 80), "Connection refused" + "x" * 999, dialect)
    assert said.startswith(
        f"Nothing answers at the gateway's address {host}:80 from inside the session (Connection "
    )
    assert f"), so prompts will fail. {advice}" in said
    assert len(said) < 500


def test_a_gateway_that_answers_is_no_warning() -> None:
    assert gateway.warnings(Gateway(OWN, 80), PROBED_OK + "\n", DOCKER) == ()


def test_the_agent_connects_and_says_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
        assert boot.probe("127.0.0.1", port) == "Connection refused"
        server.listen()
        assert boot.probe("127.0.0.1", port) == PROBED_OK

    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # Not asked for real: a name server that does not answer would say something else.
    monkeypatch.setattr("_socket.getaddrinfo", unknown)
    assert boot.probe("nosuch", port) == "Name or service not known"
