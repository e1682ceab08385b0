"""The credentials and addresses with which a session reaches its model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from socket import create_server, socket

import pytest

from claude_mcp.claude.providers import handed_over
from claude_mcp.config import Config
from claude_mcp.contract.handover import Credential, Credentials
from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.wording import named
from claude_mcp.credentials import Secret
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.docker import DOCKER, DOCKER_DESKTOP, ROOTLESS_DOCKER
from claude_mcp.engine.dialects.podman import PODMAN, REMOTE_ROOTLESS_PODMAN, ROOTLESS_PODMAN
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers import addresses
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.options import OPTIONS, ProviderRequest
from claude_mcp.sessions.providers.resolve import Provider, resolve, restore

NOTHING = Config(environment={})
WITH_KEY = Config(environment={}, api_key=Secret("sk-server-key"))
SERVER_KEY = Credential("apiKey", "sk-server-key")
NO_CREDENTIALS = (
    "No credentials were found, so prompts will fail. Set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN "
    f"or CLAUDE_CODE_OAUTH_TOKEN, or give the session its own with {named('apiKey')}."
)


@pytest.fixture
def wide() -> Iterator[int]:
    """The port of a server that listens on every address."""
    with create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def narrow() -> Iterator[int]:
    """The port of a server that listens on loopback only."""
    with create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that is bound but not listening."""
    with socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def own(**arguments: str) -> ProviderRequest:
    return ProviderRequest(arguments=arguments)


def credentials(
    credential: Credential | None = SERVER_KEY,
    base_url: str | None = None,
    **proxies: str,
) -> Credentials:
    return Credentials(
        provider="anthropic",
        credential=credential,
        proxies=proxies,
        secret_values=(credential.value,) if credential else (),
        base_url=base_url,
    )


def test_the_servers_key_is_handed_over() -> None:
    assert resolve(WITH_KEY, DOCKER) == Provider(
        name="anthropic",
        source=CredentialSource.SERVER,
        credentials=credentials(),
        needs_host_alias=False,
        warnings=(),
    )


def test_a_session_with_its_own_key_gets_none_of_the_servers_credentials() -> None:
    config = replace(
        WITH_KEY, auth_token=Secret("server-token"), oauth_token=Secret("server-oauth")
    )
    resolved = resolve(config, DOCKER, own(apiKey=" sk-of-its-own\n"))
    assert resolved == Provider(
        name="anthropic",
        source=CredentialSource.SESSION,
        credentials=credentials(Credential("apiKey", "sk-of-its-own")),
        needs_host_alias=False,
        warnings=(),
    )
    assert redactor.redact("sk-of-its-own") == "[redacted]"


def kind(config: Config) -> str:
    credential = resolve(config, DOCKER).credentials.credential
    assert credential is not None
    return credential.kind


def test_a_token_of_the_server_wins_over_its_key_and_that_over_its_oauth_token() -> None:
    config = replace(NOTHING, oauth_token=Secret("server-oauth"))
    kinds = [kind(config)]
    config = replace(config, api_key=Secret("sk-server-key"))
    kinds += [kind(config)]
    config = replace(config, auth_token=Secret("server-token"))
    kinds += [kind(config)]
    assert kinds == ["oauthToken", "apiKey", "authToken"]


def test_missing_credentials_are_a_warning() -> None:
    assert resolve(NOTHING, DOCKER) == Provider(
        name="anthropic",
        source=CredentialSource.NONE,
        credentials=credentials(None),
        needs_host_alias=False,
        warnings=(NO_CREDENTIALS,),
    )


def test_addresses_off_the_host_are_unchanged() -> None:
    config = replace(
        WITH_KEY,
        base_url="https://gateway.example/path?x=1",
        proxies={"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "localhost,127.0.0.1"},
    )
    resolved = resolve(config, DOCKER)
    assert resolved.credentials == credentials(
        base_url="https://gateway.example/path?x=1",
        HTTPS_PROXY="proxy.example:3128",
        NO_PROXY="localhost,127.0.0.1",
    )
    assert (resolved.needs_host_alias, resolved.warnings) == (False, ())


@pytest.mark.parametrize(
    ("dialect", "alias"), [(DOCKER, "host.docker.internal"), (PODMAN, "host.containers.internal")]
)
@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.3.2.1", "LOCALHOST.", "a.localhost"]
)
def test_a_loopback_address_of_the_host_is_translated(
    wide: int, dialect: Dialect, alias: str, host: str
) -> None:
    config = replace(WITH_KEY, base_url=f"http://{host}:{wide}/v1/?a=b#c")
    resolved = resolve(config, dialect)
    assert resolved.credentials.base_url == f"http://{alias}:{wide}/v1/?a=b#c"
    assert (resolved.needs_host_alias, resolved.warnings) == (True, ())


