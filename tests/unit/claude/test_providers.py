"""Which way each provider's settings and secrets take to Claude Code."""

from __future__ import annotations

from typing import Any

import pytest

from claude_mcp.claude.invocation import Invocation, claude_argv, claude_environment
from claude_mcp.claude.providers import (
    NOT_INHERITED,
    Anthropic,
    Bedrock,
    Credentials,
    File,
    Foundry,
    Provider,
    Vertex,
    credentials,
    environment,
    handed_over,
)
from claude_mcp.contract.handover import Credentials as HandedOver
from claude_mcp.contract.handover import Handover

MODELS: dict[str, Any] = {"model": "big", "small_model": "small"}
MODEL_VARIABLES = {
    "ANTHROPIC_MODEL": "big",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL": "small",
    "ANTHROPIC_SMALL_FAST_MODEL": "small",
}


@pytest.mark.parametrize(
    ("provider", "variables"),
    [
        (Anthropic(), {}),
        (
            Bedrock("eu-west-1", base_url="http://b", **MODELS),
            {
                **MODEL_VARIABLES,
                "CLAUDE_CODE_USE_BEDROCK": "1",
                "AWS_REGION": "eu-west-1",
                "ANTHROPIC_BEDROCK_BASE_URL": "http://b",
            },
        ),
        (
            Vertex("project", "global", base_url="http://v", metadata_host="m:80", **MODELS),
            {
                **MODEL_VARIABLES,
                "CLAUDE_CODE_USE_VERTEX": "1",
                "ANTHROPIC_VERTEX_PROJECT_ID": "project",
                "CLOUD_ML_REGION": "global",
                "ANTHROPIC_VERTEX_BASE_URL": "http://v",
                "GCE_METADATA_HOST": "m:80",
            },
        ),
        (
            Foundry(resource="mine"),
            {"CLAUDE_CODE_USE_FOUNDRY": "1", "ANTHROPIC_FOUNDRY_RESOURCE": "mine"},
        ),
    ],
)
def test_the_environment_selects_one_provider(
    provider: Provider, variables: dict[str, str]
) -> None:
    assert environment(provider) == variables
    inherited = {name: "of the image" for name in NOT_INHERITED}
    assert claude_environment(provider, 1000, inherited).items() >= variables.items()
    assert "of the image" not in claude_environment(provider, 1000, inherited).values()


KEYS = "[default]\naws_access_key_id = A\naws_secret_access_key = S\n"
VARIABLE = "AWS_SHARED_CREDENTIALS_FILE"


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (Anthropic(), Credentials()),
        (Anthropic(api_key="k"), Credentials({"CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR": "k"})),
        (Anthropic(oauth_token="o"), Credentials({"CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR": "o"})),
        (Anthropic(auth_token="a"), Credentials(environment={"ANTHROPIC_AUTH_TOKEN": "a"})),
        (
            Bedrock("r", access_key_id="A", secret_access_key="S"),
            Credentials(files=(File("aws-credentials", KEYS, VARIABLE),)),
        ),
        (
            Bedrock("r", access_key_id="A", secret_access_key="S", session_token="T"),
            Credentials(
                files=(File("aws-credentials", KEYS + "aws_session_token = T\n", VARIABLE),)
            ),
        ),
        (
            Bedrock("r", bearer_token="b"),
            Credentials(environment={"AWS_BEARER_TOKEN_BEDROCK": "b"}),
        ),
        (
            Bedrock("r", machine_role={"endpoint": "http://e"}, role_command="ask it"),
            Credentials(
                files=(
                    File("machine-role.json", '{"endpoint": "http://e"}'),
                    File(
                        "aws-config", "[default]\ncredential_process = ask it\n", "AWS_CONFIG_FILE"
                    ),
                )
            ),
        ),
        (Vertex("p", "r"), Credentials()),
        (
            Vertex("p", "r", credentials="{}"),
            Credentials(files=(File("google.json", "{}", "GOOGLE_APPLICATION_CREDENTIALS"),)),
        ),
        (
            Foundry("res", api_key="f"),
            Credentials(environment={"ANTHROPIC_FOUNDRY_API_KEY": "f"}),
        ),
    ],
)
def test_a_secret_is_in_the_environment_only_if_unavoidable(
    provider: Provider, expected: Credentials
) -> None:
    assert credentials(provider) == expected


