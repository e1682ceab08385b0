"""Fixtures for tests of the proxy."""

from __future__ import annotations

import pytest

from claude_mcp.proxy import hosts, policy
from tests.unit.proxy.outside import PUBLIC


@pytest.fixture(autouse=True)
def one_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat one loopback address as public, so that these tests need no network."""
    monkeypatch.setattr(
        policy,
        "is_public",
        lambda address: str(address) == PUBLIC or hosts.is_public(address),
    )
