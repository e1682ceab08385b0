"""Bedrock, Vertex and Foundry: credentials and places, from the session's options or the server's.

The session's own credential and the server's are never mixed, and the server's goes only to where
the server's settings or the cloud itself says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from claude_mcp.config import AWS_KEY_NAMES
from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers import aws_profile
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.lookup import Found, Search, own_credential
from claude_mcp.sessions.providers.options import google_secrets

REGION: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,40}[a-z0-9])?")
"""It becomes part of a host's name: nothing in it may lead elsewhere."""
PROJECT: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,98}")
RESOURCE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
GOOGLE_KINDS: Final = ("service_account", "authorized_user")

AWS_OPTIONS: Final = ("accessKeyId", "secretAccessKey", "sessionToken")
AWS_ARGUMENTS: Final = ("awsAccessKeyId", "awsSecretAccessKey", "awsSessionToken")
NO_AWS_KEYS: Final = (
    "No AWS keys are given: Claude Code asks for the role of this machine (EC2 or ECS metadata), "
    "and prompts fail if it has none. Else set AWS_PROFILE, AWS_BEARER_TOKEN_BEDROCK or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass awsAccessKeyId and awsSecretAccessKey."
)
NO_GOOGLE_FILE: Final = (
    "No Google credentials are given: Claude Code asks for the account of this machine (its "
    "metadata service), and prompts fail if it has none. Else set GOOGLE_APPLICATION_CREDENTIALS "
    "or pass the option credentials."
)


def bedrock(search: Search) -> Found:
    profile_region = None
    credential: dict[str, Any] | None
    if any(search.option(name) is not None for name in (*AWS_OPTIONS, "bearerToken")):
        source, credential = CredentialSource.SESSION, _own_aws(search)
    else:
        source = CredentialSource.SERVER
        credential, profile_region = _servers_aws(search)
    region = search.place(
        "region",
        REGION,
        ("AWS_REGION", "AWS_DEFAULT_REGION"),
        "Bedrock needs a region: pass awsRegion or set AWS_REGION.",
        ("The region of AWS_PROFILE", profile_region) if profile_region else None,
    )
    base_url = search.base_url("ANTHROPIC_BEDROCK_BASE_URL", source)
    return Found(source, credential, {"baseUrl": base_url, "region": region})


def _own_aws(search: Search) -> dict[str, Any]:
    told = search.settled.told_as
    token = search.option("bearerToken")
    names = [told[name] for name in AWS_OPTIONS if name in told]
    if token is not None:
        if names:
            search.problems.append(f"bearerToken and {', '.join(names)}: give one or the other.")
        return {"kind": "bearerToken", "value": search.key("bearerToken", token)}
    keys = {name: search.option(name) for name in AWS_OPTIONS}
    for name, argument in zip(AWS_OPTIONS[:2], AWS_ARGUMENTS, strict=False):
        if keys[name] is None:
            missing = argument if names[0] in AWS_ARGUMENTS else name
            search.problems.append(
                f"{missing} is missing: {names[0]} is given, and the server's keys are not mixed "
                "with a session's."
            )
    return _aws_keys(search, {told.get(name, name): keys[name] for name in AWS_OPTIONS})


def _aws_keys(search: Search, values: Mapping[str, str | None]) -> dict[str, Any]:
    """``values`` in the order of ``AWS_OPTIONS``, by what they are called."""
    given = zip(AWS_OPTIONS, values.items(), strict=True)
    keys = {name: search.key(told, value) for name, (told, value) in given if value is not None}
    return {"kind": "keys", **keys}


def _servers_aws(search: Search) -> tuple[dict[str, Any] | None, str | None]:
    """The server's credential, and the region of its profile if that is what it uses."""
    token = search.secret("AWS_BEARER_TOKEN_BEDROCK")
    if token is not None:
        value = search.key("AWS_BEARER_TOKEN_BEDROCK", token)
        return {"kind": "bearerToken", "value": value}, None
    keys = {name: search.secret(name) for name in AWS_KEY_NAMES}
    if any(keys.values()):
        for name in AWS_KEY_NAMES[:2]:
            if keys[name] is None:
                given = next(other for other in AWS_KEY_NAMES if keys[other])
                search.problems.append(f"{name} is not set, but {given} is.")
        return _aws_keys(search, keys), None
    profile = search.variable("AWS_PROFILE")
    if profile is not None:
        return _profile(search, profile[1])
    return _machine_role(search), None


def _profile(search: Search, name: str) -> tuple[dict[str, Any] | None, str | None]:
    directory = Path(search.config.environment.get("HOME", "/")) / ".aws"
    credentials = search.variable("AWS_SHARED_CREDENTIALS_FILE")
    config = search.variable("AWS_CONFIG_FILE")
    try:
        profile = aws_profile.resolve(
            name,
            Path(credentials[1]).expanduser() if credentials else directory / "credentials",
            Path(config[1]).expanduser() if config else directory / "config",
        )
    except UsageError as error:
        search.problems.append(error.message)
        return None, None
    values = (profile.access_key_id, profile.secret_access_key, profile.session_token)
    for value in values:
        redactor.add(value or "")
    told = f"A key of the profile {name!r}"
    given = {name: value for name, value in zip(AWS_OPTIONS, values, strict=True) if value}
    keys = {name: search.key(told, value) for name, value in given.items()}
    return {"kind": "keys", **keys}, profile.region


