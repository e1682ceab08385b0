"""Configures Claude Code for a provider through environment variables, descriptors and files.

Pure functions; runs on Python 3.9. The rule: a secret is put into the environment only if Claude
Code accepts it in no other way, and only in a variable that it hides from its commands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Union
from urllib.parse import urlsplit

from claude_mcp.contract.handover import Credential
from claude_mcp.contract.handover import Credentials as HandedOver
from claude_mcp.contract.urls import basic_authorization

HEADERS = "ANTHROPIC_CUSTOM_HEADERS"
ROLE_FILE = "machine-role.json"
NO_CREDENTIAL = Credential(kind="")

# Variables from the image or an outer Claude Code that would conflict with the provider.
NOT_INHERITED = frozenset(
    {
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_CUSTOM_HEADERS",
        "ANTHROPIC_MODEL",
        "ANTHROPIC_SMALL_FAST_MODEL",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL",
        "ANTHROPIC_BEDROCK_BASE_URL",
        "ANTHROPIC_VERTEX_BASE_URL",
        "ANTHROPIC_VERTEX_PROJECT_ID",
        "ANTHROPIC_FOUNDRY_API_KEY",
        "ANTHROPIC_FOUNDRY_AUTH_TOKEN",
        "ANTHROPIC_FOUNDRY_BASE_URL",
        "ANTHROPIC_FOUNDRY_RESOURCE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
        "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_USE_FOUNDRY",
        "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
        "CLAUDE_CODE_SKIP_VERTEX_AUTH",
        "CLAUDE_CODE_SKIP_FOUNDRY_AUTH",
        "CLOUD_ML_REGION",
        "GCE_METADATA_HOST",
        "GCLOUD_PROJECT",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_PROJECT",
    }
)


@dataclass(frozen=True)
class Anthropic:
    """Anthropic's API or a compatible gateway. `base_url` may contain a user and a password."""

    base_url: str | None = field(default=None, repr=False)
    model: str | None = None
    small_model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    auth_token: str | None = field(default=None, repr=False)
    oauth_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Bedrock:
    """AWS Bedrock with keys, a bearer token, or the machine's role.

    `role_command` requests the role at the address in `machine_role` and prints credentials in the
    format of a `credential_process` of the AWS SDK. Claude Code does not query a metadata service
    itself when the provider is managed by its host (measured with 2.1.330).
    """

    region: str
    base_url: str | None = None
    model: str | None = None
    small_model: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    machine_role: Mapping[str, str] | None = field(default=None, repr=False)
    role_command: str = ""


@dataclass(frozen=True)
class Vertex:
    """Google Vertex AI; without `credentials` (JSON), the metadata service supplies them."""

    project_id: str
    region: str
    base_url: str | None = None
    model: str | None = None
    small_model: str | None = None
    credentials: str | None = field(default=None, repr=False)
    metadata_host: str | None = None


@dataclass(frozen=True)
class Foundry:
    """Azure Foundry, at a resource or at a base URL."""

    resource: str | None = None
    base_url: str | None = None
    model: str | None = None
    small_model: str | None = None
    api_key: str | None = field(default=None, repr=False)


Provider = Union[Anthropic, Bedrock, Vertex, Foundry]


@dataclass(frozen=True)
class File:
    """A file in the agent's directory; `variable` passes its path to Claude Code."""

    name: str
    text: str = field(repr=False)
    variable: str | None = None


@dataclass(frozen=True)
class Credentials:
    """How each secret reaches Claude Code.

    `descriptors` maps variables to secrets; the variable names the descriptor of a pipe's reading
    end. Claude Code reads the pipe until it is closed and does not pass the descriptor to its
    children. Unlike a file, a pipe cannot be read again through `/proc` (measured).
    `files` are read more than once. Their paths, `/proc/self/fd/N/NAME`, go through a descriptor
    that Claude's commands do not inherit, so the path in the variable is useless to them
    (measured).
    `environment` holds secrets that Claude Code accepts in no other way.
    """

    descriptors: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: tuple[File, ...] = ()


