"""The NetworkPolicy of a pod: a value in, a value out.

Each pod whose traffic is limited has one of its own, which exists before the pod and is removed
after it. Policies add up, so what another one allows the pod, it may do as well.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from claude_mcp.engine.kubernetes import marks
from claude_mcp.engine.names import key
from claude_mcp.engine.spec import Peers, Traffic
from claude_mcp.errors import EngineError

Manifest = dict[str, Any]

WHOLE: Final = 200
"""Characters of an answer that an error shows."""


def policy(id: str, traffic: Traffic) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": marks.PREFIX + id,
            "labels": {marks.OURS: "1", marks.ID: id, marks.POD: marks.name_digest(id)},
        },
        "spec": spec(id, traffic),
    }


def spec(id: str, traffic: Traffic) -> Manifest:
    to, from_ = traffic.to, traffic.from_
    return {
        "podSelector": {"matchLabels": {marks.ID: id}},
        "policyTypes": ["Ingress", *([] if to is None else ["Egress"])],
        "ingress": [] if from_ is None else [_rule("from", from_)],
        **({} if to is None else {"egress": [_rule("to", to)]}),
    }


def _rule(direction: str, peers: Peers) -> Manifest:
    labels = {marks.OURS: "1", key(peers.label): marks.label_value(peers.value)}
    return {
        direction: [{"podSelector": {"matchLabels": labels}}],
        "ports": [{"protocol": "TCP", "port": port} for port in peers.ports],
    }


def parse(stdout: str) -> list[Manifest]:
    """Read a list of policies as ``get --output=json`` prints it.

    Raises:
        EngineError: it is malformed.
    """
    try:
        items = json.loads(stdout)["items"]
        if all(isinstance(each["spec"], dict) for each in items):
            return list(items)
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise EngineError(f"The answer of kubectl is malformed: {stdout[:WHOLE]!r}.")


def id_of(found: Manifest) -> str:
    """The id of its pod."""
    return str(found["metadata"]["labels"][marks.ID])


def is_intact(found: Manifest, id: str, traffic: Traffic) -> bool:
    """Whether a policy still says what it was created with.

    The API server leaves out lists that are empty.
    """
    wanted = spec(id, traffic)
    says: Manifest = found["spec"]
    return says == {name: value for name, value in wanted.items() if value}


def widens(found: Manifest) -> bool:
    """Whether a policy that is not ours allows something, perhaps to our pods too.

    Labels are not compared: an administrator's webhook may add some to every pod.
    """
    return bool(found["spec"].get("ingress") or found["spec"].get("egress"))


def older_than(found: list[Manifest], seconds: float) -> set[str]:
    """The ids of the pods of those that are older."""
    now = datetime.now(UTC)
    old = set()
    for each in found:
        metadata = each["metadata"]
        created = datetime.fromisoformat(metadata["creationTimestamp"].replace("Z", "+00:00"))
        if (now - created).total_seconds() > seconds:
            old.add(id_of(each))
    return old
