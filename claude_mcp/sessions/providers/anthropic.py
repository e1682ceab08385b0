"""The Anthropic API, or a gateway that speaks it: credential and base URL."""

from __future__ import annotations

from typing import Final

from claude_mcp.contract.handover import Credential, Credentials
from claude_mcp.contract.wording import named
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.lookup import Found, Lookup

KINDS: Final = ("apiKey", "authToken", "oauthToken")
NO_CREDENTIALS: Final = (
    "No credentials were found, so prompts will fail. Set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN "
    f"or CLAUDE_CODE_OAUTH_TOKEN, or give the session its own with {named('apiKey')}."
)


def find(lookup: Lookup) -> Found:
    own = [(kind, value) for kind in KINDS if (value := lookup.option(kind)) is not None]
    if len(own) > 1:
        names = " and ".join(lookup.chosen.given_as[kind] for kind, _ in own)
        lookup.problems.append(f"Pass only one of {names}.")
    if own:
        source = CredentialSource.SESSION
        kind, value = own[0]
        credential: Credential | None = Credential(
            kind, lookup.key(lookup.chosen.given_as[kind], value)
        )
    else:
        source = CredentialSource.SERVER
        credential = _servers(lookup)
    if credential is None:
        source = CredentialSource.NONE
        lookup.warnings.append(NO_CREDENTIALS)
    # An API key travels in a header of its own, so the Authorization header is free.
    password_allowed = credential is None or credential.kind == "apiKey"
    base_url = lookup.base_url(
        "ANTHROPIC_BASE_URL", source, lookup.config.base_url, password_allowed=password_allowed
    )
    return Found(source, credential, base_url=base_url)


def _servers(lookup: Lookup) -> Credential | None:
    config = lookup.config
    order = (
        ("authToken", "ANTHROPIC_AUTH_TOKEN", config.auth_token),
        ("apiKey", "ANTHROPIC_API_KEY", config.api_key),
        ("oauthToken", "CLAUDE_CODE_OAUTH_TOKEN", config.oauth_token),
    )
    for kind, name, secret in order:
        if secret:
            return Credential(kind, lookup.key(name, secret.reveal()))
    return None


def hosts(credentials: Credentials) -> tuple[str, ...]:
    """The hosts that Claude Code contacts when no base URL is set."""
    return ("api.anthropic.com",)