def environment(provider: Provider) -> dict[str, str]:
    """Variables that select the provider, its address and its models."""
    values = {
        "ANTHROPIC_MODEL": provider.model,
        # The current and the former variable for the small model.
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": provider.small_model,
        "ANTHROPIC_SMALL_FAST_MODEL": provider.small_model,
    }
    if isinstance(provider, Anthropic):
        values["ANTHROPIC_BASE_URL"] = provider.base_url and _without_userinfo(provider.base_url)
    elif isinstance(provider, Bedrock):
        values.update(
            CLAUDE_CODE_USE_BEDROCK="1",
            AWS_REGION=provider.region,
            ANTHROPIC_BEDROCK_BASE_URL=provider.base_url,
        )
    elif isinstance(provider, Vertex):
        values.update(
            CLAUDE_CODE_USE_VERTEX="1",
            CLOUD_ML_REGION=provider.region,
            ANTHROPIC_VERTEX_PROJECT_ID=provider.project_id,
            ANTHROPIC_VERTEX_BASE_URL=provider.base_url,
            GCE_METADATA_HOST=provider.metadata_host,
        )
    else:
        values.update(
            CLAUDE_CODE_USE_FOUNDRY="1",
            ANTHROPIC_FOUNDRY_RESOURCE=provider.resource,
            ANTHROPIC_FOUNDRY_BASE_URL=provider.base_url,
        )
    return {name: value for name, value in values.items() if value is not None}


def credentials(provider: Provider, custom_headers: str | None = None) -> Credentials:
    """The secrets of a provider, by the way they are passed.

    ``custom_headers`` are further headers of each request, one ``Name: value`` a line.
    """
    found = _credentials(provider)
    headers = "\n".join(filter(None, (found.environment.get(HEADERS), custom_headers)))
    return replace(found, environment={**found.environment, HEADERS: headers}) if headers else found


def _credentials(provider: Provider) -> Credentials:
    if isinstance(provider, Anthropic):
        descriptors = {
            "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR": provider.api_key,
            "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR": provider.oauth_token,
        }
        # Has no descriptor variable, and PROVIDER_MANAGED_BY_HOST disables apiKeyHelper.
        variables = {
            "ANTHROPIC_AUTH_TOKEN": provider.auth_token,
            HEADERS: _authorization_header(provider.base_url),
        }
        return Credentials(_given(descriptors), _given(variables))
    if isinstance(provider, Bedrock):
        variables = {"AWS_BEARER_TOKEN_BEDROCK": provider.bearer_token}
        return Credentials(environment=_given(variables), files=_aws_files(provider))
    if isinstance(provider, Vertex):
        if provider.credentials is None:
            return Credentials()
        file = File("google.json", provider.credentials, "GOOGLE_APPLICATION_CREDENTIALS")
        return Credentials(files=(file,))
    return Credentials(environment=_given({"ANTHROPIC_FOUNDRY_API_KEY": provider.api_key}))


def _without_userinfo(url: str) -> str:
    """The URL without user and password: Claude's commands see this variable."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _authorization_header(url: str | None) -> str | None:
    authorization = basic_authorization(url or "")
    return f"Authorization: {authorization}" if authorization else None


def _aws_files(provider: Bedrock) -> tuple[File, ...]:
    if provider.machine_role is not None:
        process = f"[default]\ncredential_process = {provider.role_command}\n"
        return (
            File(ROLE_FILE, json.dumps(dict(provider.machine_role))),
            File("aws-config", process, "AWS_CONFIG_FILE"),
        )
    keys = _given(
        {
            "aws_access_key_id": provider.access_key_id,
            "aws_secret_access_key": provider.secret_access_key,
            "aws_session_token": provider.session_token,
        }
    )
    if not keys:
        return ()
    lines = "".join(f"{name} = {value}\n" for name, value in keys.items())
    return (File("aws-credentials", f"[default]\n{lines}", "AWS_SHARED_CREDENTIALS_FILE"),)


def _given(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def handed_over(
    given: HandedOver, model: str | None, small_model: str | None, role_command: str
) -> Provider:
    """The provider that the host handed over."""
    credential = given.credential or NO_CREDENTIAL
    kind, value = credential.kind, credential.value
    if given.provider == "bedrock":
        return Bedrock(
            region=given.region or "",
            base_url=given.base_url,
            model=model,
            small_model=small_model,
            access_key_id=credential.access_key_id,
            secret_access_key=credential.secret_access_key,
            session_token=credential.session_token,
            bearer_token=value if kind == "bearerToken" else None,
            machine_role=value if kind == "machine" else None,
            role_command=role_command,
        )
    if given.provider == "vertex":
        return Vertex(
            project_id=given.project_id or "",
            region=given.region or "",
            base_url=given.base_url,
            model=model,
            small_model=small_model,
            credentials=value if kind == "google" else None,
            metadata_host=given.metadata_host,
        )
    if given.provider == "foundry":
        return Foundry(
            resource=given.resource,
            base_url=given.base_url,
            model=model,
            small_model=small_model,
            api_key=value,
        )
    return Anthropic(
        base_url=given.base_url,
        model=model,
        small_model=small_model,
        api_key=value if kind == "apiKey" else None,
        auth_token=value if kind == "authToken" else None,
        oauth_token=value if kind == "oauthToken" else None,
    )
