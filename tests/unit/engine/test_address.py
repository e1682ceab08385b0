"""Where an engine is, as its program's environment says it."""

from __future__ import annotations

from typing import Any

import pytest

from claude_mcp.engine.address import EngineAddress
from claude_mcp.errors import ConfigError

SURROUNDINGS = {
    "PATH": "/bin",
    "DOCKER_HOST": "unix:///other",
    "DOCKER_CONTEXT": "other",
    "DOCKER_TLS": "1",
    "DOCKER_TLS_VERIFY": "1",
    "DOCKER_CERT_PATH": "/other",
    "DOCKER_CONFIG": "/config",
    "CONTAINER_HOST": "unix:///other",
    "CONTAINER_CONNECTION": "other",
    "CONTAINER_SSHKEY": "/other/key",
}
KEPT = {"PATH": "/bin", "DOCKER_CONFIG": "/config", "CONTAINER_SSHKEY": "/other/key"}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (EngineAddress(), SURROUNDINGS),
        (EngineAddress(program="podman"), SURROUNDINGS),
        (
            EngineAddress(host="ssh://me@box:2222/run/podman.sock", ssh_key="/key"),
            {
                **KEPT,
                "DOCKER_HOST": "ssh://me@box:2222/run/podman.sock",
                "CONTAINER_HOST": "ssh://me@box:2222/run/podman.sock",
                "CONTAINER_SSHKEY": "/key",
            },
        ),
        (
            EngineAddress(host="tcp://[::1]:2376", tls="/certificates"),
            {
                **KEPT,
                "DOCKER_HOST": "tcp://[::1]:2376",
                "CONTAINER_HOST": "tcp://[::1]:2376",
                "DOCKER_TLS_VERIFY": "1",
                "DOCKER_CERT_PATH": "/certificates",
            },
        ),
        (
            EngineAddress(context="build-box"),
            {**KEPT, "DOCKER_CONTEXT": "build-box", "CONTAINER_CONNECTION": "build-box"},
        ),
    ],
)
def test_nothing_else_in_the_environment_names_an_engine(
    address: EngineAddress, expected: dict[str, str]
) -> None:
    assert address.environment(SURROUNDINGS) == expected


@pytest.mark.parametrize(
    "host",
    [
        "unix:///run/docker.sock",
        "tcp://10.0.0.1:2375",
        "tcp://box.example:2376",
        "ssh://box",
        "ssh://some.body@box:22",
        "ssh://core@localhost:40000/run/user/1000/podman/podman.sock",
        "ssh://core@localhost/run/podman.sock?secure=true",
    ],
)
def test_an_address_of_each_kind_is_taken(host: str) -> None:
    assert EngineAddress(host=host).named


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("box", "not an address"),
        ("http://box:80", "not an address"),
        ("unix://run/docker.sock", "not an address"),
        ("unix:///run/a b", "not an address"),
        ("tcp://box", "not an address"),
        ("tcp://box:x", "invalid"),
        ("tcp://[::1:2376", "invalid"),
        ("tcp://box:99999", "invalid"),
        ("ssh://", "not an address"),
        ("ssh://-oProxyCommand=x/", "not an address"),
        ("ssh://-lroot@box", "not an address"),
        ("ssh://box/#x", "not an address"),
        ("ssh://me:secret-password@box", "holds a password"),
    ],
)
def test_another_address_is_refused_without_its_password(host: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        EngineAddress(host=host)
    assert caught.value.hint
    assert "secret-password" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"host": "ssh://box", "context": "box"}, "a host or a context"),
        ({"context": "--host=x"}, "not the name"),
        ({"context": "box", "tls": "/certificates"}, "tcp://"),
        ({"tls": "/certificates"}, "tcp://"),
        ({"host": "ssh://box", "tls": "/certificates"}, "tcp://"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineAddress(**fields)


def test_a_cluster_is_named_by_its_context_namespace_and_file() -> None:
    address = EngineAddress("kubernetes", context="me@c/1:2", namespace="n", kubeconfig="/k")
    assert address.environment(SURROUNDINGS) == {
        **KEPT,
        "CLAUDE_MCP_ENGINE_CONTEXT": "me@c/1:2",
        "CLAUDE_MCP_ENGINE_NAMESPACE": "n",
        "KUBECONFIG": "/k",
    }
    options = EngineAddress("kubernetes", pods={"labels": "a=b"}).environment(SURROUNDINGS)
    assert options["CLAUDE_MCP_KUBERNETES_LABELS"] == "a=b"
    own = EngineAddress("kubernetes").environment({"KUBECONFIG": "/own", "PATH": "/bin"})
    assert own == {"KUBECONFIG": "/own", "PATH": "/bin"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"program": "kubernetes", "host": "tcp://c:1"}, "in a kubeconfig file"),
        ({"program": "kubernetes", "context": "-x"}, "not the name of a context"),
        ({"program": "kubernetes", "namespace": "A"}, "not the name of a namespace"),
        ({"program": "docker", "namespace": "n"}, "are for Kubernetes"),
        ({"program": "docker", "pods": {"labels": "a=b"}}, "labels is for Kubernetes"),
        ({"program": "kubernetes", "pods": {"labels": "a"}}, "not a label of Kubernetes"),
    ],
)
def test_a_clusters_place_is_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineAddress(**fields)
