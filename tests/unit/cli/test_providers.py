"""A provider on the command line: secrets are named, never written."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest

from claude_mcp.cli.providers import parse_provider
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers.options import ProviderRequest


def typed(*options: str, provider: str | None = None) -> ProviderRequest:
    return parse_provider(argparse.Namespace(provider=provider, provider_option=list(options)))


def test_a_secret_is_read_from_a_variable_a_file_or_stdin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret-of-a-file\n")
    monkeypatch.setenv("MY_KEY_ID", "AKIA-OF-A-VARIABLE")
    monkeypatch.setattr("sys.stdin", io.StringIO("token-of-stdin"))
    request = typed(
        "region=eu-1",
        "accessKeyId=env:MY_KEY_ID",
        f"secretAccessKey=file:{tmp_path}/secret",
        "sessionToken=-",
        provider="bedrock",
    )
    assert request == ProviderRequest(
        "bedrock",
        {
            "region": "eu-1",
            "accessKeyId": "AKIA-OF-A-VARIABLE",
            "secretAccessKey": "secret-of-a-file\n",
            "sessionToken": "token-of-stdin",
        },
    )


def test_without_provider_options_the_server_s_provider_is_used() -> None:
    assert typed() == ProviderRequest()


def test_a_secret_on_the_command_line_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        typed("apiKey=sk-ant-typed-0123")
    assert (caught.value.message, caught.value.hint) == (
        "apiKey is a secret, and other users of this machine can read the command line.",
        "Pass --provider-option apiKey=env:VARIABLE, apiKey=file:PATH or apiKey=- (stdin).",
    )


def test_an_address_may_be_typed_or_named_but_not_typed_with_a_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = "https://user:pw-of-a-gateway@gateway.test"
    monkeypatch.setenv("MY_GATEWAY", secret)
    assert typed("baseUrl=https://gateway.test").options == {"baseUrl": "https://gateway.test"}
    assert typed("baseUrl=env:MY_GATEWAY").options == {"baseUrl": secret}
    with pytest.raises(UsageError) as caught:
        typed(f"baseUrl={secret}")
    assert caught.value.message.startswith("baseUrl with a user or password is a secret")
    assert "pw-of-a-gateway" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["region"], "--provider-option takes NAME=VALUE."),
        (["region=a", "region=b"], "--provider-option region is given twice."),
        (
            ["apiKey=env:NO_SUCH_VARIABLE"],
            "apiKey: the environment variable NO_SUCH_VARIABLE is not set.",
        ),
        (["apiKey=file:/no/such"], "apiKey: /no/such cannot be read: No such file or directory."),
        (["apiKey=file:"], "apiKey is a secret, and other users of this machine can read"),
    ],
)
def test_wrong_provider_options_are_explained(options: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        typed(*options)
    assert caught.value.message.startswith(said)
