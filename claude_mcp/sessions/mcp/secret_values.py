"""Finds possible secrets in the configuration of MCP servers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from claude_mcp.contract import places

KEYS: Final = ("type", "command", "args", "env", "url", "headers")
"""The keys that are checked here; others are passed to Claude Code unchecked."""

# Values under these names are not secret, and redacting them would mask ordinary words.
_INNOCENT: Final = frozenset(
    {"path", "home", "lang", "lc_all", "tz", "node_env", "log_level", "pythonpath", "node_path"}
    | {"tmpdir", "accept", "content-type", "user-agent"}
)
_SECRETIVE: Final = re.compile(r"key|token|secret|passw|auth|sig|credential|cookie", re.IGNORECASE)
# The scheme's length is bounded, so that matching a long word takes linear time.
_URL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,30}://\S+")


def secrets_of(servers: Iterable[Any]) -> list[str]:
    """Every possible secret of these servers, which may be malformed."""
    return [secret for server in servers if isinstance(server, dict) for secret in _secrets(server)]


def _secrets(server: dict[str, Any]) -> Iterator[str]:
    for key, value in server.items():
        if key in ("env", "headers") and isinstance(value, dict):
            for name, each in value.items():
                if isinstance(each, str) and name.lower() not in _INNOCENT:
                    yield from _of_value(each)
        elif key in ("url", "command", "args"):
            for each in _strings(value):
                yield from _of_urls(each)
        elif key not in KEYS:
            yield from (each for name, each in _named(key, value) if _SECRETIVE.search(name))
    arguments = [each for each in _strings(server.get("args"))]
    for before, each in zip(["", *arguments], arguments, strict=False):
        yield from _of_argument(before, each)


def _of_value(value: str) -> Iterator[str]:
    """Secrets in the value of an environment variable or a header."""
    if _is_plain(value):
        return
    yield value
    yield from _of_urls(value)
    scheme, space, rest = value.partition(" ")
    if space and scheme.isalpha():  # Bearer and the like
        yield rest.strip()


def _is_plain(value: str) -> bool:
    """Whether a value is a path in the workspace, or a URL without path, query or password."""
    if re.fullmatch(rf"{places.WORKSPACE}(/[\w./-]*)?", value):
        return True
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and not (parts.query or "@" in parts.netloc) and (
        len(parts.path) <= 1
    )  # fmt: skip


def _of_urls(text: str) -> Iterator[str]:
    """Passwords in URLs, and query values whose name suggests a secret."""
    for url in _URL.findall(text):
        try:
            parts = urlsplit(url)
        except ValueError:
            continue
        userinfo = parts.netloc.rpartition("@")[0]
        if userinfo:
            yield userinfo
            password = userinfo.partition(":")[2] or userinfo
            yield password
            yield unquote(password)
        for name, value in parse_qsl(parts.query):
            if _SECRETIVE.search(name):
                yield value


def _of_argument(before: str, argument: str) -> Iterator[str]:
    """`--token=x`, `--token x` and `--header 'Authorization: Bearer x'`."""
    name, separator, value = argument.partition("=" if "=" in argument else ":")
    if separator and _SECRETIVE.search(name) and "://" not in argument:
        yield from _of_value(value.strip())
    elif before.startswith("-") and "=" not in before and _SECRETIVE.search(before):
        yield argument


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (each for each in value if isinstance(each, str))


def _named(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every string below an unknown key, with the innermost name it has there."""
    match value:
        case str():
            yield name, value
        case dict():
            for key, each in value.items():
                yield from _named(str(key), each)
        case list():
            for each in value:
                yield from _named(name, each)
