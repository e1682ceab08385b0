"""With which credentials, and at which address, a session reaches its model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from socket import create_server, socket
from typing import Any

import pytest

from claude_mcp.config import Config
from claude_mcp.contract.redaction import redactor
from claude_mcp.credentials import Secret
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.docker import DOCKER, DOCKER_DESKTOP
from claude_mcp.engine.dialects.podman import PODMAN
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.options import ProviderRequest
from claude_mcp.sessions.providers.resolve import Provider, resolve, restore
from claude_mcp.sessions.session import Session, Status

NOTHING = Config(environment={})
WITH_KEY = Config(environment={}, api_key=Secret("sk-server-key"))
NO_CREDENTIALS = (
    "No credentials: prompts will fail. Set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or "
    "CLAUDE_CODE_OAUTH_TOKEN, or pass apiKey to create_session."
)


@pytest.fixture
def wide() -> Iterator[int]:
    """The port of a server that listens on every address."""
    with create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def narrow() -> Iterator[int]:
    """The port of a server that listens on the loopback only."""
    with create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that is taken, and where nobody listens."""
    with socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def own(**arguments: str) -> ProviderRequest:
    return ProviderRequest(arguments=arguments)


def session(source: CredentialSource, provider: str = "anthropic", **places: str) -> Session:
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
        created_at="2026-11-23T06:26:12Z",
        places=places,
    )


def handover(**changes: Any) -> dict[str, Any]:
    usual = {
        "provider": "anthropic",
        "credential": {"kind": "apiKey", "value": "sk-server-key"},
        "baseUrl": None,
        "proxies": {},
    }
    expected = {**usual, **changes}
    credential = expected["credential"]
    return {"secretValues": [credential["value"]] if credential else [], **expected}


def test_the_servers_key_is_handed_over() -> None:
    assert resolve(WITH_KEY, DOCKER) == Provider(
        name="anthropic",
        source=CredentialSource.SERVER,
        handover=handover(),
        needs_host_alias=False,
        warnings=(),
    )


def test_a_session_with_a_key_of_its_own_gets_nothing_of_the_servers() -> None:
    config = replace(
        WITH_KEY, auth_token=Secret("server-token"), oauth_token=Secret("server-oauth")
    )
    resolved = resolve(config, DOCKER, own(apiKey=" sk-of-its-own\n"))
    assert resolved == Provider(
        name="anthropic",
        source=CredentialSource.SESSION,
        handover=handover(credential={"kind": "apiKey", "value": "sk-of-its-own"}),
        needs_host_alias=False,
        warnings=(),
    )
    assert redactor.redact("sk-of-its-own") == "[redacted]"


def test_the_servers_credentials_have_an_order() -> None:
    config = replace(NOTHING, oauth_token=Secret("server-oauth"))
    kinds = [resolve(config, DOCKER).handover["credential"]["kind"]]
    config = replace(config, api_key=Secret("sk-server-key"))
    kinds += [resolve(config, DOCKER).handover["credential"]["kind"]]
    config = replace(config, auth_token=Secret("server-token"))
    kinds += [resolve(config, DOCKER).handover["credential"]["kind"]]
    assert kinds == ["oauthToken", "apiKey", "authToken"]


def test_without_credentials_a_session_is_possible_and_warned_of() -> None:
    assert resolve(NOTHING, DOCKER) == Provider(
        name="anthropic",
        source=CredentialSource.NONE,
        handover=handover(credential=None),
        needs_host_alias=False,
        warnings=(NO_CREDENTIALS,),
    )


