"""Credentials and MCP servers for a session that is there already."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from claude_mcp.contract.redaction import MASK, redactor
from claude_mcp.errors import SessionNotReady, UsageError
from claude_mcp.sessions import labels
from claude_mcp.sessions.handover import HandedOver, give
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.registry import Sessions
from tests.unit.sessions.conftest import ScriptedEngine, container

pytestmark = pytest.mark.anyio

TAKES = (
    "asked = request()\n"
    "assert asked['op'] == 'configure'\n"
    "open('handed', 'w').write(json.dumps(asked['args']['secrets'], separators=(',', ':')))\n"
    "answer(asked['id'], ok={})"
)
SERVERS = {"mcpServers": {"db": {"command": "db", "env": {"TOKEN": "token-of-db"}}}}


def session(
    scripted: ScriptedEngine,
    credentials: str = "session",
    provider: str = "anthropic",
    places: Mapping[str, str] | None = None,
) -> None:
    there = container("ab12", "one")
    there["labels"] |= {labels.CREDENTIALS: credentials, labels.PROVIDER: provider}
    if places:
        there["labels"][labels.PLACES] = json.dumps(places)
    scripted.holds(there)
    scripted.agent(TAKES)


def handed(scripted: ScriptedEngine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(scripted.noted("handed")[0])
    return found


async def test_a_session_gets_new_credentials_of_its_own(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    session(scripted)
    result = await give(await sessions.open("one"), {"apiKey": "sk-handed-in"})
    assert result == HandedOver(result.session, CredentialSource.SESSION, (), ())
    assert handed(scripted) == {
        "provider": "anthropic",
        "credential": {"kind": "apiKey", "value": "sk-handed-in"},
        "proxies": {},
        "secretValues": ["sk-handed-in"],
    }
    assert redactor.redact("sk-handed-in") == MASK


async def test_a_session_without_credentials_can_get_its_own(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    session(scripted, "none")
    result = await give(await sessions.open("one"), {"authToken": "token-handed-in"})
    assert result.credentials is CredentialSource.SESSION


async def test_credentials_go_with_the_places_that_the_session_was_created_for(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    session(scripted, "session", "bedrock", {"region": "eu-own-1"})
    keys = {"accessKeyId": "AKIAHANDED", "secretAccessKey": "secret-handed"}
    await give(await sessions.open("one"), keys)
    assert handed(scripted)["region"] == "eu-own-1"
    assert handed(scripted)["credential"] == {"kind": "keys", **keys}


async def test_an_address_with_a_password_has_to_be_given_again(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    session(scripted, places={"baseUrl": ""})
    with pytest.raises(UsageError) as caught:
        await give(await sessions.open("one"), {"apiKey": "sk-handed-in"})
    assert str(caught.value) == (
        "baseUrl contained a password and was lost too. It needs a credential for anthropic, and "
        "baseUrl."
    )
    own = "https://me:pass-word@192.0.2.1"
    await give(await sessions.open("one"), {"apiKey": "sk-handed-in", "baseUrl": own})
    assert handed(scripted)["baseUrl"] == own


@pytest.mark.parametrize(
    ("credentials", "options", "said"),
    [
        ("server", {"apiKey": "sk-handed-in"}, "uses the server's credentials and gets them auto"),
        ("session", {"region": "eu-1"}, "region cannot be changed: it was fixed when"),
        ("session", {"model": "m"}, "model cannot be changed"),
        ("session", {"baseUrl": "https://192.0.2.1"}, "baseUrl cannot be changed"),
        ("session", {"apiKey": " "}, "apiKey is empty"),
        ("session", {"bearerToken": "b-012345"}, "bearerToken is an option of bedrock, not of"),
    ],
)
async def test_what_is_not_for_the_session_is_refused(
    scripted: ScriptedEngine,
    sessions: Sessions,
    credentials: str,
    options: dict[str, str],
    said: str,
) -> None:
    session(scripted, credentials)
    with pytest.raises(UsageError, match=said):
        await give(await sessions.open("one"), options)
    assert "exec" not in scripted.calls


async def test_with_nothing_of_its_own_a_session_gets_the_servers_as_they_are_now(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    session(scripted, "server")
    result = await give(await sessions.open("one"), {})
    assert result.credentials is CredentialSource.SERVER
    assert handed(scripted)["credential"]["value"] == "sk-of-the-server"


async def test_a_session_with_its_own_never_gets_the_servers(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    session(scripted)
    with pytest.raises(SessionNotReady) as caught:
        await give(await sessions.open("one"), {})
    assert str(caught.value) == (
        "The session 'one' was created with its own credentials. It keeps them in memory only, so "
        "they were lost when its container restarted. Give them to it again. It needs a "
        "credential for anthropic."
    )


@pytest.mark.parametrize("credentials", ["server", "session"])
async def test_mcp_servers_alone_leave_the_credentials_as_they_are(
    scripted: ScriptedEngine, sessions: Sessions, credentials: str
) -> None:
    session(scripted, credentials)
    result = await give(await sessions.open("one"), {}, SERVERS)
    assert result == HandedOver(result.session, None, ("db",), ())
    assert handed(scripted) == {"mcpConfig": SERVERS, "mcpSecretValues": ["token-of-db"]}
    assert sessions.known.mcp_config_of(result.session) == SERVERS


async def test_unusable_mcp_servers_are_refused(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    session(scripted)
    with pytest.raises(UsageError, match="is invalid"):
        await give(await sessions.open("one"), {}, {"mcpServers": {"a": {}}})
