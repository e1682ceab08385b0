"""Proxy URLs, and the user and password in a URL."""

from __future__ import annotations

import pytest

from claude_mcp.contract.urls import basic_authorization, proxy_parts


@pytest.mark.parametrize("url", ["http://proxy.example:3128", "proxy.example:3128"])
def test_a_proxys_url_may_lack_its_scheme(url: str) -> None:
    parts = proxy_parts(url)
    assert (parts.scheme, parts.hostname, parts.port) == ("http", "proxy.example", 3128)


@pytest.mark.parametrize(
    ("url", "authorization"),
    [
        ("http://proxy.example:3128", ""),
        ("http://user:secret@proxy.example", "Basic dXNlcjpzZWNyZXQ="),
        ("user:secret@proxy.example", "Basic dXNlcjpzZWNyZXQ="),
        ("http://us%3Aer:p%40ss@proxy.example", "Basic dXM6ZXI6cEBzcw=="),
        ("http://user@proxy.example", "Basic dXNlcjo="),
        ("http://:secret@proxy.example", "Basic OnNlY3JldA=="),
    ],
)
def test_a_url_gives_its_user_and_password_as_an_authorization(
    url: str, authorization: str
) -> None:
    assert basic_authorization(url) == authorization
