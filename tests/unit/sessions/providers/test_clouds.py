"""Which credentials a cloud gets, where they go, and what is refused at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.config import Config, load
from claude_mcp.contract.redaction import redactor
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers.bedrock import AWS_OPTIONS
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.options import ProviderRequest
from claude_mcp.sessions.providers.resolve import resolve, restore
from claude_mcp.sessions.session import Session, Status

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
def test_a_session_has_the_servers_credential_or_its_own_and_never_parts_of_both(
    config: Config,
    request_: ProviderRequest,
    source: CredentialSource,
    credential: dict[str, Any],
    place: str | None,
) -> None:
    found = resolve(config, DOCKER, request_)
    assert (found.source, found.handover["credential"], found.handover.get("region")) == (
        source,
        credential,
        place,
    )


def test_a_handover_holds_nothing_but_what_its_provider_needs() -> None:
    everything = server(AWS, VERTEX, FOUNDRY, ANTHROPIC_API_KEY="sk-server")
    found = {name: resolve(everything, DOCKER, asked(name)).handover for name in NAMES}
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
            "baseUrl": None,
            "proxies": {},
        },
        "bedrock": {
            "provider": "bedrock",
            "credential": SERVER_KEYS,
            "baseUrl": None,
            "region": "eu-server-1",
            "proxies": {},
        },
        "vertex": {
            "provider": "vertex",
            "credential": {"kind": "machine"},
            "baseUrl": None,
            "projectId": "a-project",
            "region": "global",
            "proxies": {},
        },
        "foundry": {
            "provider": "foundry",
            "credential": {"kind": "apiKey", "value": "server-key"},
            "baseUrl": None,
            "resource": "servers",
            "proxies": {},
        },
    }


NAMES = ("anthropic", "bedrock", "vertex", "foundry")
OWN_PLACE = (
    "A session with a {} of its own needs a credential of its own: the server's goes to no "
    "address that a caller chose."
)
MIXED = "and the server's keys are not mixed with a session's."


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
            f"awsSecretAccessKey is missing: awsAccessKeyId is given, {MIXED}",
        ),
        (
            server(AWS),
            arguments(True, awsSessionToken="own-token"),
            f"awsAccessKeyId is missing: awsSessionToken is given, {MIXED} "
            f"awsSecretAccessKey is missing: awsSessionToken is given, {MIXED}",
        ),
        (
            server(AWS),
            asked("bedrock", secretAccessKey="own-secret"),
            f"accessKeyId is missing: secretAccessKey is given, {MIXED}",
        ),
        (
            server(AWS),
            asked("bedrock", bearerToken="own-bearer", **KEYS),
            "bearerToken and accessKeyId, secretAccessKey: give one or the other.",
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
            "awsRegion has not the form of a region.",
        ),
        (
            server(AWS),
            ProviderRequest("bedrock", {"region": "a"}, arguments={"awsRegion": "b"}),
            "region and awsRegion mean the same: give one of them.",
        ),
        (
            server(),
            ProviderRequest("vertex", use_bedrock=True, options={"apiKey": "k"}),
            "useBedrock and provider vertex contradict each other. apiKey is an option of "
            "anthropic and foundry, not of vertex. Vertex needs a project: pass projectId or set "
            "ANTHROPIC_VERTEX_PROJECT_ID. Vertex needs a region: pass region or set "
            "CLOUD_ML_REGION.",
        ),
        (
            server(VERTEX),
            asked("vertex", credentials="{}", projectId="a/b"),
            "credentials is a Google credential of a kind that works on its own machine only; a "
            "session needs one of service_account or authorized_user. projectId has not the form "
            "of a projectId.",
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
            "Foundry needs a key: pass the option apiKey or set ANTHROPIC_FOUNDRY_API_KEY. "
            "Foundry needs a resource or a base URL: pass resource or baseUrl, or set "
            "ANTHROPIC_FOUNDRY_RESOURCE or ANTHROPIC_FOUNDRY_BASE_URL.",
        ),
        (server(FOUNDRY), asked("foundry", resource="mine"), OWN_PLACE.format("resource")),
        (
            server(FOUNDRY),
            asked("foundry", apiKey="own", resource="mine", baseUrl="https://x.example"),
            "resource and baseUrl are two places: give one of them.",
        ),
        (
            server(FOUNDRY),
            asked("foundry", apiKey="own", resource="mine.evil.example"),
            "resource has not the form of a resource.",
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
            "apiKey and authToken: give one of them.",
        ),
        (
            server(),
            asked(apiKey="a\nb"),
            "apiKey holds blanks or characters that no key has.",
        ),
        (
            server(),
            asked(authToken="a", baseUrl="https://x\ud800", model="\0"),
            "baseUrl holds characters that cannot be passed on. model holds characters that "
            "cannot be passed on.",
        ),
        (
            server(VERTEX),
            asked("vertex", credentials='{"type": "service_account", "x": "\ud800"}'),
            "credentials is not the JSON of a Google credential.",
        ),
        (
            server(CLAUDE_CODE_USE_BEDROCK="1", CLAUDE_CODE_USE_VERTEX="1", AWS_REGION="eu-1"),
            asked(),
            "CLAUDE_CODE_USE_BEDROCK and CLAUDE_CODE_USE_VERTEX are set: leave one, or pass "
            "provider.",
        ),
        (
            server(ANTHROPIC_API_KEY="k"),
            arguments(awsRegion="eu-1", bedrockModel="m"),
            "awsRegion is for Bedrock, and the session's provider is anthropic. bedrockModel is "
            "for Bedrock, and the session's provider is anthropic.",
        ),
        (
            server(AWS),
            arguments(True, apiKey="k"),
            "apiKey is for the Anthropic API, and the session's provider is bedrock.",
        ),
        (
            server(),
            asked("bedrok", region="eu-1"),
            "There is no such provider; there are anthropic, bedrock, vertex, foundry; did you "
            "mean bedrock?",
        ),
        (
            server(AWS),
            asked("bedrock", regoin="eu-1"),
            "There is no provider option 'regoin'; did you mean region?",
        ),
        (
            server(AWS),
            ProviderRequest(use_bedrock=True, arguments={"bedrockModel": "a"}, model="b"),
            "model and bedrockModel contradict each other: give one.",
        ),
    ],
)
def test_every_problem_is_told_at_once(
    config: Config, request_: ProviderRequest, problems: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(config, DOCKER, request_)
    assert str(caught.value) == problems


def test_the_servers_models_are_for_the_servers_provider() -> None:
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


def session(provider: str, source: CredentialSource, **places: str) -> Session:
    return Session(
        id="0" * 12,
        container_id="0" * 64,
        name="a",
        container_name="claude-mcp-a",
        project_path="/p",
        image="i",
        provider=provider,
        credentials=source,
        status=Status.RUNNING,
        created_at="",
        places=places,
    )


def test_what_is_restored_goes_to_the_place_that_the_session_chose() -> None:
    config = server(AWS, VERTEX, CLAUDE_CODE_USE_VERTEX="1")
    created = resolve(config, DOCKER, arguments(True, awsRegion="us-1"))
    assert created.places == {"region": "us-1"}
    assert restore(config, DOCKER, session("bedrock", SERVER, **created.places)) == created.handover
    assert restore(config, DOCKER, session("bedrock", SESSION)) is None


def test_a_label_leads_the_servers_credentials_nowhere() -> None:
    forged = session("bedrock", SERVER, baseUrl="https://else.example")
    with pytest.raises(UsageError, match=r"^A session with a baseUrl of its own"):
        restore(server(AWS), DOCKER, forged)


def test_no_part_of_a_google_credential_is_shown() -> None:
    resolve(server(VERTEX), DOCKER, asked("vertex", credentials=GOOGLE))
    assert redactor.redact(GOOGLE) == "[redacted]"
    assert redactor.redact(f"it is {json.loads(GOOGLE)['private_key']}") == "it is [redacted]"


def test_the_accounts_file_of_the_server_travels_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "google.json"
    file.write_text(GOOGLE)
    config = server(VERTEX, GOOGLE_APPLICATION_CREDENTIALS=str(file))
    credential = resolve(config, DOCKER, asked("vertex")).handover["credential"]
    assert credential == {"kind": "google", "value": GOOGLE}


PROFILES = "[default]\naws_access_key_id = A\naws_secret_access_key = a\n[work]\n"


def test_a_profile_gives_its_keys_and_the_region_that_nothing_else_gives(tmp_path: Path) -> None:
    aws = tmp_path / ".aws"
    aws.mkdir()
    (aws / "credentials").write_text(
        PROFILES + "aws_access_key_id = AKIAWORK\naws_secret_access_key = work-secret\n"
    )
    (aws / "config").write_text("[profile work]\nregion = eu-work-1\n")
    config = server(HOME=str(tmp_path), AWS_PROFILE="work")
    found = resolve(config, DOCKER, asked("bedrock"))
    assert (found.handover["credential"], found.handover["region"]) == (
        {"kind": "keys", "accessKeyId": "AKIAWORK", "secretAccessKey": "work-secret"},
        "eu-work-1",
    )
    assert redactor.redact("work-secret") == "[redacted]"
    found = resolve(config, DOCKER, asked("bedrock", region="us-1"))
    assert found.handover["region"] == "us-1"


def test_a_profile_that_cannot_be_used_is_one_problem_of_several(tmp_path: Path) -> None:
    config = server(HOME=str(tmp_path), AWS_PROFILE="nosuch")
    with pytest.raises(UsageError) as caught:
        resolve(config, DOCKER, asked("bedrock"))
    assert str(caught.value) == (
        f"AWS_PROFILE: there is no profile 'nosuch' in {tmp_path}/.aws/credentials. "
        "Bedrock needs a region: pass awsRegion or set AWS_REGION."
    )


def test_a_metadata_service_on_the_host_is_reached_from_the_container() -> None:
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
    assert bedrock.handover["credential"]["value"] == role
    assert vertex.handover["metadataHost"] == "http://host.docker.internal:8080"
    assert (bedrock.needs_host_alias, vertex.needs_host_alias) == (True, True)


def test_what_is_secret_in_a_handover_is_named() -> None:
    """For the redactor inside the session, which knows nothing else of it."""
    google = json.dumps({"type": "service_account", "private_key": "-----BEGIN\nMII\n"})
    own = {
        "vertex": {"credentials": google},
        "anthropic": {"apiKey": "own-key-0123", "baseUrl": "https://me:p%2Fw@gateway.example"},
        "bedrock": {"bearerToken": "bearer-0123"},
    }
    found = {
        name: resolve(server(VERTEX, AWS), DOCKER, asked(name, **options)).handover["secretValues"]
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
    assert resolve(role, DOCKER).handover["secretValues"] == ["token-of-ecs"]


@pytest.mark.parametrize(
    ("provider", "options"),
    [
        ("vertex", {"credentials": GOOGLE}),
        ("bedrock", {"bearerToken": "bearer-0123"}),
        ("foundry", {"apiKey": "own-key-0123"}),
        ("anthropic", {"authToken": "own-token-0123"}),
    ],
)
def test_a_password_in_an_address_and_a_credential_cannot_be_in_one_request(
    provider: str, options: dict[str, str]
) -> None:
    request = asked(provider, **options, baseUrl="https://me:pass-word@gateway.example")
    with pytest.raises(UsageError, match="baseUrl holds a password, and the credential takes"):
        resolve(server(VERTEX, AWS), DOCKER, request)
