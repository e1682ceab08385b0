"""What enforces NetworkPolicies in the test cluster: the table that it makes of them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "kubernetes" / "enforcer.py"


@pytest.fixture(scope="module")
def enforcer() -> Iterator[ModuleType]:
    found = importlib.util.spec_from_file_location("enforcer", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["enforcer"] = module
    found.loader.exec_module(module)
    yield module
    del sys.modules["enforcer"]


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": "p"}, "spec": {"podSelector": {}, **spec}}


def chains(enforcer: ModuleType, *policies: dict[str, Any], unenforced: str = "") -> dict[str, Any]:
    pods = [
        enforcer.Pod("n", {"app": "a"}, "10.0.0.1", "veth1"),
        enforcer.Pod("n", {"app": "b"}, "10.0.0.2", "veth2"),
        enforcer.Pod("other", {"app": "b"}, "10.0.0.3", "veth3"),
    ]
    text = enforcer.table(pods, list(policies), {unenforced})
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["chain"]:
            name = words[1]
            found[name] = []
        elif line.startswith("    "):
            found[name].append(line.strip())
    return found


A = {"matchLabels": {"app": "a"}}
B = {"matchLabels": {"app": "b"}}


def test_pods_that_no_policy_selects_reach_each_other(enforcer: ModuleType) -> None:
    found = chains(enforcer)
    assert set(found) == {"pass_on", "judge", "sent"}
    assert found["pass_on"] == [
        f"ip daddr 10.0.0.{number} fwd to veth{number}" for number in (1, 2, 3)
    ]


def test_egress_to_a_port_of_pods_of_the_same_namespace(enforcer: ModuleType) -> None:
    rule = {"to": [{"podSelector": B}], "ports": [{"port": 3128, "protocol": "TCP"}]}
    found = chains(
        enforcer, policy(podSelector=A, policyTypes=["Ingress", "Egress"], egress=[rule])
    )
    assert found["egress_veth1"] == ["ip daddr { 10.0.0.2 } tcp dport 3128 return", "drop"]
    assert found["ingress_veth1"] == ["drop"]
    assert "ip saddr 10.0.0.1 jump egress_veth1" in found["judge"]
    assert "ip daddr 10.0.0.1 jump ingress_veth1" in found["judge"]
    assert not {"egress_veth2", "egress_veth3"} & set(found)


def test_policies_add_up(enforcer: ModuleType) -> None:
    udp = {"ports": [{"port": 53, "protocol": "UDP"}]}
    found = chains(
        enforcer,
        policy(podSelector=A, policyTypes=["Egress"]),
        policy(podSelector=A, policyTypes=["Egress"], egress=[udp]),
        policy(podSelector=A, policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": B}]}]),
    )
    assert found["egress_veth1"] == ["udp dport 53 return", "drop"]
    assert found["ingress_veth1"] == ["ip saddr { 10.0.0.2 } return", "drop"]


def test_a_rule_whose_peers_do_not_exist_allows_nothing(enforcer: ModuleType) -> None:
    rule = {"to": [{"podSelector": {"matchLabels": {"app": "c"}}}]}
    found = chains(enforcer, policy(podSelector=A, policyTypes=["Egress"], egress=[rule]))
    assert found["egress_veth1"] == ["drop"]


@pytest.mark.parametrize(
    "spec",
    [
        {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]},
        {"egress": [{"ports": [{"port": "http"}]}]},
        {"egress": [{"ports": [{"port": 1, "protocol": "SCTP"}]}]},
        {"egress": [{}], "podSelector": {"matchExpressions": []}},
        {"egress": [{}], "further": 1},
    ],
)
def test_what_is_not_known_denies_everything_and_is_reported(
    enforcer: ModuleType, spec: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = chains(enforcer, policy(**{"podSelector": A, "policyTypes": ["Egress"], **spec}))
    assert found["egress_veth1"] == ["drop"]
    assert "policy p denies everything: not known here" in capsys.readouterr().out


def test_policies_of_a_namespace_can_be_left_unenforced(enforcer: ModuleType) -> None:
    assert set(chains(enforcer, policy(policyTypes=["Egress"]), unenforced="n")) == {
        "pass_on",
        "judge",
        "sent",
    }
