"""Resolves provider options and the server's settings to one provider with its credentials.

All problems are reported at once, before a container exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from claude_mcp.config import Config
from claude_mcp.contract.handover import Credential, Credentials
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers import addresses, anthropic, bedrock, foundry, headers, vertex
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.lookup import Found, Lookup, not_a_value
from claude_mcp.sessions.providers.options import (
    ANTHROPIC,
    BEDROCK,
    FOUNDRY,
    OPTIONS,
    VERTEX,
    ProviderRequest,
    choose,
    google_secrets,
)

PLACES: Final = ("region", "projectId", "resource", "baseUrl")
NOTHING_ASKED: Final = ProviderRequest()


@dataclass(frozen=True, slots=True)
class Provider:
    """A session's provider; ``credentials`` is what the agent receives."""

    name: str
    source: CredentialSource
    credentials: Credentials
    needs_host_alias: bool
    warnings: tuple[str, ...]
    model: str | None = None
    small_model: str | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    """The session's own choices, needed to supply its credentials again.

    A choice that contains a secret is recorded as an empty string.
    """


_FIND: Final[Mapping[str, Callable[[Lookup], Found]]] = {
    ANTHROPIC: anthropic.find,
    BEDROCK: bedrock.find,
    VERTEX: vertex.find,
    FOUNDRY: foundry.find,
}
_HOSTS: Final[Mapping[str, Callable[[Credentials], tuple[str, ...]]]] = {
    ANTHROPIC: anthropic.hosts,
    BEDROCK: bedrock.hosts,
    VERTEX: vertex.hosts,
    FOUNDRY: foundry.hosts,
}


def resolve(config: Config, dialect: Dialect, request: ProviderRequest = NOTHING_ASKED) -> Provider:
    """The provider for a session.

    A session's own credential replaces the server's as a whole; the two are never mixed. The
    server's credential goes only to the cloud itself or to an address in the server's settings.

    Raises:
        UsageError: lists every problem.
    """
    problems: list[str] = []
    chosen = choose(config, request, problems)
    lookup = Lookup(config, dialect, chosen, problems)
    found = _FIND[chosen.provider](lookup)
    proxies = _proxies(lookup)
    # The server's model names and headers are valid only at the server's own provider.
    servers = chosen.provider in (config.clouds or (ANTHROPIC,))
    options = chosen.options
    model = options.get("model") or (config.model if servers else None)
    small_model = options.get("smallModel") or (config.small_fast_model if servers else None)
    for kind, name in (("model", model), ("small model", small_model)):
        if name and (wrong := not_a_value(name)):
            problems.append(f"The {kind} {name[:60]!r} {wrong}")
    given = config.custom_headers if servers else None
    custom_headers = None
    if given is not None and found.source is not CredentialSource.SESSION:
        custom_headers = headers.check(given.reveal(), problems)
    if problems:
        raise UsageError(" ".join(problems))
    return Provider(
        name=chosen.provider,
        source=found.source,
        credentials=Credentials(
            provider=chosen.provider,
            credential=found.credential,
            proxies=proxies,
            secret_values=(
                *_secret_values(found, proxies),
                *headers.secret_values(custom_headers or ""),
            ),
            base_url=found.base_url,
            region=found.region,
            project_id=found.project_id,
            resource=found.resource,
            metadata_host=found.metadata_host,
            custom_headers=custom_headers,
        ),
        needs_host_alias=lookup.translated,
        warnings=tuple(lookup.warnings),
        model=model,
        small_model=small_model,
        places={
            name: "" if addresses.secrets_of(options[name]) else options[name]
            for name in PLACES
            if name in options
        },
    )


def _secret_values(found: Found, proxies: Mapping[str, str]) -> tuple[str, ...]:
    """Every value that the redactor inside the session must know."""
    values = _credential_secrets(found.credential) if found.credential else []
    for address in (found.base_url, *proxies.values()):
        values += addresses.secrets_of(address or "")
    return tuple(values)


def _credential_secrets(credential: Credential) -> list[str]:
    match credential.kind:
        case "google":
            return google_secrets(credential.value)
        case "machine":
            token = (credential.value or {}).get("token")
            return [token] if token else []
        case "keys":
            keys = (
                credential.access_key_id,
                credential.secret_access_key,
                credential.session_token,
            )
            return [key for key in keys if key is not None]
        case _:
            return [credential.value]


def _proxies(lookup: Lookup) -> dict[str, str]:
    bypass = lookup.translated
    proxies = {
        name: value if name == "NO_PROXY" else lookup.address(name, value, scheme_optional=True)
        for name, value in lookup.config.proxies.items()
    }
    if bypass and proxies:
        # A proxy cannot resolve the name by which a container reaches this host.
        names = (proxies.get("NO_PROXY"), lookup.dialect.host_alias)
        proxies["NO_PROXY"] = ",".join(filter(None, names))
    return proxies


def hosts(credentials: Credentials) -> tuple[str, ...]:
    """The hosts (HTTPS, port 443) that a provider uses when no base URL is set."""
    return _HOSTS[credentials.provider](credentials)


def known_provider(name: str) -> str:
    """The provider that a session's label names; a label that means nothing is ignored."""
    return name if name in OPTIONS else ANTHROPIC


def restore(
    config: Config,
    dialect: Dialect,
    provider: str,
    source: CredentialSource,
    places: Mapping[str, str],
) -> Credentials | None:
    """The server's credentials for a session that has lost its own; None if it cannot have them.

    A session that was created with its own credentials never receives the server's.

    Raises:
        UsageError: the server's settings are incomplete.
    """
    if source is CredentialSource.SESSION:
        return None
    resolved = resolve(config, dialect, ProviderRequest(known_provider(provider), places))
    return resolved.credentials if resolved.source is CredentialSource.SERVER else None
