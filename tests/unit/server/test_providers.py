"""The provider that the arguments of create_session ask for."""

from __future__ import annotations

from typing import Any

import pytest

from claude_mcp.contract.redaction import redactor
from claude_mcp.server.arguments import parse
from claude_mcp.server.create_arguments import CreateArguments, create_request
from claude_mcp.sessions.providers.options import ProviderRequest


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, ProviderRequest()),
        ({"apiKey": "k"}, ProviderRequest(arguments={"apiKey": "k"})),
        ({"useBedrock": False, "awsRegion": None}, ProviderRequest()),
        (
            {
                "useBedrock": True,
                "awsRegion": "r",
                "awsAccessKeyId": "a",
                "awsSecretAccessKey": "s",
                "awsSessionToken": "t",
                "bedrockModel": "m",
                "bedrockSmallModel": "n",
            },
            ProviderRequest(
                use_bedrock=True,
                arguments={
                    "awsRegion": "r",
                    "awsAccessKeyId": "a",
                    "awsSecretAccessKey": "s",
                    "awsSessionToken": "t",
                    "bedrockModel": "m",
                    "bedrockSmallModel": "n",
                },
            ),
        ),
        (
            {
                "provider": "foundry",
                "providerOptions": '{"apiKey": "k", "baseUrl": "https://x", "smallModel": "s"}',
            },
            ProviderRequest("foundry", {"apiKey": "k", "baseUrl": "https://x", "smallModel": "s"}),
        ),
    ],
)
def test_arguments_become_a_request(given: dict[str, Any], asked: ProviderRequest) -> None:
    arguments = parse(CreateArguments, {"projectPath": "/p", **given})
    assert create_request(arguments).provider == asked


def test_secrets_are_redacted_before_anything_can_be_refused() -> None:
    options = {"sessionToken": "token-of-an-option"}
    given = {"projectPath": "/p", "awsSecretAccessKey": "secret-of-an-argument"}
    create_request(parse(CreateArguments, {**given, "providerOptions": options}))
    text = "secret-of-an-argument, token-of-an-option"
    assert redactor.redact(text) == "[redacted], [redacted]"