def test_a_proxy_on_loopback_is_translated_with_its_credentials(wide: int) -> None:
    config = replace(WITH_KEY, proxies={"HTTP_PROXY": f"me:proxy-pass@localhost:{wide}"})
    resolved = resolve(config, DOCKER)
    assert resolved.credentials.proxies == {
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
def test_a_translated_address_bypasses_the_proxies(
    wide: int, excluded: dict[str, str], expected: str
) -> None:
    proxy = {"HTTP_PROXY": "http://proxy.example:3128"}
    config = replace(WITH_KEY, base_url=f"http://localhost:{wide}", proxies={**proxy, **excluded})
    resolved = resolve(config, DOCKER)
    assert resolved.credentials.proxies == {**proxy, "NO_PROXY": expected}


def test_an_address_that_only_the_host_can_reach_is_refused(narrow: int) -> None:
    config = replace(WITH_KEY, base_url=f"http://localhost:{narrow}")
    with pytest.raises(UsageError) as caught:
        resolve(config, DOCKER)
    assert str(caught.value) == (
        f"ANTHROPIC_BASE_URL points to localhost:{narrow}, but that server listens only on the "
        "host's loopback, which a container cannot reach. Make it listen on all addresses "
        "(0.0.0.0), or use an address that other machines can reach."
    )


def test_the_hosts_own_address_is_translated_where_containers_have_it_too(
    wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "is_own_address", lambda host: host == "192.0.2.7")
    config = replace(WITH_KEY, base_url=f"http://192.0.2.7:{wide}/v1")
    alias = f"http://host.containers.internal:{wide}/v1"
    assert resolve(config, ROOTLESS_PODMAN).credentials.base_url == alias
    for dialect in (DOCKER, ROOTLESS_DOCKER, PODMAN, REMOTE_ROOTLESS_PODMAN):
        assert resolve(config, dialect).credentials.base_url == config.base_url
    elsewhere = replace(WITH_KEY, base_url=f"http://192.0.2.8:{wide}")
    assert resolve(elsewhere, ROOTLESS_PODMAN).credentials.base_url == elsewhere.base_url


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "host.docker.internal"])
def test_rootless_docker_refuses_names_that_lead_into_its_own_namespace(
    wide: int, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(addresses, "own_address", lambda: "192.0.2.7")
    with pytest.raises(UsageError) as caught:
        resolve(replace(WITH_KEY, base_url=f"http://{host}:{wide}"), ROOTLESS_DOCKER)
    assert str(caught.value) == (
        f"ANTHROPIC_BASE_URL points to {host}:{wide}, but that does not lead to this machine from "
        "a container of rootless Docker. Use this machine's own address (192.0.2.7), and make the "
        "server listen there."
    )


def test_an_engine_in_a_virtual_machine_can_reach_the_hosts_loopback(narrow: int) -> None:
    config = replace(WITH_KEY, base_url=f"http://[::1]:{narrow}")
    resolved = resolve(config, DOCKER_DESKTOP)
    assert resolved.credentials.base_url == f"http://host.docker.internal:{narrow}"


def test_an_address_without_a_listener_is_a_warning(nobody: int) -> None:
    config = replace(WITH_KEY, base_url=f"http://127.0.0.1:{nobody}")
    assert resolve(config, DOCKER).warnings == (
        f"ANTHROPIC_BASE_URL points to 127.0.0.1:{nobody}, but nothing listens there.",
    )


def test_all_problems_are_reported_at_once(narrow: int) -> None:
    config = replace(
        NOTHING,
        base_url="ftp://gateway.example",
        proxies={"HTTP_PROXY": "http://proxy:99999", "HTTPS_PROXY": f"localhost:{narrow}"},
    )
    with pytest.raises(UsageError) as caught:
        resolve(config, DOCKER, own(apiKey=" "))
    assert str(caught.value).startswith(
        "apiKey is empty. ANTHROPIC_BASE_URL must be an http or https URL. HTTP_PROXY is not a "
        f"URL. HTTPS_PROXY points to localhost:{narrow}, but that server listens"
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
def test_an_invalid_base_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"^ANTHROPIC_BASE_URL (must be an http|is not a URL)"):
        resolve(replace(WITH_KEY, base_url=url), DOCKER)


def restored(config: Config, source: CredentialSource) -> Credentials | None:
    return restore(config, DOCKER, "anthropic", source, {})


def test_the_servers_credentials_are_restored_unless_the_session_had_its_own() -> None:
    assert {source: restored(WITH_KEY, source) for source in CredentialSource} == {
        CredentialSource.SERVER: credentials(),
        CredentialSource.SESSION: None,
        CredentialSource.NONE: credentials(),
    }
    assert restored(NOTHING, CredentialSource.SERVER) is None


@pytest.mark.parametrize("name", OPTIONS)
def test_every_provider_of_the_host_is_known_in_the_session(name: str) -> None:
    credentials = Credentials(name, None, {}, (), region="r", project_id="p")
    assert type(handed_over(credentials, None, None, "ask")).__name__.lower() == name
