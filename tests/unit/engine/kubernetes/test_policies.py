"""NetworkPolicies of pods: what they say, and that a pod whose traffic is limited has its own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.engine.engine import ContainerNameInUse, ContainerNotFound
from claude_mcp.engine.kubernetes import argv, manifest, marks, policy
from claude_mcp.engine.kubernetes.argv import Place
from claude_mcp.engine.kubernetes.kubectl import KubectlEngine
from claude_mcp.engine.spec import ContainerSpec, Peers, Traffic
from claude_mcp.errors import EngineError

pytestmark = pytest.mark.anyio

TRAFFIC = Traffic(to=Peers("proxy-of", "a b", (3128,)), from_=None)
SPEC = ContainerSpec("claude-mcp-a", "image:1", ("run",), traffic=TRAFFIC)
ID = "0123456789ab" + marks.new_id(SPEC.name)[marks.RANDOM_CHARS :]
RUNNING = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}
TO_PROXY = {
    "to": [
        {
            "podSelector": {
                "matchLabels": {"claude-mcp.pod": "1", "proxy-of": marks.label_value("a b")}
            }
        }
    ],
    "ports": [{"protocol": "TCP", "port": 3128}],
}
FAKE = """\
#!/bin/sh
state=@STATE@
while case "$1" in --*) true;; *) false;; esac; do shift; done
what="$1-${2%%[.,]*}"
case "$*" in *"=!claude-mcp.id "*) what="$what-others";; esac
printf '%s\\n' "$what" >>"$state/calls"
if [ "$1" = create ]; then
    text=$(cat)
    case "$text" in *'"NetworkPolicy"'*) what=create-policy;; *) what=create-pod;; esac
    printf '%s\\n' "$text" >>"$state/created"
