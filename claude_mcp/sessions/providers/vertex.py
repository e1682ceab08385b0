"""Google Vertex AI: a Google credential or the machine's account, the project and the region."""

from __future__ import annotations

import json
import re
from typing import Final

from claude_mcp.contract.handover import Credential, Credentials
from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.wording import named
from claude_mcp.sessions.providers.bedrock import REGION
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.lookup import Found, Lookup
from claude_mcp.sessions.providers.options import google_secrets

PROJECT: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,98}")
KINDS: Final = ("service_account", "authorized_user")
TOKEN_HOST: Final = "oauth2.googleapis.com"
"""Google issues the access tokens, no matter which base URL serves the model."""
NO_CREDENTIALS: Final = (
    "No Google credentials were given. Claude Code will request this machine's account from the "
    "metadata service; prompts fail if it has none. Otherwise set GOOGLE_APPLICATION_CREDENTIALS "
    f"or pass {named('credentials')}."
)


def find(lookup: Lookup) -> Found:
    own = lookup.option("credentials")
    server = lookup.variable("GOOGLE_APPLICATION_CREDENTIALS")
    credential: Credential | None = None
    metadata_host = None
    source = CredentialSource.SERVER if own is None else CredentialSource.SESSION
    if own is not None:
        credential = _credential(lookup, "credentials", own)
    elif server is not None:
        text = lookup.read(*server)
        if text is not None:
            for secret in google_secrets(text):
                redactor.add(secret)
            credential = _credential(lookup, server[0], text)
    else:
        credential = Credential("machine")
        lookup.warnings.append(NO_CREDENTIALS)
        if host := lookup.variable("GCE_METADATA_HOST"):
            metadata_host = lookup.address(*host, scheme_optional=True)
    project_id = lookup.place(
        "projectId",
        PROJECT,
        ("ANTHROPIC_VERTEX_PROJECT_ID",),
        f"Vertex needs a project: pass {named('projectId')} or set ANTHROPIC_VERTEX_PROJECT_ID.",
    )
    region = lookup.place(
        "region",
        REGION,
        ("CLOUD_ML_REGION",),
        f"Vertex needs a region: pass {named('region')} or set CLOUD_ML_REGION.",
    )
    return Found(
        source,
        credential,
        base_url=lookup.base_url("ANTHROPIC_VERTEX_BASE_URL", source),
        region=region,
        project_id=project_id,
        metadata_host=metadata_host,
    )


def hosts(credentials: Credentials) -> tuple[str, ...]:
    """The hosts that Claude Code 2.1.330 contacts when no base URL is set."""
    region = credentials.region
    if region == "global":
        model_host = "aiplatform.googleapis.com"
    elif region in ("us", "eu"):
        model_host = f"aiplatform.{region}.rep.googleapis.com"
    else:
        model_host = f"{region}-aiplatform.googleapis.com"
    return model_host, TOKEN_HOST


def _credential(lookup: Lookup, name: str, text: str) -> Credential | None:
    """A self-contained credential; other kinds refer to files or programs on the host."""
    try:
        text.encode()  # text from JSON can contain an unpaired surrogate
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        if text:
            lookup.problems.append(f"{name} is not the JSON of a Google credential.")
        return None
    if value.get("type") not in KINDS:
        lookup.problems.append(
            f"{name} is a Google credential that works only on the machine it was made for. Use "
            f"one of type {' or '.join(KINDS)}."
        )
    return Credential("google", text)
