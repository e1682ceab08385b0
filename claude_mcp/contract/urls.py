"""Proxy URLs, and the user and password in a URL."""

from __future__ import annotations

import base64
from urllib.parse import SplitResult, unquote, urlsplit


def proxy_parts(url: str) -> SplitResult:
    """The parts of a proxy's URL, which is often written without ``http://``."""
    return urlsplit(url if "://" in url else f"http://{url}")


def basic_authorization(url: str) -> str:
    """The value of an Authorization header for the user and password in a URL; "" if it has none.

    Raises:
        ValueError: it is not a URL.
    """
    parts = proxy_parts(url)
    if parts.username is None and parts.password is None:
        return ""
    userinfo = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    return f"Basic {base64.b64encode(userinfo).decode()}"