fi
[ ! -f "$state/$what.err" ] || { cat "$state/$what.err" >&2; exit 1; }
[ ! -f "$state/$what.out" ] || cat "$state/$what.out"
"""


class Fake:
    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.state.mkdir()
        program = directory / "kubectl"
        program.write_text(FAKE.replace("@STATE@", str(self.state)))
        program.chmod(0o755)
        environment = {"PATH": f"{directory}:{os.environ['PATH']}"}
        self.engine = KubectlEngine("1.32.4", environment, Place(namespace="n"))
        self.says("get-networkpolicies-others", {"items": []})

    def says(self, what: str, out: Any) -> None:
        (self.state / f"{what}.out").write_text(json.dumps(out))

    def fails(self, what: str, err: str) -> None:
        (self.state / f"{what}.err").write_text(err)

    @property
    def calls(self) -> list[str]:
        return sorted((self.state / "calls").read_text().split())

    @property
    def created(self) -> list[Mapping[str, Any]]:
        path = self.state / "created"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def listed(*ids: str, created: str = "2026-11-29T22:00:00Z", **spec: Any) -> dict[str, Any]:
    found = []
    for id in ids:
        each = policy.policy(id, TRAFFIC)
        each["metadata"]["creationTimestamp"] = created
        del each["spec"]["ingress"]  # the API server leaves out what is empty
        found.append({**each, "spec": {**each["spec"], **spec}})
    return {"items": found}


def described(id: str = ID) -> dict[str, Any]:
    found = manifest.pod(SPEC, id, {})
    found["metadata"] |= {"creationTimestamp": "2026-11-29T22:00:00Z", "uid": "u"}
    return {**found, "status": RUNNING}


def test_a_session_may_reach_its_proxy_and_be_reached_by_nobody() -> None:
    assert policy.policy(ID, TRAFFIC) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": f"claude-mcp-{ID}",
            "labels": {"claude-mcp.pod": "1", "claude-mcp.id": ID, "claude-mcp.of": ID[12:]},
        },
        "spec": {
            "podSelector": {"matchLabels": {"claude-mcp.id": ID}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [],
            "egress": [TO_PROXY],
        },
    }


def test_a_proxy_may_reach_everything_and_be_reached_by_its_sessions() -> None:
    found = policy.spec(ID, Traffic(to=None, from_=Peers("egress", "x", (1, 2))))
    selector = {"matchLabels": {"claude-mcp.pod": "1", "egress": "x"}}
    assert found == {
        "podSelector": {"matchLabels": {"claude-mcp.id": ID}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [{"podSelector": selector}],
                "ports": [{"protocol": "TCP", "port": 1}, {"protocol": "TCP", "port": 2}],
            }
        ],
    }


def test_a_pod_that_reaches_no_name_server_is_told_so_at_once() -> None:
    pod = manifest.pod(SPEC, ID, {})["spec"]
    assert (pod["dnsPolicy"], pod["dnsConfig"]) == ("None", {"nameservers": ["127.0.0.1"]})
    proxy = ContainerSpec("p", "i", ("run",), traffic=Traffic(None, Peers("a", "b", (1,))))
    assert "dnsPolicy" not in manifest.pod(proxy, ID, {})["spec"]


@pytest.mark.parametrize(
    "change", [{"egress": [{}]}, {"policyTypes": ["Ingress"]}, {"ingress": [{}]}]
)
def test_a_policy_that_was_changed_is_not_intact(change: dict[str, Any]) -> None:
    (found,) = policy.parse(json.dumps(listed(ID)))
    assert policy.is_intact(found, ID, TRAFFIC)
    (changed,) = policy.parse(json.dumps(listed(ID, **change)))
    assert not policy.is_intact(changed, ID, TRAFFIC)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"items": [{}]}', '{"items": [{"spec": 1}]}'])
def test_an_answer_that_is_malformed(text: str) -> None:
    with pytest.raises(EngineError, match="malformed"):
        policy.parse(text)


def test_the_words_of_kubectl() -> None:
    place = Place(namespace="n")
    kind = "networkpolicies.v1.networking.k8s.io"
    get = ("kubectl", "--namespace=n", "get", kind)
    assert argv.policies_argv(place, ID) == (
        *get,
        f"--selector=claude-mcp.of={ID[12:]}",
        "--output=json",
    )
    assert argv.policies_argv(place, ours=True)[-2] == "--selector=claude-mcp.id"
    assert argv.policies_argv(place)[-2] == "--selector=!claude-mcp.id"
    assert argv.remove_policies_argv(place, "a1", "b2") == (
        "kubectl", "--namespace=n", "delete", kind, "--selector=claude-mcp.id in (a1,b2)",
        "--output=name",
    )  # fmt: skip
    assert argv.remove_argv(place, "a1")[3] == f"pods,persistentvolumeclaims,{kind}"


async def test_a_policy_exists_before_its_pod(fake: Fake) -> None:
    created = await fake.engine.create(SPEC)
    assert fake.created == [
        policy.policy(created.id, TRAFFIC),
        manifest.pod(SPEC, created.id, {}),
    ]


async def test_a_pod_that_is_not_created_leaves_no_policy(fake: Fake) -> None:
    fake.fails("create-pod", 'Error from server (AlreadyExists): pods "x" already exists')
    with pytest.raises(ContainerNameInUse):
        await fake.engine.create(SPEC)
    assert "delete-pods" in fake.calls


async def test_without_a_policy_there_is_no_pod(fake: Fake) -> None:
    fake.fails("create-policy", "Error from server (Forbidden): networkpolicies is forbidden: no")
    with pytest.raises(EngineError, match="could not limit what a session reaches") as caught:
        await fake.engine.create(SPEC)
    assert "lacks a right" in (caught.value.hint or "")
    assert len(fake.created) == 1


async def test_a_policy_that_is_there_is_left_alone(fake: Fake) -> None:
    fake.says("get-networkpolicies", listed(ID))
    assert await fake.engine.ensure_traffic(ID, TRAFFIC)
    assert fake.calls == ["get-networkpolicies", "get-networkpolicies-others"]


@pytest.mark.parametrize("found", [listed(), listed(ID, egress=[{}])])
async def test_a_policy_that_was_removed_or_changed_is_created_again(
    fake: Fake, found: dict[str, Any]
) -> None:
    fake.says("get-networkpolicies", found)
    fake.says("get-pods", described())
    assert not await fake.engine.ensure_traffic(ID, TRAFFIC)
    assert fake.created == [policy.policy(ID, TRAFFIC)]


async def test_policies_of_earlier_pods_of_the_name_are_removed(fake: Fake) -> None:
    fake.says("get-networkpolicies", listed(ID, "f" * 12 + ID[12:]))
    fake.says("get-pods", described())
    assert await fake.engine.ensure_traffic(ID, TRAFFIC)
    assert fake.created == []
    assert fake.calls[0] == "delete-networkpolicies"
    fake.says("get-pods", described("f" * 12 + ID[12:]))
    with pytest.raises(ContainerNotFound):
        await fake.engine.ensure_traffic(ID, TRAFFIC)
    assert fake.calls.count("delete-networkpolicies") == 1


async def test_a_pod_that_is_gone_gets_no_policy(fake: Fake) -> None:
    fake.says("get-networkpolicies", listed())
    with pytest.raises(ContainerNotFound):
        await fake.engine.ensure_traffic(ID, TRAFFIC)
    assert fake.created == []


async def test_another_policy_that_allows_something_is_named(fake: Fake) -> None:
    fake.says("get-networkpolicies", listed(ID))
    deny = {"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}
    fake.says("get-networkpolicies-others", {"items": [deny]})
    assert await fake.engine.ensure_traffic(ID, TRAFFIC)
    dns = {"metadata": {"name": "dns"}, "spec": {"podSelector": {}, "egress": [{"ports": []}]}}
    fake.says("get-networkpolicies-others", {"items": [deny, dns]})
    with pytest.raises(EngineError, match="The NetworkPolicy dns of the namespace allows"):
        await fake.engine.ensure_traffic(ID, TRAFFIC)


async def test_old_policies_without_a_pod_are_removed(fake: Fake) -> None:
    gone = "f" * len(ID)
    fake.says("get-networkpolicies", listed(ID, gone))
    fake.says("get-pods", {"items": [described()]})
    await fake.engine.remove_leftovers()
    assert fake.calls == ["delete-networkpolicies", "get-networkpolicies", "get-pods"]


async def test_a_policy_whose_pod_may_still_be_created_stays(fake: Fake) -> None:
    now = datetime.now(UTC) - timedelta(seconds=30)
    fake.says("get-networkpolicies", listed(ID, created=now.strftime("%Y-%m-%dT%H:%M:%SZ")))
    await fake.engine.remove_leftovers()
    assert fake.calls == ["get-networkpolicies"]
