"""Credentials of each cloud, the addresses they are sent to, and invalid combinations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.config import Config, load
from claude_mcp.contract.handover import Handover
from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.wording import worded
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers.bedrock import AWS_OPTIONS
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.options import ProviderRequest
from claude_mcp.sessions.providers.resolve import Provider, resolve, restore

AWS = {
    "AWS_REGION": "eu-server-1",
    "AWS_ACCESS_KEY_ID": "AKIASERVER",
    "AWS_SECRET_ACCESS_KEY": "server-secret",
    "AWS_SESSION_TOKEN": "server-token",
}
SERVER_KEYS = {
    "kind": "keys",
    "accessKeyId": "AKIASERVER",
    "secretAccessKey": "server-secret",
    "sessionToken": "server-token",
}
GOOGLE = json.dumps(
    {"type": "service_account", "private_key": "-----BEGIN\nkey-of-google\n-----", "x": 1}
)
VERTEX = {"ANTHROPIC_VERTEX_PROJECT_ID": "a-project", "CLOUD_ML_REGION": "global"}
FOUNDRY = {"ANTHROPIC_FOUNDRY_RESOURCE": "servers", "ANTHROPIC_FOUNDRY_API_KEY": "server-key"}


def server(*settings: dict[str, str], **more: str) -> Config:
    environ = {"CLAUDE_MCP_CONFIG": "/dev/null", **more}
    for each in settings:
        environ |= each
    return load(environ)


def handover(provider: Provider) -> dict[str, Any]:
    """The credentials as they reach the agent."""
    return Handover(provider.credentials).to_json()


def asked(provider: str | None = None, **options: str) -> ProviderRequest:
    return ProviderRequest(provider, options)


def arguments(use_bedrock: bool = False, **given: str) -> ProviderRequest:
    return ProviderRequest(use_bedrock=use_bedrock, arguments=given)


KEYS = {"accessKeyId": "AKIAOWN", "secretAccessKey": "own-secret"}
SERVER, SESSION = CredentialSource.SERVER, CredentialSource.SESSION


@pytest.mark.parametrize(
    ("config", "request_", "source", "credential", "place"),
    [
        (server(AWS), asked("bedrock"), SERVER, SERVER_KEYS, "eu-server-1"),
        (server(AWS), arguments(True), SERVER, SERVER_KEYS, "eu-server-1"),
        (server(AWS), arguments(True, awsRegion="us-1"), SERVER, SERVER_KEYS, "us-1"),
        (server(AWS, CLAUDE_CODE_USE_BEDROCK="1"), asked(), SERVER, SERVER_KEYS, "eu-server-1"),
        (
            server(AWS, CLAUDE_CODE_USE_BEDROCK="1"),
            arguments(awsRegion="us-1"),
            SERVER,
            SERVER_KEYS,
            "us-1",
        ),
        (
            server(AWS),
            asked("bedrock", **KEYS),
            SESSION,
            {"kind": "keys", **KEYS},
            "eu-server-1",
        ),
        (
            server(AWS),
            arguments(
                True,
                awsAccessKeyId="AKIAOWN",
                awsSecretAccessKey=" own-secret\n",
                awsSessionToken="own-token",
            ),
            SESSION,
            {"kind": "keys", **KEYS, "sessionToken": "own-token"},
            "eu-server-1",
        ),
        (
            server(AWS),
            asked("bedrock", bearerToken="own-bearer"),
            SESSION,
            {"kind": "bearerToken", "value": "own-bearer"},
            "eu-server-1",
        ),
        (
            server(AWS, AWS_BEARER_TOKEN_BEDROCK="server-bearer"),
            asked("bedrock"),
            SERVER,
            {"kind": "bearerToken", "value": "server-bearer"},
            "eu-server-1",
        ),
        (
            server(AWS, AWS_BEARER_TOKEN_BEDROCK="server-bearer"),
            asked("bedrock", **KEYS),
            SESSION,
            {"kind": "keys", **KEYS},
            "eu-server-1",
        ),
        (
            server(AWS_DEFAULT_REGION="eu-2"),
            asked("bedrock"),
            SERVER,
            {"kind": "machine", "value": {}},
            "eu-2",
        ),
        (
            server(
                AWS_REGION="eu-2",
                AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/v2/x",
                AWS_CONTAINER_AUTHORIZATION_TOKEN="container-token",
            ),
            asked("bedrock"),
            SERVER,
            {"kind": "machine", "value": {"relativeUri": "/v2/x", "token": "container-token"}},
            "eu-2",
        ),
        (
            server(
                AWS_REGION="eu-2",
                AWS_CONTAINER_CREDENTIALS_FULL_URI="http://169.254.170.23/v1/credentials",
            ),
            asked("bedrock"),
            SERVER,
            {"kind": "machine", "value": {"fullUri": "http://169.254.170.23/v1/credentials"}},
            "eu-2",
        ),
        (server(VERTEX), asked("vertex"), SERVER, {"kind": "machine"}, "global"),
        (
            server(VERTEX),
            asked("vertex", credentials=GOOGLE, region="eu-3"),
            SESSION,
            {"kind": "google", "value": GOOGLE},
            "eu-3",
        ),
        (
            server(FOUNDRY),
            asked("foundry"),
            SERVER,
            {"kind": "apiKey", "value": "server-key"},
            None,
        ),
        (
            server(FOUNDRY),
            asked("foundry", apiKey="own-key"),
            SESSION,
            {"kind": "apiKey", "value": "own-key"},
            None,
        ),
        (
            server(AWS, CLAUDE_CODE_USE_BEDROCK="1", ANTHROPIC_API_KEY="sk-server"),
            asked("anthropic"),
            SERVER,
            {"kind": "apiKey", "value": "sk-server"},
            None,
        ),
        (
            server(AWS, CLAUDE_CODE_USE_BEDROCK="1"),
            arguments(apiKey="sk-own"),
            SESSION,
            {"kind": "apiKey", "value": "sk-own"},
            None,
        ),
        (
            server(ANTHROPIC_API_KEY="sk-server"),
            asked(oauthToken="own-oauth"),
            SESSION,
            {"kind": "oauthToken", "value": "own-oauth"},
            None,
        ),
        (
            server(ANTHROPIC_API_KEY="sk-server"),
            asked("anthropic", authToken="own-token", baseUrl="https://gateway.example"),
            SESSION,
            {"kind": "authToken", "value": "own-token"},
            None,
        ),
    ],
)
def test_the_servers_credential_and_a_sessions_own_are_never_mixed(
    config: Config,
    request_: ProviderRequest,
    source: CredentialSource,
    credential: dict[str, Any],
    place: str | None,
) -> None:
    found = resolve(config, DOCKER, request_)
    assert (found.source, handover(found)["credential"], handover(found).get("region")) == (
        source,
        credential,
        place,
    )


def test_a_handover_contains_only_what_its_provider_needs() -> None:
    everything = server(AWS, VERTEX, FOUNDRY, ANTHROPIC_API_KEY="sk-server")
    found = {name: handover(resolve(everything, DOCKER, asked(name))) for name in NAMES}
    assert {name: each.pop("secretValues") for name, each in found.items()} == {
        "anthropic": ["sk-server"],
        "bedrock": [SERVER_KEYS[name] for name in AWS_OPTIONS],
        "vertex": [],
        "foundry": [found["foundry"]["credential"]["value"]],
    }
    assert found == {
        "anthropic": {
            "provider": "anthropic",
            "credential": {"kind": "apiKey", "value": "sk-server"},
            "proxies": {},
        },
        "bedrock": {
            "provider": "bedrock",
            "credential": SERVER_KEYS,
            "region": "eu-server-1",
            "proxies": {},
        },
        "vertex": {
            "provider": "vertex",
            "credential": {"kind": "machine"},
            "projectId": "a-project",
            "region": "global",
            "proxies": {},
        },
        "foundry": {
            "provider": "foundry",
            "credential": {"kind": "apiKey", "value": "server-key"},
            "resource": "servers",
            "proxies": {},
        },
    }


NAMES = ("anthropic", "bedrock", "vertex", "foundry")
OWN_PLACE = (
    "A session with its own {} needs its own credential: the server's credential is never sent "
    "to an address that a caller chose."
)
OWN_KEY = "the session needs a complete key of its own; it is not combined with the server's."


@pytest.mark.parametrize(
    ("config", "request_", "problems"),
    [
        (
            server(),
            asked("bedrock"),
            "Bedrock needs a region: pass awsRegion or set AWS_REGION.",
        ),
        (
            server(AWS_EC2_METADATA_DISABLED="true"),
            arguments(True),
            "Bedrock needs credentials: set AWS_PROFILE, AWS_BEARER_TOKEN_BEDROCK or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass awsAccessKeyId and "
            "awsSecretAccessKey. Bedrock needs a region: pass awsRegion or set AWS_REGION.",
        ),
        (
            server(AWS),
            arguments(True, awsAccessKeyId="AKIAOWN"),
            f"awsSecretAccessKey is missing: with awsAccessKeyId, {OWN_KEY}",
        ),
        (
            server(AWS),
            arguments(True, awsSessionToken="own-token"),
            f"awsAccessKeyId is missing: with awsSessionToken, {OWN_KEY} "
            f"awsSecretAccessKey is missing: with awsSessionToken, {OWN_KEY}",
        ),
        (
            server(AWS),
            asked("bedrock", secretAccessKey="own-secret"),
            f"accessKeyId is missing: with secretAccessKey, {OWN_KEY}",
        ),
        (
            server(AWS),
            asked("bedrock", bearerToken="own-bearer", **KEYS),
            "Pass either bearerToken or accessKeyId, secretAccessKey, not both.",
        ),
        (
            server(AWS_REGION="eu-1", AWS_SECRET_ACCESS_KEY="alone"),
            asked("bedrock"),
            "AWS_ACCESS_KEY_ID is not set, but AWS_SECRET_ACCESS_KEY is.",
        ),
        (
            server(AWS),
            asked("bedrock", baseUrl="https://else.example"),
            OWN_PLACE.format("baseUrl"),
        ),
        (
            server(AWS_REGION="eu-1"),
            asked("bedrock", baseUrl="https://else.example"),
            OWN_PLACE.format("baseUrl"),
        ),
        (
            server(AWS),
            arguments(True, awsRegion="evil.example/?"),
            "awsRegion is not a valid region.",
        ),
        (
            server(AWS),
            ProviderRequest("bedrock", {"region": "a"}, arguments={"awsRegion": "b"}),
            "region and awsRegion are the same option: pass only one.",
        ),
        (
            server(),
            ProviderRequest("vertex", use_bedrock=True, options={"apiKey": "k"}),
            "useBedrock contradicts provider vertex. apiKey is an option of "
            "anthropic and foundry, not of vertex. Vertex needs a project: pass projectId or set "
            "ANTHROPIC_VERTEX_PROJECT_ID. Vertex needs a region: pass region or set "
            "CLOUD_ML_REGION.",
        ),
        (
            server(VERTEX),
            asked("vertex", credentials="{}", projectId="a/b"),
            "credentials is a Google credential that works only on the machine it was made for. "
            "Use one of type service_account or authorized_user. projectId is not a valid "
            "projectId.",
        ),
        (
            server(VERTEX),
            asked("vertex", credentials="[1]"),
            "credentials is not the JSON of a Google credential.",
        ),
        (
            server(VERTEX, GOOGLE_APPLICATION_CREDENTIALS="/nowhere.json"),
            asked("vertex"),
            "GOOGLE_APPLICATION_CREDENTIALS: /nowhere.json cannot be read: No such file or "
            "directory.",
        ),
        (
            server(),
            asked("foundry"),
            "Foundry needs a key: pass apiKey or set ANTHROPIC_FOUNDRY_API_KEY. "
            "Foundry needs a resource or a base URL: pass resource or baseUrl, or set "
            "ANTHROPIC_FOUNDRY_RESOURCE or ANTHROPIC_FOUNDRY_BASE_URL.",
        ),
        (server(FOUNDRY), asked("foundry", resource="mine"), OWN_PLACE.format("resource")),
        (
            server(FOUNDRY),
            asked("foundry", apiKey="own", resource="mine", baseUrl="https://x.example"),
            "Pass either resource or baseUrl, not both.",
        ),
        (
            server(FOUNDRY),
            asked("foundry", apiKey="own", resource="mine.evil.example"),
            "resource is not a valid resource.",
        ),
        (
            server(ANTHROPIC_API_KEY="sk-server"),
            asked(baseUrl="https://else.example"),
            OWN_PLACE.format("baseUrl"),
        ),
        (server(), asked(baseUrl="https://else.example"), OWN_PLACE.format("baseUrl")),
        (
            server(),
            asked(apiKey="a", authToken="b"),
            "Pass only one of apiKey and authToken.",
        ),
        (
            server(),
            asked(apiKey="a" * 70_000),
            "apiKey is longer than 65536 characters.",
        ),
        (
            server(),
            asked(apiKey="a\nb"),
            "apiKey contains spaces or invalid characters.",
        ),
        (
            server(),
            asked(authToken="a", baseUrl="https://x\ud800", model="\0"),
            "baseUrl contains unprintable characters. model contains unprintable characters.",
        ),
        (
            server(VERTEX),
            asked("vertex", credentials='{"type": "service_account", "x": "\ud800"}'),
            "credentials is not the JSON of a Google credential.",
        ),
        (
            server(CLAUDE_CODE_USE_BEDROCK="1", CLAUDE_CODE_USE_VERTEX="1", AWS_REGION="eu-1"),
            asked(),
            "CLAUDE_CODE_USE_BEDROCK and CLAUDE_CODE_USE_VERTEX are both set: keep one of them, "
            "or pass provider.",
        ),
        (
            server(ANTHROPIC_API_KEY="k"),
            arguments(awsRegion="eu-1", bedrockModel="m"),
            "awsRegion is for Bedrock, but the session's provider is anthropic. bedrockModel is "
            "for Bedrock, but the session's provider is anthropic.",
        ),
        (
            server(AWS),
            arguments(True, apiKey="k"),
            "apiKey is for the Anthropic API, but the session's provider is bedrock.",
        ),
        (
            server(),
            asked("bedrok", region="eu-1"),
            "No such provider; choose one of anthropic, bedrock, vertex, foundry. Did you mean "
            "bedrock?",
        ),
        (
            server(AWS),
            asked("bedrock", regoin="eu-1"),
            "No such provider option 'regoin'. Did you mean region?",
        ),
        (
            server(AWS),
            ProviderRequest(use_bedrock=True, arguments={"bedrockModel": "a"}, model="b"),
            "model and bedrockModel differ: pass only one.",
        ),
    ],
)
def test_all_problems_are_reported_at_once(
    config: Config, request_: ProviderRequest, problems: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(config, DOCKER, request_)
    assert worded(str(caught.value)) == problems


def test_the_servers_models_apply_only_to_the_servers_provider() -> None:
    config = server(AWS, ANTHROPIC_MODEL="big", ANTHROPIC_SMALL_FAST_MODEL="small")
    on_bedrock = replace(config, clouds=("bedrock",))
    own = ProviderRequest("bedrock", {"smallModel": "own-small"}, model="own-big")
    models = [
        (found.model, found.small_model)
        for found in (
            resolve(config, DOCKER),
            resolve(config, DOCKER, asked("bedrock")),
            resolve(on_bedrock, DOCKER),
            resolve(on_bedrock, DOCKER, asked("anthropic")),
            resolve(on_bedrock, DOCKER, own),
        )
    ]
    assert models == [
        ("big", "small"),
        (None, None),
        ("big", "small"),
        (None, None),
        ("own-big", "own-small"),
    ]


def test_restored_credentials_keep_the_place_that_the_session_chose() -> None:
    config = server(AWS, VERTEX, CLAUDE_CODE_USE_VERTEX="1")
    created = resolve(config, DOCKER, arguments(True, awsRegion="us-1"))
    assert created.places == {"region": "us-1"}
    assert restore(config, DOCKER, "bedrock", SERVER, created.places) == created.credentials
    assert restore(config, DOCKER, "bedrock", SESSION, {}) is None


def test_a_forged_label_cannot_redirect_the_servers_credential() -> None:
    with pytest.raises(UsageError, match=r"needs its own credential"):
        restore(server(AWS), DOCKER, "bedrock", SERVER, {"baseUrl": "https://else.example"})


def test_every_part_of_a_google_credential_is_redacted() -> None:
    resolve(server(VERTEX), DOCKER, asked("vertex", credentials=GOOGLE))
    assert redactor.redact(GOOGLE) == "[redacted]"
    assert redactor.redact(f"it is {json.loads(GOOGLE)['private_key']}") == "it is [redacted]"


def test_the_servers_google_file_is_handed_over_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "google.json"
    file.write_text(GOOGLE)
    config = server(VERTEX, GOOGLE_APPLICATION_CREDENTIALS=str(file))
    credential = handover(resolve(config, DOCKER, asked("vertex")))["credential"]
    assert credential == {"kind": "google", "value": GOOGLE}


PROFILES = "[default]\naws_access_key_id = A\naws_secret_access_key = a\n[work]\n"


def test_a_profile_supplies_its_keys_and_the_default_region(tmp_path: Path) -> None:
    aws = tmp_path / ".aws"
    aws.mkdir()
    (aws / "credentials").write_text(
        PROFILES + "aws_access_key_id = AKIAWORK\naws_secret_access_key = work-secret\n"
    )
    (aws / "config").write_text("[profile work]\nregion = eu-work-1\n")
    config = server(HOME=str(tmp_path), AWS_PROFILE="work")
    found = resolve(config, DOCKER, asked("bedrock"))
    assert (handover(found)["credential"], handover(found)["region"]) == (
        {"kind": "keys", "accessKeyId": "AKIAWORK", "secretAccessKey": "work-secret"},
        "eu-work-1",
    )
    assert redactor.redact("work-secret") == "[redacted]"
    found = resolve(config, DOCKER, asked("bedrock", region="us-1"))
    assert handover(found)["region"] == "us-1"


def test_an_unusable_profile_is_reported_with_the_other_problems(tmp_path: Path) -> None:
    config = server(HOME=str(tmp_path), AWS_PROFILE="nosuch")
    with pytest.raises(UsageError) as caught:
        resolve(config, DOCKER, asked("bedrock"))
    assert worded(str(caught.value)) == (
        f"AWS_PROFILE: there is no profile 'nosuch' in {tmp_path}/.aws/credentials. "
        "Bedrock needs a region: pass awsRegion or set AWS_REGION."
    )


def test_a_metadata_service_on_the_host_is_addressed_from_the_container() -> None:
    desktop = replace(DOCKER, in_virtual_machine=True)
    config = server(
        VERTEX,
        AWS_REGION="eu-1",
        AWS_EC2_METADATA_SERVICE_ENDPOINT="http://localhost:1338/",
        GCE_METADATA_HOST="localhost:8080",
    )
    bedrock = resolve(config, desktop, asked("bedrock"))
    vertex = resolve(config, desktop, asked("vertex"))
    role = {"endpoint": "http://host.docker.internal:1338"}
    assert handover(bedrock)["credential"]["value"] == role
    assert handover(vertex)["metadataHost"] == "http://host.docker.internal:8080"
    assert (bedrock.needs_host_alias, vertex.needs_host_alias) == (True, True)


def test_a_handover_lists_its_secret_values() -> None:
    """The redactor inside the session has no other source for them."""
    google = json.dumps({"type": "service_account", "private_key": "-----BEGIN\nMII\n"})
    own = {
        "vertex": {"credentials": google},
        "anthropic": {"apiKey": "own-key-0123", "baseUrl": "https://me:p%2Fw@gateway.example"},
        "bedrock": {"bearerToken": "bearer-0123"},
    }
    found = {
        name: handover(resolve(server(VERTEX, AWS), DOCKER, asked(name, **options)))["secretValues"]
        for name, options in own.items()
    }
    assert found == {
        "vertex": [google, "-----BEGIN\nMII\n"],
        "anthropic": [
            "own-key-0123",
            "https://me:p%2Fw@gateway.example",
            "p%2Fw",
            "p/w",
        ],
        "bedrock": ["bearer-0123"],
    }
    role = server(
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.7/role"},
        CLAUDE_CODE_USE_BEDROCK="1",
        AWS_REGION="eu-a-1",
        AWS_CONTAINER_AUTHORIZATION_TOKEN="token-of-ecs",
    )
    assert handover(resolve(role, DOCKER))["secretValues"] == ["token-of-ecs"]


@pytest.mark.parametrize(
    ("provider", "options"),
    [
        ("vertex", {"credentials": GOOGLE}),
        ("bedrock", {"bearerToken": "bearer-0123"}),
        ("foundry", {"apiKey": "own-key-0123"}),
        ("anthropic", {"authToken": "own-token-0123"}),
    ],
)
def test_a_password_in_the_base_url_excludes_a_credential_for_the_same_header(
    provider: str, options: dict[str, str]
) -> None:
    request = asked(provider, **options, baseUrl="https://me:pass-word@gateway.example")
    with pytest.raises(UsageError, match="baseUrl contains a password, but requests already"):
        resolve(server(VERTEX, AWS), DOCKER, request)
