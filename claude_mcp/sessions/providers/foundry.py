"""Azure Foundry: an API key, and a resource or a base URL."""

from __future__ import annotations

import re
from typing import Final

from claude_mcp.contract.handover import Credential, Credentials
from claude_mcp.contract.wording import named
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.lookup import Found, Lookup, needs_own_credential

RESOURCE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?")


def find(lookup: Lookup) -> Found:
    own = lookup.option("apiKey")
    key = own if own is not None else lookup.secret("ANTHROPIC_FOUNDRY_API_KEY")
    source = CredentialSource.SERVER if own is None else CredentialSource.SESSION
    credential = None
    if key is None:
        lookup.problems.append(
            f"Foundry needs a key: pass {named('apiKey')} or set ANTHROPIC_FOUNDRY_API_KEY."
        )
    else:
        name = "ANTHROPIC_FOUNDRY_API_KEY" if own is None else "apiKey"
        credential = Credential("apiKey", lookup.key(name, key))
    resource = lookup.option("resource")
    base_url = None
    if resource is not None and source is not CredentialSource.SESSION:
        lookup.problems.append(needs_own_credential(named("resource")))
    if resource is not None and lookup.option("baseUrl") is not None:
        lookup.problems.append(f"Pass either {named('resource')} or {named('baseUrl')}, not both.")
    if resource is None:
        base_url = lookup.base_url("ANTHROPIC_FOUNDRY_BASE_URL", source)
    if base_url is None:
        resource = lookup.place(
            "resource",
            RESOURCE,
            ("ANTHROPIC_FOUNDRY_RESOURCE",),
            f"Foundry needs a resource or a base URL: pass {named('resource')} or "
            f"{named('baseUrl')}, or set ANTHROPIC_FOUNDRY_RESOURCE or ANTHROPIC_FOUNDRY_BASE_URL.",
        )
    return Found(source, credential, base_url=base_url, resource=resource)


def hosts(credentials: Credentials) -> tuple[str, ...]:
    """The host that Claude Code contacts when no base URL is set."""
    return (f"{(credentials.resource or '').lower()}.services.ai.azure.com",)