def _machine_role(search: Search) -> dict[str, Any] | None:
    """Where a container asks for the role of the machine."""
    disabled = search.variable("AWS_EC2_METADATA_DISABLED")
    full = search.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    relative = search.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    role: dict[str, str] = {}
    if full is not None or relative is not None:
        if relative is not None:
            role["relativeUri"] = relative[1]
        elif full is not None:
            role["fullUri"] = search.address(*full)
        token = search.secret("AWS_CONTAINER_AUTHORIZATION_TOKEN") or _token_file(search)
        if token:
            role["token"] = token
    elif disabled is not None and disabled[1].lower() == "true":
        search.problems.append(
            "Bedrock needs credentials: set AWS_PROFILE, AWS_BEARER_TOKEN_BEDROCK or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass awsAccessKeyId and "
            "awsSecretAccessKey."
        )
    elif endpoint := search.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        role["endpoint"] = search.address(*endpoint).rstrip("/")
    search.warnings.append(NO_AWS_KEYS)
    return {"kind": "machine", "value": role}


def _token_file(search: Search) -> str | None:
    named = search.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    text = _read(search, *named) if named else None
    if text:
        redactor.add(text.strip())
    return text and text.strip()


def vertex(search: Search) -> Found:
    own = search.option("credentials")
    server = search.variable("GOOGLE_APPLICATION_CREDENTIALS")
    credential: dict[str, Any] | None = None
    handover: dict[str, Any] = {}
    source = CredentialSource.SERVER if own is None else CredentialSource.SESSION
    if own is not None:
        credential = _google(search, "credentials", own)
    elif server is not None:
        text = _read(search, *server)
        if text is not None:
            for secret in google_secrets(text):
                redactor.add(secret)
            credential = _google(search, server[0], text)
    else:
        credential = {"kind": "machine"}
        search.warnings.append(NO_GOOGLE_FILE)
        if host := search.variable("GCE_METADATA_HOST"):
            handover["metadataHost"] = search.address(*host, scheme_optional=True)
    handover["projectId"] = search.place(
        "projectId",
        PROJECT,
        ("ANTHROPIC_VERTEX_PROJECT_ID",),
        "Vertex needs a project: pass projectId or set ANTHROPIC_VERTEX_PROJECT_ID.",
    )
    handover["region"] = search.place(
        "region",
        REGION,
        ("CLOUD_ML_REGION",),
        "Vertex needs a region: pass region or set CLOUD_ML_REGION.",
    )
    handover["baseUrl"] = search.base_url("ANTHROPIC_VERTEX_BASE_URL", source)
    return Found(source, credential, handover)


def _google(search: Search, told: str, text: str) -> dict[str, Any] | None:
    """A credential that stands for itself: other kinds name files or programs of the host."""
    try:
        text.encode()  # what came as JSON can hold half a pair of surrogates
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        if text:
            search.problems.append(f"{told} is not the JSON of a Google credential.")
        return None
    if value.get("type") not in GOOGLE_KINDS:
        search.problems.append(
            f"{told} is a Google credential of a kind that works on its own machine only; a "
            f"session needs one of {' or '.join(GOOGLE_KINDS)}."
        )
    return {"kind": "google", "value": text}


def _read(search: Search, told: str, name: str) -> str | None:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        search.problems.append(f"{told}: {name} cannot be read: {error.strerror}.")
    except (UnicodeDecodeError, ValueError):
        search.problems.append(f"{told}: {name} is not UTF-8 text.")
    return None


def foundry(search: Search) -> Found:
    own = search.option("apiKey")
    key = own if own is not None else search.secret("ANTHROPIC_FOUNDRY_API_KEY")
    source = CredentialSource.SERVER if own is None else CredentialSource.SESSION
    credential = None
    if key is None:
        search.problems.append(
            "Foundry needs a key: pass the option apiKey or set ANTHROPIC_FOUNDRY_API_KEY."
        )
    else:
        told = "ANTHROPIC_FOUNDRY_API_KEY" if own is None else "apiKey"
        credential = {"kind": "apiKey", "value": search.key(told, key)}
    resource = search.option("resource")
    base_url = None
    if resource is not None and source is not CredentialSource.SESSION:
        search.problems.append(own_credential("resource"))
    if resource is not None and search.option("baseUrl") is not None:
        search.problems.append("resource and baseUrl are two places: give one of them.")
    if resource is None:
        base_url = search.base_url("ANTHROPIC_FOUNDRY_BASE_URL", source)
    if base_url is None:
        resource = search.place(
            "resource",
            RESOURCE,
            ("ANTHROPIC_FOUNDRY_RESOURCE",),
            "Foundry needs a resource or a base URL: pass resource or baseUrl, or set "
            "ANTHROPIC_FOUNDRY_RESOURCE or ANTHROPIC_FOUNDRY_BASE_URL.",
        )
    return Found(source, credential, {"baseUrl": base_url, "resource": resource})
