"""What a configuration of MCP servers may hold, and what of it is hidden from then on."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from typing import Any

import pytest

from claude_mcp.contract.redaction import MASK, redactor
from claude_mcp.contract.wording import worded
from claude_mcp.errors import UsageError
from claude_mcp.sessions.mcp import config as mcp_config
from claude_mcp.sessions.mcp.config import check

SHAPES = "A server is {command, args, env}, or {type: http or sse, url, headers}."
NAMES = "use up to 64 letters, digits, '-', '_', '.' and spaces, starting with a letter or digit"


def one(server: Any, name: str = "x") -> dict[str, Any]:
    return {"mcpServers": {name: server}}


@pytest.mark.parametrize(
    "server",
    [
        {"command": "npx"},
        {"command": "npx", "args": ["-y", "a", ""], "env": {"A": ""}},
        {"type": "stdio", "command": "./server", "timeout": 5, "disabled": False},
        {"type": "http", "url": "https://example.com/mcp", "headers": {"X-Key": "a b"}},
        {"type": "sse", "url": "http://[::1]:80/"},
        {"type": "http", "url": "https://a", "headersHelper": "/opt/helper"},
        {"type": "streamable-http", "url": "${BASE_URL:-http://localhost}/mcp"},
    ],
)
def test_a_server_is_passed_on_unchanged(server: dict[str, Any]) -> None:
    assert check(one(server)) == one(server)


def test_only_the_servers_are_passed_on() -> None:
    assert check({**one({"command": "npx"}), "theme": "dark"}) == one({"command": "npx"})


@pytest.mark.parametrize("config", [None, {"mcpServers": {}}])
def test_without_servers_there_is_nothing_to_pass_on(config: dict[str, Any] | None) -> None:
    assert check(config) is None


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ("npx", " is not an object"),
        ({}, " has neither a command nor a url"),
        ({"args": ["a"]}, " has neither a command nor a url"),
        ({"url": "http://a"}, " has a url but no type (http or sse)"),
        ({"type": "ws", "url": "ws://a"}, ".type must be stdio, http or sse"),
        ({"type": ["http"], "url": "http://a"}, ".type must be stdio, http or sse"),
        ({"command": " "}, ".command must be a program's name or path"),
        ({"command": ["npx"]}, ".command must be a program's name or path"),
        ({"command": "a\0b"}, ".command must be a program's name or path"),
        ({"command": "a", "args": "b"}, ".args must be a list of strings"),
        ({"command": "a", "args": [1]}, ".args must be a list of strings"),
        ({"command": "a", "env": ["A=b"]}, ".env must be an object of strings"),
        ({"command": "a", "env": {"PORT": 80}}, ".env.PORT must be a string"),
        ({"command": "a", "env": {"A=B": "c"}}, ".env has an invalid name, 'A=B'"),
        ({"command": "a", "environ": {}}, " has 'environ', did you mean 'env'"),
        ({"command": "a", "Env": {}}, " has 'Env', did you mean 'env'"),
        ({"command": "a", "url": "http://a"}, " has both a command and a url"),
        ({"type": "http"}, ".url must be an http or https URL"),
        ({"type": "http", "url": "file:///a"}, ".url must be an http or https URL"),
        ({"type": "http", "url": "http://[a"}, ".url must be an http or https URL"),
        ({"type": "sse", "url": "http://a", "headers": {"A": None}}, ".headers.A must be a string"),
        (
            {"type": "sse", "url": "http://a", "headers": {"A": "b\r\nC: d"}},
            ".headers must not contain line breaks",
        ),
    ],
)
def test_a_malformed_server_is_refused_by_name(server: Any, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(one(server))
    assert worded(caught.value.message) == f"mcpConfig is invalid: mcpServers.x{problem}."
    assert caught.value.hint == SHAPES


@pytest.mark.parametrize("name", ["", " a", "-a", "__proto__", "a/b", "a\nb", "a.", "é", "x" * 65])
def test_an_invalid_server_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(one({"command": "npx"}, name))
    assert worded(caught.value.message) == (
        f"mcpConfig is invalid: {name[:64]!r} is not a valid server name: {NAMES}."
    )


@pytest.mark.parametrize("name", ["a", "A-b_9", "two words", "example.com", "x" * 64])
def test_an_ordinary_server_name_is_accepted(name: str) -> None:
    assert check(one({"command": "npx"}, name)) is not None


def test_names_that_claude_code_cannot_distinguish_are_refused() -> None:
    server = {"command": "npx"}
    with pytest.raises(UsageError, match=r"cannot distinguish the names 'a\.b' and 'a b'"):
        check({"mcpServers": {"a.b": server, "a b": server}})


@pytest.mark.parametrize("config", [{}, {"mcpServers": []}, {"servers": {}}])
def test_a_configuration_without_servers_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="has no object 'mcpServers'"):
        check(config)


def test_a_large_configuration_is_refused() -> None:
    with pytest.raises(UsageError, match="is too large: 1 servers in 2621"):
        check(one({"command": "x" * mcp_config.MAX_BYTES}))
    servers = {f"s{number}": {"command": "npx"} for number in range(mcp_config.MAX_SERVERS + 1)}
    with pytest.raises(UsageError, match="is too large: 51 servers"):
        check({"mcpServers": servers})


def test_invalid_unicode_is_refused() -> None:
    with pytest.raises(UsageError, match="valid Unicode"):
        check(one({"command": "\ud800"}))


def test_a_configuration_nested_too_deeply_is_refused() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        check(one({"command": "npx", "more": deep}))


# Secrets.


def hidden(text: str) -> bool:
    return MASK in redactor.redact(text)


@pytest.mark.parametrize(
    "shape",
    [
        {"command": "npx", "env": {"ANYTHING": "{}"}},
        {"command": "npx", "env": {"DATABASE": "postgresql://me:{}@db/shop"}},
        {"command": "npx", "args": ["postgresql://me:{}@db/shop"]},
        {"command": "npx", "args": ["--token={}"]},
        {"command": "npx", "args": ["--api-key", "{}"]},
        {"command": "npx", "args": ["--header", "Authorization: Bearer {}"]},
        {"type": "http", "url": "https://example.com", "headers": {"X-Any": "{}"}},
        {"type": "http", "url": "https://example.com", "headers": {"Authorization": "Bearer {}"}},
        {"type": "http", "url": "https://me:{}@example.com/mcp"},
        {"type": "http", "url": "https://{}@example.com/mcp"},
        {"type": "http", "url": "https://example.com/mcp?api_key={}"},
        {"type": "http", "url": "https://example.com/mcp", "oauth": {"clientSecret": "{}"}},
        {"command": ["not well-formed"], "env": {"TOKEN": "{}"}},
    ],
)
def test_a_checked_secret_is_redacted(shape: dict[str, Any]) -> None:
    secret = f"s3cr3t-{secrets.token_hex(8)}"
    server = json.loads(json.dumps(shape).replace("{}", secret))
    with contextlib.suppress(UsageError):
        check(one(server))
    assert redactor.redact(f"it says {secret}, see") == f"it says {MASK}, see"
    assert hidden(base64.b64encode(secret.encode()).decode())


def test_a_secret_is_redacted_in_url_and_json_form_and_line_by_line() -> None:
    password = f'p%2F"w-{secrets.token_hex(8)}'
    key = f"-----BEGIN-----\n{secrets.token_hex(20)}\n-----END-----"
    check(one({"command": "npx", "env": {"PASSWORD": f'"{password}', "KEY": key}}))
    check(one({"type": "http", "url": f"https://me:{password.replace(chr(34), '')}@example.com"}))
    for text in (json.dumps(f'"{password}'), password.replace('"', "").replace("%2F", "/")):
        assert hidden(text)
    assert hidden(key.splitlines()[1])


@pytest.mark.parametrize(
    ("server", "word"),
    [
        ({"command": "npx", "env": {"NODE_ENV": "production-9f"}}, "production-9f"),
        ({"command": "npx", "env": {"ROOT": "/workspace/src9f"}}, "/workspace/src9f"),
        ({"command": "npx", "env": {"API": "http://host9f:80/"}}, "http://host9f:80/"),
        ({"command": "npx", "args": ["--root=/data9f", "words9f"]}, "--root=/data9f words9f"),
        (
            {"type": "http", "url": "https://example9f.com/mcp?page=seven9f"},
            "example9f.com seven9f",
        ),
        (
            {"type": "http", "url": "https://a", "headers": {"Accept": "application/json9f"}},
            "application/json9f",
        ),
    ],
)
def test_ordinary_words_are_not_redacted(server: dict[str, Any], word: str) -> None:
    check(one(server))
    assert redactor.redact(word) == word
