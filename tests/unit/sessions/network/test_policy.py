"""What a new session may reach, given the request, the provider and the configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from claude_mcp.config import Config
from claude_mcp.contract.wording import worded
from claude_mcp.credentials import Secret
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.engine.dialects.kubernetes import KUBERNETES
from claude_mcp.errors import ConfigError, UsageError
from claude_mcp.proxy.policy import Upstream, from_json
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.network.access import (
    EGRESS_LABEL,
    ENVIRONMENT,
    NETWORK_LABEL,
    OPEN,
    Access,
    Network,
    Proxy,
    session_traffic,
)
from claude_mcp.sessions.network.policy import MOST_HOSTS, settle
from claude_mcp.sessions.providers.options import ProviderRequest
from claude_mcp.sessions.providers.resolve import resolve

CONFIG = Config(environment={}, api_key=Secret("sk-of-the-server"))
USER = "1000:1000"
NOT_A_HOST = (
    "Use names such as files.example.org, *.example.org or files.example.org:8443, without a "
    "scheme or a path."
)
KEYS = {"accessKeyId": "AKIA0", "secretAccessKey": "secret-of-aws"}
GOOGLE = json.dumps({"type": "service_account", "private_key": "key-of-google"})
PLACES = {
    "bedrock": {**KEYS, "region": "eu-central-1"},
    "vertex": {"projectId": "p", "region": "global", "credentials": GOOGLE},
    "foundry": {"apiKey": "sk-foundry", "resource": "My-Models"},
}
"""The minimal options of each cloud."""


def settled(
    config: Config = CONFIG,
    *hosts: str,
    wanted: str | None = "restricted",
    request: ProviderRequest | None = None,
    user: str = USER,
) -> Access:
    provider = resolve(config, DOCKER, request or ProviderRequest())
    return settle(config, DOCKER, wanted, hosts, provider, user)


def proxy_of(access: Access) -> Proxy:
    assert access.proxy is not None
    return access.proxy


def rules(*arguments: Any, **options: Any) -> dict[str, Any]:
    """The policy that the proxy receives."""
    found: dict[str, Any] = json.loads(proxy_of(settled(*arguments, **options)).policy)
    return found


def cloud(provider: str, **options: str) -> ProviderRequest:
    return ProviderRequest(provider, {**PLACES.get(provider, {}), **options})


# The network.


def test_where_containers_have_a_network_device_each_may_reach_its_proxy_only() -> None:
    provider = resolve(CONFIG, KUBERNETES, ProviderRequest())
    restricted = settle(CONFIG, KUBERNETES, "restricted", (), provider, USER)
    assert restricted.traffic == session_traffic(proxy_of(restricted).id)
    none = settle(CONFIG, KUBERNETES, "none", (), provider, USER)
    assert (none.proxy, none.environment) == (None, {})
    assert none.witness is not None
    assert none.traffic == session_traffic(none.witness.id)
    assert none.labels == {NETWORK_LABEL: "none", EGRESS_LABEL: none.witness.id}
    assert not any(value for value in json.loads(none.witness.policy).values())
    another = settle(CONFIG, KUBERNETES, "none", (), provider, USER).witness
    assert another is not None
    assert another.id != none.witness.id
    assert settled(wanted="none") == Access(Network.NONE)
    assert settle(CONFIG, KUBERNETES, "open", (), provider, USER).traffic is None


def test_a_network_is_open_by_default() -> None:
    assert settled(wanted=None) == OPEN
    assert settled(wanted="open") == OPEN
    assert settled(replace(CONFIG, network="none"), wanted=None) == Access(Network.NONE)
    assert settled(replace(CONFIG, network="none"), wanted="open") == OPEN
    assert settled(replace(CONFIG, network="restricted"), wanted=None).proxy is not None
    assert settled(replace(CONFIG, network="restricted"), wanted="none").proxy is None


@pytest.mark.parametrize("configured", [*Network])
@pytest.mark.parametrize("wanted", [None, *Network])
def test_a_fixed_network_can_only_be_made_stricter(
    configured: Network, wanted: Network | None
) -> None:
    fixed = replace(CONFIG, network=configured.value, network_fixed=True)
    order = [*Network]
    if wanted is None or order.index(wanted) >= order.index(configured):
        assert settled(fixed, wanted=wanted).network is (wanted or configured)
        return
    with pytest.raises(UsageError) as caught:
        settled(fixed, wanted=wanted)
    assert str(caught.value) == (
        f"Sessions on this server are limited to the network '{configured.value}', because "
        "CLAUDE_MCP_NETWORK_FIXED is set."
    )


def test_a_caller_cannot_widen_a_fixed_network() -> None:
    fixed = replace(CONFIG, network="restricted", network_fixed=True, allowed_hosts=("pypi.org",))
    assert rules(fixed)["allowed"] == ["pypi.org"]
    with pytest.raises(UsageError, match="is not accepted, because CLAUDE_MCP"):
        settled(fixed, "pypi.org")
    own = ProviderRequest("anthropic", {"apiKey": "sk-own", "baseUrl": "https://elsewhere.example"})
    with pytest.raises(
        UsageError, match=r"cannot choose its own .*baseUrl.*, because CLAUDE_MCP_NETWORK"
    ):
        settled(fixed, request=own)
    assert settled(replace(fixed, network_fixed=False), "pypi.org", request=own).proxy is not None
    assert settled(fixed, request=own, wanted="none").proxy is None


@pytest.mark.parametrize(
    ("asked", "added"),
    [
        (cloud("foundry", resource="evil"), "evil.services.ai.azure.com:443"),
        (
            cloud("bedrock", region="eu-west-9"),
            "bedrock-runtime.eu-west-9.amazonaws.com:443 and bedrock.eu-west-9.amazonaws.com:443",
        ),
        (
            cloud("vertex"),
            "aiplatform.googleapis.com:443 and oauth2.googleapis.com:443",
        ),
        (ProviderRequest("anthropic", {"apiKey": "sk-own"}), "api.anthropic.com:443"),
        (
            ProviderRequest(use_bedrock=True, arguments={"awsRegion": "eu-west-9"}),
            "bedrock-runtime.eu-west-9.amazonaws.com:443 and bedrock.eu-west-9.amazonaws.com:443",
        ),
    ],
)
def test_a_fixed_network_reaches_no_provider_that_the_server_does_not_use(
    asked: ProviderRequest, added: str
) -> None:
    fixed = replace(
        CONFIG,
        network="restricted",
        network_fixed=True,
        clouds=("bedrock",),
        cloud={"AWS_REGION": "eu-central-1"},
        cloud_secrets={"AWS_BEARER_TOKEN_BEDROCK": Secret("bearer-0123")},
    )
    with pytest.raises(UsageError) as caught:
        settled(fixed, request=asked)
    assert caught.value.message == (
        f"A restricted session cannot reach {added}, because CLAUDE_MCP_NETWORK_FIXED is set."
    )
    assert "The operator can add hosts to CLAUDE_MCP_ALLOWED_HOSTS." in (caught.value.hint or "")
    assert settled(fixed, request=asked, wanted="none").network is Network.NONE
    allowed = tuple(each.removesuffix(":443") for each in added.split(" and "))
    assert settled(replace(fixed, allowed_hosts=allowed), request=asked).proxy is not None
    assert settled(replace(fixed, network_fixed=False), request=asked).proxy is not None
    # The same place as the server's adds nothing.
    assert settled(fixed, request=cloud("bedrock")).proxy is not None
    nothing = replace(fixed, cloud={}, cloud_secrets={})
    with pytest.raises(UsageError, match="cannot reach"):
        settled(nothing, request=asked)


@pytest.mark.parametrize("name", ["bridge", "Restricted", "host", " "])
def test_an_unknown_network_is_refused_in_requests_and_configuration(name: str) -> None:
    with pytest.raises(UsageError) as callers:
        settled(wanted=name)
    assert (type(callers.value), worded(str(callers.value))) == (
        UsageError,
        "network must be open, restricted or none.",
    )
    with pytest.raises(ConfigError) as configured:
        settled(replace(CONFIG, network=name), wanted=None)
    assert str(configured.value) == "CLAUDE_MCP_NETWORK must be open, restricted or none."


@pytest.mark.parametrize("wanted", ["open", "none"])
def test_allowed_hosts_require_a_restricted_network(wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        settled(CONFIG, "pypi.org", wanted=wanted)
    assert worded(caught.value.message) == (
        f"allowedHosts requires the network 'restricted'; this session's network is '{wanted}'."
    )
    assert ("Ask for the network 'restricted' as well" in str(caught.value)) is (wanted == "open")
    # Configured hosts apply only to sessions that are restricted.
    configured = replace(CONFIG, allowed_hosts=("pypi.org",), private_hosts=("10.0.0.1",))
    assert settled(configured, wanted=wanted) == Access(Network(wanted))


def test_the_network_decides_the_containers_network_volumes_and_environment() -> None:
    none, restricted = settled(wanted="none"), settled()
    assert (OPEN.engine_network, OPEN.volumes, OPEN.environment) == (None, (), {})
    assert (none.engine_network, none.volumes, none.environment) == ("none", (), {})
    assert (restricted.engine_network, restricted.environment) == ("none", ENVIRONMENT)
    (volume,) = restricted.volumes
    assert (volume.name, volume.target, volume.read_only) == (
        proxy_of(restricted).name,
        "/run/claude-mcp-proxy",
        True,
    )


# The provider.


def test_the_anthropic_api_is_allowed_by_default() -> None:
    assert rules() == {
        "provider": ["api.anthropic.com:443"],
        "private": ["api.anthropic.com:443"],  # the operator's DNS may map it to a private address
    }


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("http://gateway.example", "gateway.example:80"),
        ("https://Gateway.Example./v1?x", "gateway.example:443"),
        ("https://gateway.example:8443/v1", "gateway.example:8443"),
        ("http://me:pass-word@gateway.example:81", "gateway.example:81"),
        ("http://10.1.2.3:8080", "10.1.2.3:8080"),
        ("https://[FD00::1]", "[fd00::1]:443"),
        ("http://[fd00::0:1]:8080/", "[fd00::1]:8080"),
    ],
)
def test_an_operators_gateway_may_have_a_private_address(address: str, host: str) -> None:
    config = replace(CONFIG, base_url=address)
    assert rules(config) == {"provider": [host], "private": [host]}
    assert "pass-word" not in proxy_of(settled(config)).to_json()


@pytest.mark.parametrize("address", ["http://10.1.2.3:8080", "https://gateway.example:8443"])
def test_a_callers_gateway_may_not_have_a_private_address(address: str) -> None:
    request = ProviderRequest("anthropic", {"apiKey": "sk-own", "baseUrl": address})
    assert rules(request=request) == {"provider": [address.partition("//")[2]]}


@pytest.mark.parametrize("address", ["http://a_b.-x.example", "http://1.2.3", "http://0x7f.1"])
def test_a_gateway_with_an_invalid_host_name_is_refused(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        settled(replace(CONFIG, base_url=address))
    name = address.partition("//")[2]
    assert str(caught.value) == f"A restricted session cannot reach a provider at {name!r}."


@pytest.mark.parametrize(
    ("provider", "options", "names"),
    [
        (
            "bedrock",
            {},
            ["bedrock-runtime.eu-central-1.amazonaws.com", "bedrock.eu-central-1.amazonaws.com"],
        ),
        (
            "bedrock",
            {"region": "us-gov-west-1"},
            [
                "bedrock-fips.us-gov-west-1.amazonaws.com",
                "bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
                "bedrock-runtime.us-gov-west-1.amazonaws.com",
                "bedrock.us-gov-west-1.amazonaws.com",
            ],
        ),
        ("bedrock", {"baseUrl": "https://aws.example:8443/x"}, ["aws.example:8443"]),
        ("vertex", {}, ["aiplatform.googleapis.com", "oauth2.googleapis.com"]),
        (
            "vertex",
            {"region": "eu"},
            ["aiplatform.eu.rep.googleapis.com", "oauth2.googleapis.com"],
        ),
        (
            "vertex",
            {"region": "us"},
            ["aiplatform.us.rep.googleapis.com", "oauth2.googleapis.com"],
        ),
        (
            "vertex",
            {"region": "us-east5"},
            ["oauth2.googleapis.com", "us-east5-aiplatform.googleapis.com"],
        ),
        (
            "vertex",
            {"baseUrl": "http://google.example"},
            ["google.example:80", "oauth2.googleapis.com"],
        ),
        ("foundry", {}, ["my-models.services.ai.azure.com"]),
    ],
)
def test_each_cloud_allows_its_own_hosts(
    provider: str, options: dict[str, str], names: list[str]
) -> None:
    expected = sorted(name if ":" in name else f"{name}:443" for name in names)
    found = rules(request=cloud(provider, **options))
    assert found["provider"] == expected
    assert found.get("private") == (None if "baseUrl" in options else expected)


def test_a_foundry_gateway_replaces_the_clouds_own_host() -> None:
    options = {"apiKey": "sk-foundry", "baseUrl": "https://models.example"}
    assert rules(request=ProviderRequest("foundry", options)) == {
        "provider": ["models.example:443"]
    }


@pytest.mark.parametrize(
    ("clouds", "settings"),
    [
        (("bedrock",), {"AWS_REGION": "eu-1"}),
        (("vertex",), {"CLOUD_ML_REGION": "global", "ANTHROPIC_VERTEX_PROJECT_ID": "p"}),
    ],
)
def test_a_restricted_session_cannot_use_the_machines_role(
    clouds: tuple[str, ...], settings: dict[str, str]
) -> None:
    config = replace(CONFIG, clouds=clouds, cloud=settings)
    with pytest.raises(UsageError) as caught:
        settled(config)
    assert (caught.value.message, caught.value.hint) == (
        "A restricted session cannot use this machine's role, because it cannot reach the metadata "
        "service.",
        "Pass keys, a bearer token or a credentials file, or use the network 'open'.",
    )
    assert settled(config, wanted="open") == OPEN
    assert settled(config, wanted="none") == Access(Network.NONE)


def test_a_session_without_credentials_can_be_restricted() -> None:
    assert rules(Config(environment={}))["provider"] == ["api.anthropic.com:443"]


# Allowed hosts.


@pytest.mark.parametrize(
    ("written", "understood"),
    [
        ("pypi.org", "pypi.org"),
        (" Files.PythonHosted.org.\n", "files.pythonhosted.org"),
        ("*.example.org", "*.example.org"),
        ("files.example.org:8443", "files.example.org:8443"),
        ("*.example.org:8443", "*.example.org:8443"),
        ("localhost", "localhost"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("*.пример.рф:8443", "*.xn--e1afmkfd.xn--p1ai:8443"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_host_is_a_name_or_a_wildcard(written: str, understood: str) -> None:
    assert rules(CONFIG, written)["allowed"] == [understood]


@pytest.mark.parametrize(
    "written",
    [
        "",
        "*",
        "*.com",
        "*.*.example.org",
        "a.*.example.org",
        "https://example.org",
        "example.org/simple",
        "me@example.org",
        "example.org:0",
        "example.org:65536",
        "example.org:",
        "192.0.2.1",
        "[::1]",
        "::1",
        "0x7f000001",
        "127.1",
        "a b.example",
        "a,b.example",
        "-a.example",
        "a..example",
        "x" * 64 + ".example",
        "straße.example",  # programs disagree whether it means strasse.example
        "a。bücher.example",
        "\uff21\uff22.example",
        "пример.рф:٤٤٣",
        "\ud800.example",
        "ü" * 300,
        "a\0.example",
    ],
)
def test_an_invalid_host_is_refused_in_requests_and_configuration(written: str) -> None:
    with pytest.raises(UsageError) as callers:
        settled(CONFIG, "pypi.org", written)
    error = callers.value
    assert (type(error), worded(error.message), error.hint) == (
        UsageError,
        f"allowedHosts: {written[:100]!r} is not a valid host.",
        NOT_A_HOST,
    )
    error.message.encode()
    with pytest.raises(ConfigError, match=r"^CLAUDE_MCP_ALLOWED_HOSTS: "):
        settled(replace(CONFIG, allowed_hosts=(written,)))


def test_hosts_are_checked_for_every_network() -> None:
    with pytest.raises(UsageError, match="is not a valid host"):
        settled(CONFIG, "*", wanted="open")


def test_the_number_of_hosts_is_limited() -> None:
    many = [f"h{number}.example" for number in range(MOST_HOSTS + 1)]
    assert len(rules(CONFIG, *many[1:])["allowed"]) == MOST_HOSTS
    with pytest.raises(UsageError, match=r"has more than 200 hosts\.$"):
        settled(CONFIG, *many)
    with pytest.raises(ConfigError, match=r"^CLAUDE_MCP_PRIVATE_HOSTS has more than 200 hosts\.$"):
        settled(replace(CONFIG, private_hosts=tuple(many)))


def test_configured_hosts_are_added_to_the_callers() -> None:
    config = replace(
        CONFIG,
        allowed_hosts=("pypi.org", "*.example.org"),
        private_hosts=("10.0.0.1:8080", "[fd00::1]", "wiki.internal"),
    )
    found = rules(config, "npmjs.org", "pypi.org")
    assert found["allowed"] == ["*.example.org", "npmjs.org", "pypi.org"]
    assert found["private"] == [
        "10.0.0.1:8080",
        "[fd00::1]",
        "api.anthropic.com:443",
        "wiki.internal",
    ]
    with pytest.raises(ConfigError, match=r"^CLAUDE_MCP_PRIVATE_HOSTS: '10.0.0.0/8' is not a"):
        settled(replace(config, private_hosts=("10.0.0.0/8",)))


# Upstream proxies.


@pytest.mark.parametrize(
    ("address", "upstream"),
    [
        ("http://me:pass-word@proxy.example:3128", Upstream("proxy.example", 3128)),
        ("me:pass-word@proxy.example", Upstream("proxy.example", 80)),
        ("https://me:pass-word@proxy.example/", Upstream("proxy.example", 443, tls=True)),
        ("http://me:pass%2Dword@[fd00::1]:3128", Upstream("fd00::1", 3128)),
    ],
)
def test_an_upstream_proxy_is_recorded_without_its_password(
    address: str, upstream: Upstream
) -> None:
    proxies = {"HTTP_PROXY": address, "HTTPS_PROXY": address, "NO_PROXY": "localhost, .example *"}
    proxy = proxy_of(settled(replace(CONFIG, proxies=proxies)))
    policy = from_json(proxy.policy)
    assert (policy.http, policy.https) == (upstream, upstream)
    assert set(policy.direct) == {"localhost", ".example", "*"}
    for secret in ("pass-word", "pass%2Dword", "me:", "sk-of-the-server"):
        assert secret not in proxy.to_json()


def test_an_upstream_proxy_serves_one_kind_of_request() -> None:
    found = rules(replace(CONFIG, proxies={"HTTPS_PROXY": "proxy.example:3128"}))
    assert (found["https"], "http" in found) == (["proxy.example", 3128, False], False)


# Sharing a proxy.


def test_the_order_of_rules_does_not_change_the_proxy() -> None:
    hosts = ("pypi.org", "*.example.org", "b.example:81")
    one = settled(replace(CONFIG, allowed_hosts=("a.example",)), *hosts)
    two = settled(
        replace(CONFIG, allowed_hosts=hosts[:1]), "A.example", *reversed(hosts), "PYPI.org."
    )
    assert one == two
    private = ("10.0.0.1", "api.anthropic.com:443", "10.0.0.2")
    others = {
        proxy_of(settled(replace(CONFIG, private_hosts=each, proxies={"NO_PROXY": direct})))
        for each in (private, private[::-1], (*private, *private))
        for direct in ("a,b", "b  a", "b,a,b")
    }
    assert len(others) == 1


def test_sessions_with_different_rules_users_or_images_do_not_share_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        settled(),
        settled(CONFIG, "pypi.org"),
        settled(replace(CONFIG, allowed_hosts=("npmjs.org",))),
        settled(replace(CONFIG, private_hosts=("npmjs.org",))),
        settled(replace(CONFIG, proxies={"HTTP_PROXY": "p.example"})),
        settled(replace(CONFIG, proxies={"HTTPS_PROXY": "p.example"})),
        settled(user="1001:1000"),
        settled(replace(CONFIG, image="other:1")),
        settled(replace(CONFIG, proxy_image="small:1")),
        settled(request=cloud("bedrock")),
    ]
    monkeypatch.setattr(payload, "proxy_archive", lambda: "newer code")
    found.append(settled())
    proxies = [proxy_of(access) for access in found]
    assert len({proxy.id for proxy in proxies}) == len(found)
    assert {len(proxy.id) for proxy in proxies} == {16}
    assert [proxy.image for proxy in proxies[6:9]] == [CONFIG.image, "other:1", "small:1"]


def test_credentials_do_not_change_the_proxy() -> None:
    own = ProviderRequest(arguments={"apiKey": "sk-another"})
    assert settled(request=own) == settled() == settled(Config(environment={}))
