"""Who serves a session's model, with which credentials, and at which address.

What is missing or contradictory is said before a container exists, all problems at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from claude_mcp.config import Config
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers import addresses, bedrock as clouds
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.lookup import Found, Search
from claude_mcp.sessions.providers.options import (
    ANTHROPIC,
    BEDROCK,
    FOUNDRY,
    OPTIONS,
    VERTEX,
    ProviderRequest,
    google_secrets,
    settle,
)
from claude_mcp.sessions.session import Session

PLACES: Final = ("region", "projectId", "resource", "baseUrl")
NOTHING_ASKED: Final = ProviderRequest()


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as a session uses it; ``handover`` is what travels on the agent's stdin."""

    name: str
    source: CredentialSource
    handover: dict[str, Any] = field(repr=False)
    needs_host_alias: bool
    warnings: tuple[str, ...]
    model: str | None = None
    small_model: str | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    """The session's own choices that must be remembered to hand in credentials again; one that
    is a secret itself is empty."""


def resolve(config: Config, dialect: Dialect, request: ProviderRequest = NOTHING_ASKED) -> Provider:
    """The provider for a session.

    Values given for a session win over the server's as a whole: with a credential of its own,
    none of the server's goes in.

    Raises:
        UsageError: naming every problem.
    """
    problems: list[str] = []
    settled = settle(config, request, problems)
    search = Search(config, dialect, settled, problems)
    found = _FIND[settled.provider](search)
    proxies = _proxies(search)
    if problems:
        raise UsageError(" ".join(problems))
    handover = {
        "provider": settled.provider,
        "credential": found.credential,
        **found.handover,
        "proxies": proxies,
    }
    # The server's models have the names that its own provider gives them.
    servers = settled.provider in (config.clouds or (ANTHROPIC,))
    options = settled.options
    return Provider(
        name=settled.provider,
        source=found.source,
        handover={**handover, "secretValues": _secret_values(handover)},
        needs_host_alias=search.translated,
        warnings=tuple(search.warnings),
        model=options.get("model") or (config.model if servers else None),
        small_model=options.get("smallModel") or (config.small_fast_model if servers else None),
        places={
            name: "" if addresses.secrets_of(options[name]) else options[name]
            for name in PLACES
            if name in options
        },
    )


def _secret_values(handover: Mapping[str, Any]) -> list[str]:
    """What of a handover must not be shown, for the redactor inside the session."""
    values: list[str] = []
    credential = dict(handover["credential"] or {})
    kind = credential.pop("kind", None)
    for value in credential.values():
        if kind == "google":
            values += google_secrets(value)
        elif isinstance(value, str):
            values.append(value)
        else:  # a machine's role, of which only the token is secret
            values += [value["token"]] if "token" in value else []
    for address in (handover.get("baseUrl"), *handover["proxies"].values()):
        values += addresses.secrets_of(address or "")
    return values


def _anthropic(search: Search) -> Found:
    config = search.config
    kinds = OPTIONS[ANTHROPIC][:3]
    own = [(kind, value) for kind in kinds if (value := search.option(kind)) is not None]
    if len(own) > 1:
        names = " and ".join(search.settled.told_as[kind] for kind, _ in own)
        search.problems.append(f"{names}: give one of them.")
    credential: dict[str, str] | None = None
    source = CredentialSource.SERVER
    servers = (config.auth_token, config.api_key, config.oauth_token)
    if own:
        source = CredentialSource.SESSION
        kind, value = own[0]
        told = search.settled.told_as[kind]
        credential = {"kind": kind, "value": search.key(told, value)}
    else:
        order = zip(("authToken", "apiKey", "oauthToken"), servers, strict=True)
        credential = next(
            ({"kind": kind, "value": secret.reveal()} for kind, secret in order if secret), None
        )
    if credential is None:
        source = CredentialSource.NONE
        search.warnings.append(
            "No credentials: prompts will fail. Set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or "
            "CLAUDE_CODE_OAUTH_TOKEN, or pass apiKey to create_session."
        )
    holds_password = credential is None or credential["kind"] == "apiKey"
    base_url = search.base_url(
        "ANTHROPIC_BASE_URL", source, config.base_url, holds_password=holds_password
    )
    return Found(source, credential, {"baseUrl": base_url})


def _proxies(search: Search) -> dict[str, str]:
    past_them = search.translated
    proxies = {
        name: value if name == "NO_PROXY" else search.address(name, value, scheme_optional=True)
        for name, value in search.config.proxies.items()
    }
    if past_them and proxies:
        # No proxy knows the name by which a container reaches this host.
        names = (proxies.get("NO_PROXY"), search.dialect.host_alias)
        proxies["NO_PROXY"] = ",".join(filter(None, names))
    return proxies


_FIND: Final = {
    ANTHROPIC: _anthropic,
    BEDROCK: clouds.bedrock,
    VERTEX: clouds.vertex,
    FOUNDRY: clouds.foundry,
}


def name_of(session: Session) -> str:
    return session.provider if session.provider in OPTIONS else ANTHROPIC


def restore(config: Config, dialect: Dialect, session: Session) -> Mapping[str, Any] | None:
    """The server's handover for a session that has no credentials (any more), or None.

    A session that was made with credentials of its own never gets the server's.

    Raises:
        UsageError: the server's settings lack something by now.
    """
    if session.credentials is CredentialSource.SESSION:
        return None
    provider = resolve(config, dialect, ProviderRequest(name_of(session), session.places))
    return provider.handover if provider.source is CredentialSource.SERVER else None