def test_addresses_that_anybody_can_reach_stay_as_they_are() -> None:
    config = replace(
        WITH_KEY,
        base_url="https://gateway.example/path?x=1",
        proxies={"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "localhost,127.0.0.1"},
    )
    resolved = resolve(config, DOCKER)
    assert resolved.handover == handover(
        baseUrl="https://gateway.example/path?x=1",
        proxies={"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "localhost,127.0.0.1"},
    )
    assert (resolved.needs_host_alias, resolved.warnings) == (False, ())


@pytest.mark.parametrize(
    ("dialect", "alias"), [(DOCKER, "host.docker.internal"), (PODMAN, "host.containers.internal")]
)
@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.3.2.1", "LOCALHOST.", "a.localhost"]
)
def test_an_address_on_the_hosts_loopback_is_translated(
    wide: int, dialect: Dialect, alias: str, host: str
) -> None:
    config = replace(WITH_KEY, base_url=f"http://{host}:{wide}/v1/?a=b#c")
    resolved = resolve(config, dialect)
    assert resolved.handover["baseUrl"] == f"http://{alias}:{wide}/v1/?a=b#c"
    assert (resolved.needs_host_alias, resolved.warnings) == (True, ())


def test_a_proxy_on_the_hosts_loopback_is_translated_with_its_credentials(wide: int) -> None:
    config = replace(WITH_KEY, proxies={"HTTP_PROXY": f"me:proxy-pass@localhost:{wide}"})
    resolved = resolve(config, DOCKER)
    assert resolved.handover["proxies"] == {
        "HTTP_PROXY": f"http://me:proxy-pass@host.docker.internal:{wide}"
    }
    assert redactor.redact("password is proxy-pass") == "password is [redacted]"


@pytest.mark.parametrize(
    ("excluded", "expected"),
    [
        ({}, "host.docker.internal"),
        ({"NO_PROXY": "localhost,.example"}, "localhost,.example,host.docker.internal"),
    ],
)
def test_a_translated_address_is_reached_past_the_proxies(
    wide: int, excluded: dict[str, str], expected: str
) -> None:
    proxy = {"HTTP_PROXY": "http://proxy.example:3128"}
    config = replace(WITH_KEY, base_url=f"http://localhost:{wide}", proxies={**proxy, **excluded})
    resolved = resolve(config, DOCKER)
    assert resolved.handover["proxies"] == {**proxy, "NO_PROXY": expected}


def test_an_address_where_only_the_host_itself_gets_is_refused(narrow: int) -> None:
    config = replace(WITH_KEY, base_url=f"http://localhost:{narrow}")
    with pytest.raises(UsageError) as caught:
        resolve(config, DOCKER)
    assert str(caught.value) == (
        f"ANTHROPIC_BASE_URL points at localhost:{narrow}, which listens on the host's loopback "
        "only, and a container cannot reach that. Let it listen on all addresses of the host "
        "(0.0.0.0), or give an address that other machines can reach."
    )


def test_an_engine_in_a_virtual_machine_reaches_the_hosts_loopback(narrow: int) -> None:
    config = replace(WITH_KEY, base_url=f"http://[::1]:{narrow}")
    resolved = resolve(config, DOCKER_DESKTOP)
    assert resolved.handover["baseUrl"] == f"http://host.docker.internal:{narrow}"


def test_an_address_where_nobody_listens_is_warned_of(nobody: int) -> None:
    config = replace(WITH_KEY, base_url=f"http://127.0.0.1:{nobody}")
    assert resolve(config, DOCKER).warnings == (
        f"ANTHROPIC_BASE_URL points at 127.0.0.1:{nobody}: nothing listens there.",
    )


def test_all_problems_are_told_at_once(narrow: int) -> None:
    config = replace(
        NOTHING,
        base_url="ftp://gateway.example",
        proxies={"HTTP_PROXY": "http://proxy:99999", "HTTPS_PROXY": f"localhost:{narrow}"},
    )
    with pytest.raises(UsageError) as caught:
        resolve(config, DOCKER, own(apiKey=" "))
    assert str(caught.value).startswith(
        "apiKey is empty. ANTHROPIC_BASE_URL must be an http or https URL. HTTP_PROXY is not a "
        f"URL. HTTPS_PROXY points at localhost:{narrow}, which listens"
    )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "http:///path",
        "://x",
        "file:///etc",
        "gateway.example",
        "localhost:8080",
        "http://[::1",
    ],
)
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"^ANTHROPIC_BASE_URL (must be an http|is not a URL)"):
        resolve(replace(WITH_KEY, base_url=url), DOCKER)


def test_a_session_gets_the_servers_credentials_again_unless_it_had_its_own() -> None:
    again = {source: restore(WITH_KEY, DOCKER, session(source)) for source in CredentialSource}
    assert again == {
        CredentialSource.SERVER: handover(),
        CredentialSource.SESSION: None,
        CredentialSource.NONE: handover(),
    }
    assert restore(NOTHING, DOCKER, session(CredentialSource.SERVER)) is None