def test_a_password_in_a_url_becomes_a_header_hidden_from_commands() -> None:
    provider = Anthropic(base_url="https://me:p%2Fw@gate.example:8443/v1", api_key="k")
    assert environment(provider)["ANTHROPIC_BASE_URL"] == "https://gate.example:8443/v1"
    assert credentials(provider).environment == {
        "ANTHROPIC_CUSTOM_HEADERS": "Authorization: Basic bWU6cC93"  # me:p/w
    }


SECRET_FIELDS: list[tuple[Any, str]] = [
    *((Anthropic, kind) for kind in ("api_key", "auth_token", "oauth_token")),
    *(
        (Bedrock, kind)
        for kind in ("access_key_id", "secret_access_key", "session_token", "bearer_token")
    ),
    (Vertex, "credentials"),
    (Foundry, "api_key"),
]
PLACES: dict[Any, dict[str, Any]] = {
    Bedrock: {"region": "r"},
    Vertex: {"project_id": "p", "region": "r"},
}


@pytest.mark.parametrize(("kind", "field"), SECRET_FIELDS)
def test_no_repr_argv_or_plain_environment_contains_a_secret(kind: Any, field: str) -> None:
    provider = kind(**PLACES.get(kind, {}), **{field: "sentinel-value"})
    shown = (
        repr(provider),
        repr(credentials(provider)),
        repr(claude_environment(provider, 0, {})),
        repr(claude_argv(Invocation())),
    )
    assert "sentinel-value" not in "".join(shown)


@pytest.mark.parametrize(
    ("secrets", "provider"),
    [
        ({"provider": "anthropic", "credential": None}, Anthropic(**MODELS)),
        (
            {"provider": "anthropic", "credential": {"kind": "apiKey", "value": "k"}},
            Anthropic(api_key="k", **MODELS),
        ),
        (
            {
                "provider": "bedrock",
                "region": "r",
                "baseUrl": "http://b",
                "credential": {
                    "kind": "keys",
                    "accessKeyId": "A",
                    "secretAccessKey": "S",
                    "sessionToken": "T",
                },
            },
            Bedrock(
                "r",
                base_url="http://b",
                access_key_id="A",
                secret_access_key="S",
                session_token="T",
                role_command="ask",
                **MODELS,
            ),
        ),
        (
            {
                "provider": "bedrock",
                "region": "r",
                "credential": {"kind": "machine", "value": {"token": "t"}},
            },
            Bedrock("r", machine_role={"token": "t"}, role_command="ask", **MODELS),
        ),
        (
            {
                "provider": "vertex",
                "region": "r",
                "projectId": "p",
                "metadataHost": "m",
                "credential": {"kind": "machine"},
            },
            Vertex("p", "r", metadata_host="m", **MODELS),
        ),
        (
            {
                "provider": "vertex",
                "region": "r",
                "projectId": "p",
                "credential": {"kind": "google", "value": "{}"},
            },
            Vertex("p", "r", credentials="{}", **MODELS),
        ),
        (
            {
                "provider": "foundry",
                "resource": "res",
                "credential": {"kind": "apiKey", "value": "f"},
            },
            Foundry("res", api_key="f", **MODELS),
        ),
    ],
)
def test_what_was_handed_over_becomes_a_provider(
    secrets: dict[str, Any], provider: Provider
) -> None:
    assert handed_over(given(secrets), "big", "small", "ask") == provider


def given(secrets: dict[str, Any]) -> HandedOver:
    handover = Handover.from_json({"proxies": {}, "secretValues": [], **secrets})
    assert handover.credentials is not None
    return handover.credentials


@pytest.mark.parametrize(
    ("provider", "own"),
    [
        (Anthropic(base_url="https://u:pw@gateway.example", api_key="sk"), "Authorization: Basic "),
        (Bedrock(region="eu-1", bearer_token="b"), ""),
        (Foundry(resource="r", api_key="k"), ""),
    ],
)
def test_custom_headers_join_those_of_the_provider(provider: Any, own: str) -> None:
    found = credentials(provider, "X-One: 1").environment["ANTHROPIC_CUSTOM_HEADERS"]
    assert found.startswith(own)
    assert found.splitlines()[-1] == "X-One: 1"
    assert len(found.splitlines()) == (2 if own else 1)
    assert credentials(provider, None) == credentials(provider)
