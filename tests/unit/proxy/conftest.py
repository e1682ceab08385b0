"""Fixtures for tests of the proxy."""

from __future__ import annotations

import pytest

from claude_mcp.proxy import connections, exchange, hosts, policy
from tests.unit.proxy.outside import PATIENCE_SECONDS, PUBLIC


@pytest.fixture(autouse=True)
def one_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat one loopback address as public, so that these tests need no network."""
    monkeypatch.setattr(
        policy,
        "is_public",
        lambda address: str(address) == PUBLIC or hosts.is_public(address),
    )


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is given up on a busy machine, unless a test says otherwise."""
    for module, name in (
        (connections, "CONNECT_SECONDS"),
        (connections, "LINGER_SECONDS"),
        (exchange, "HEAD_SECONDS"),
    ):
        monkeypatch.setattr(module, name, PATIENCE_SECONDS)
