"""AWS Bedrock: keys, a bearer token, a profile or the machine's role, and the region."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from claude_mcp.config_names import AWS_KEY_NAMES
from claude_mcp.contract.handover import Credential, Credentials
from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.wording import named
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers import aws_profile
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.lookup import Found, Lookup

REGION: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,40}[a-z0-9])?")
"""A region becomes part of a host name, so it must not contain anything that changes the host."""

AWS_OPTIONS: Final = ("accessKeyId", "secretAccessKey", "sessionToken")
AWS_ARGUMENTS: Final = ("awsAccessKeyId", "awsSecretAccessKey", "awsSessionToken")
NO_KEYS: Final = (
    "No AWS credentials were given. Claude Code will request this machine's role (EC2 or ECS "
    "metadata); prompts fail if it has none. Otherwise set AWS_PROFILE, AWS_BEARER_TOKEN_BEDROCK "
    f"or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass {named('awsAccessKeyId')} and "
    f"{named('awsSecretAccessKey')}."
)


def find(lookup: Lookup) -> Found:
    profile_region = None
    credential: Credential | None
    if any(lookup.option(name) is not None for name in (*AWS_OPTIONS, "bearerToken")):
        source, credential = CredentialSource.SESSION, _own(lookup)
    else:
        source = CredentialSource.SERVER
        credential, profile_region = _servers(lookup)
    region = lookup.place(
        "region",
        REGION,
        ("AWS_REGION", "AWS_DEFAULT_REGION"),
        f"Bedrock needs a region: pass {named('awsRegion')} or set AWS_REGION.",
        ("The region of AWS_PROFILE", profile_region) if profile_region else None,
    )
    base_url = lookup.base_url("ANTHROPIC_BEDROCK_BASE_URL", source)
    return Found(source, credential, base_url=base_url, region=region)


def hosts(credentials: Credentials) -> tuple[str, ...]:
    """The hosts that Claude Code contacts when no base URL is set."""
    region = credentials.region or ""
    kinds = ("", "-fips") if region.startswith("us-gov-") else ("",)
    services = ("bedrock-runtime", "bedrock")
    return tuple(
        f"{service}{kind}.{region}.amazonaws.com" for service in services for kind in kinds
    )


def _own(lookup: Lookup) -> Credential:
    given_as = lookup.chosen.given_as
    token = lookup.option("bearerToken")
    names = [given_as[name] for name in AWS_OPTIONS if name in given_as]
    if token is not None:
        if names:
            lookup.problems.append(
                f"Pass either {named('bearerToken')} or {', '.join(map(named, names))}, not both."
            )
        return Credential("bearerToken", lookup.key("bearerToken", token))
    keys = {name: lookup.option(name) for name in AWS_OPTIONS}
    for name, argument in zip(AWS_OPTIONS[:2], AWS_ARGUMENTS, strict=False):
        if keys[name] is None:
            missing = argument if names[0] in AWS_ARGUMENTS else name
            lookup.problems.append(
                f"{missing} is missing: with {names[0]}, the session needs a complete key of its "
                "own; it is not combined with the server's."
            )
    return _keys(lookup, {given_as.get(name, name): keys[name] for name in AWS_OPTIONS})


def _keys(lookup: Lookup, values: Mapping[str, str | None]) -> Credential:
    """``values``: access key id, secret access key and session token, by their given names."""
    key_id, secret, token = (
        None if value is None else lookup.key(name, value) for name, value in values.items()
    )
    return Credential("keys", access_key_id=key_id, secret_access_key=secret, session_token=token)


def _servers(lookup: Lookup) -> tuple[Credential | None, str | None]:
    """The server's credential and, if it comes from a profile, the profile's region."""
    token = lookup.secret("AWS_BEARER_TOKEN_BEDROCK")
    if token is not None:
        return Credential("bearerToken", lookup.key("AWS_BEARER_TOKEN_BEDROCK", token)), None
    keys = {name: lookup.secret(name) for name in AWS_KEY_NAMES}
    if any(keys.values()):
        for name in AWS_KEY_NAMES[:2]:
            if keys[name] is None:
                given = next(other for other in AWS_KEY_NAMES if keys[other])
                lookup.problems.append(f"{name} is not set, but {given} is.")
        return _keys(lookup, keys), None
    profile = lookup.variable("AWS_PROFILE")
    if profile is not None:
        return _profile(lookup, profile[1])
    return _machine_role(lookup), None


def _profile(lookup: Lookup, name: str) -> tuple[Credential | None, str | None]:
    directory = Path(lookup.config.environment.get("HOME", "/")) / ".aws"
    credentials = lookup.variable("AWS_SHARED_CREDENTIALS_FILE")
    config = lookup.variable("AWS_CONFIG_FILE")
    try:
        profile = aws_profile.resolve(
            name,
            Path(credentials[1]).expanduser() if credentials else directory / "credentials",
            Path(config[1]).expanduser() if config else directory / "config",
        )
    except UsageError as error:
        lookup.problems.append(error.message)
        return None, None
    values = (profile.access_key_id, profile.secret_access_key, profile.session_token)
    for value in filter(None, values):
        redactor.add(value)
        lookup.key(f"A key of the profile {name!r}", value)
    key_id, secret, token = values
    credential = Credential(
        "keys", access_key_id=key_id, secret_access_key=secret, session_token=token
    )
    return credential, profile.region


def _machine_role(lookup: Lookup) -> Credential:
    """Where a container requests the machine's role."""
    disabled = lookup.variable("AWS_EC2_METADATA_DISABLED")
    full = lookup.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    relative = lookup.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    role: dict[str, str] = {}
    if full is not None or relative is not None:
        if relative is not None:
            role["relativeUri"] = relative[1]
        elif full is not None:
            role["fullUri"] = lookup.address(*full)
        token = lookup.secret("AWS_CONTAINER_AUTHORIZATION_TOKEN") or _token_file(lookup)
        if token:
            role["token"] = token
    elif disabled is not None and disabled[1].lower() == "true":
        lookup.problems.append(
            "Bedrock needs credentials: set AWS_PROFILE, AWS_BEARER_TOKEN_BEDROCK or "
            f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass {named('awsAccessKeyId')} and "
            f"{named('awsSecretAccessKey')}."
        )
    elif endpoint := lookup.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        role["endpoint"] = lookup.address(*endpoint).rstrip("/")
    lookup.warnings.append(NO_KEYS)
    return Credential("machine", role)


def _token_file(lookup: Lookup) -> str | None:
    named = lookup.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    text = lookup.read(*named) if named else None
    if not text:
        return None
    redactor.add(text.strip())
    return text.strip()
