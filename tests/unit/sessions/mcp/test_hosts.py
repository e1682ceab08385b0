"""MCP servers at addresses of this host: translated, refused, or left to the session."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.engine.dialects.podman import PODMAN
from claude_mcp.errors import UsageError
from claude_mcp.sessions.mcp.hosts import ABSENT, Translated, translate


def config(url: str) -> dict[str, object]:
    return {"mcpServers": {"web": {"type": "http", "url": url}, "db": {"command": "db"}}}


@pytest.fixture
def listening(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port of this host on which somebody listens, at the given address."""
    with socket.create_server((request.param, 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("listening", ["0.0.0.0"], indirect=True)
@pytest.mark.parametrize("dialect", [DOCKER, PODMAN])
def test_an_address_of_this_host_becomes_the_hosts_name(listening: int, dialect: Dialect) -> None:
    expected = config(f"http://{dialect.host_alias}:{listening}/mcp")
    given = config(f"http://localhost:{listening}/mcp")
    assert translate(given, dialect) == Translated(expected, (), needs_alias=True)
    assert given == config(f"http://localhost:{listening}/mcp")


@pytest.mark.parametrize("listening", ["127.0.0.1"], indirect=True)
def test_a_server_that_no_container_reaches_is_refused(listening: int) -> None:
    with pytest.raises(UsageError, match=r"mcpServers\.web\.url points to 127\.0\.0\.1:") as raised:
        translate(config(f"http://127.0.0.1:{listening}/"), DOCKER)
    assert "listens only on the host's loopback" in raised.value.message


@pytest.mark.parametrize("listening", ["127.0.0.1"], indirect=True)
def test_an_address_that_nobody_uses_is_left_to_the_session(listening: int) -> None:
    with socket.socket() as bound:  # nobody else gets the port, and nobody listens
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        given = config(f"http://localhost:{port}/")
        warning = ABSENT.format("web", "localhost", port)
        assert translate(given, DOCKER) == Translated(given, (warning,))


@pytest.mark.parametrize("url", ["https://example.com/mcp", "${HOST}/mcp", "http://192.0.2.7:1/"])
def test_other_addresses_stay(url: str) -> None:
    assert translate(config(url), DOCKER) == Translated(config(url))


def test_no_configuration_stays_none() -> None:
    assert translate(None, DOCKER) == Translated(None)
