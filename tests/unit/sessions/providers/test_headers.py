"""The server's custom headers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_mcp.config import Config
from claude_mcp.contract.redaction import MASK, redactor
from claude_mcp.credentials import Secret
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers.options import ProviderRequest
from claude_mcp.sessions.providers.resolve import Provider, resolve

TOKEN = "gateway-token-4711"
HEADERS = f"X-Gateway-Token: {TOKEN}\r\n\n X-Team : blue \nX-Empty:"
CONFIG = Config(environment={}, api_key=Secret("sk-of-the-server"), custom_headers=Secret(HEADERS))


def resolved(request: ProviderRequest | None = None, config: Config = CONFIG) -> Provider:
    return resolve(config, DOCKER, request or ProviderRequest())


def test_the_servers_headers_go_with_the_servers_credentials() -> None:
    provider = resolved()
    assert provider.credentials.custom_headers == (
        f"X-Gateway-Token: {TOKEN}\nX-Team : blue\nX-Empty:"
    )
    assert TOKEN in provider.credentials.secret_values
    assert "blue" not in provider.credentials.secret_values
    assert TOKEN not in repr(provider) + repr(CONFIG)
    assert redactor.redact(f"it was {TOKEN}") == f"it was {MASK}"
    nobodys = replace(CONFIG, api_key=None)
    assert resolved(config=nobodys).credentials.custom_headers is not None


@pytest.mark.parametrize(
    "request_",
    [
        ProviderRequest("anthropic", {"apiKey": "sk-own-0123"}),
        ProviderRequest("foundry", {"apiKey": "sk-own-0123", "resource": "own"}),
        ProviderRequest("foundry", {}),
    ],
)
def test_neither_own_credentials_nor_another_provider_get_them(request_: ProviderRequest) -> None:
    config = replace(
        CONFIG,
        cloud={"ANTHROPIC_FOUNDRY_RESOURCE": "ours"},
        cloud_secrets={"ANTHROPIC_FOUNDRY_API_KEY": Secret("sk-foundry")},
    )
    assert resolved(request_, config).credentials.custom_headers is None


def test_bearer_tokens_in_them_are_redacted_without_their_scheme() -> None:
    config = replace(CONFIG, custom_headers=Secret("Authorization: Bearer abcdef-9876"))
    assert "abcdef-9876" in resolved(config=config).credentials.secret_values


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ("X-One: 1\nnonsense-4711", "line 2 does not have the form 'Name: value'."),
        ("X One: 1", "line 1 does not have the form"),
        ("X-One: caf\u00e9", "line 1 does not have the form"),
        ("X-One: ${TOKEN}", "the value in line 1 is the name of a variable"),
        ("X-One: " + "x" * 70_000, "is longer than 65536 characters"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused(headers: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolved(config=replace(CONFIG, custom_headers=Secret(headers)))
    assert why in str(caught.value)
    assert "4711" not in str(caught.value)
