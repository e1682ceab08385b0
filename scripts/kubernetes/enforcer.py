"""Connects the pods of the test cluster as far as its NetworkPolicies let it.

    enforcer.py KUBECTL KUBECONFIG UNENFORCED

The network plugin knows no policies, and a firewall of this machine may keep pods from each other.
So this watches pods and policies with ``kubectl`` and keeps one nftables table of its own, of the
family ``netdev``: what a pod sends is judged where it leaves the pod, and passed on to the pod that
it is for. Policies of a namespace are ignored while the directory UNENFORCED holds a file of its
name, so that tests see a cluster that enforces nothing.

It knows what policies of pods consist of: ``podSelector`` with ``matchLabels``, ``policyTypes``,
and rules with peers by ``podSelector`` and with ports by number. A policy that has anything else is
reported, and denies the pods that it selects everything. Connections are not tracked: TCP is judged
by its first packet, and an answer over UDP may follow within 30 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

TABLE = "claude_mcp_test_cluster"
ATTACHED = "/var/lib/cni/results"
"""Where the network plugin notes what it has made."""
POLICIES = "networkpolicies.networking.k8s.io"
KINDS = ("pods", POLICIES)
LOOK_SECONDS = 0.1
AGAIN_SECONDS = 0.3
LISTED_SECONDS = 3.0
"""How long a new watch may take to name what is there."""
DIRECTIONS = (
    ("Egress", "egress", "to", "saddr", "daddr"),
    ("Ingress", "ingress", "from", "daddr", "saddr"),
)
"""How a policy calls it, and on which side of a packet the pod and its peers are."""

Object = Mapping[str, Any]


class Pod(NamedTuple):
    namespace: str
    labels: Mapping[str, str]
    address: str
    device: str
    """Of this machine; the other end is in the pod."""


class Unknown(Exception):
    """A policy has a part that is not implemented here."""


class Event(NamedTuple):
    kind: str
    type: str
    """ADDED, MODIFIED or DELETED; NEW at the begin of a watch, which names all there is."""
    object: Object


def objects(stream: Any) -> Iterator[Object]:
    """The JSON objects that arrive one after another."""
    decoder, text = json.JSONDecoder(), ""
    while data := os.read(stream.fileno(), 1 << 16):
        text += data.decode()
        while text := text.lstrip():
            try:
                found, end = decoder.raw_decode(text)
            except ValueError:
                break
            text = text[end:]
            yield found


def watch(kubectl: list[str], kind: str, events: queue.Queue[Event]) -> None:
    """Put every change into the queue; begins again when the API server was gone."""
    argv = [*kubectl, "get", kind, "--all-namespaces", "--watch", "--output-watch-events"]
    while True:
        with subprocess.Popen([*argv, "--output=json"], stdout=subprocess.PIPE) as process:
            is_first = True
            for event in objects(process.stdout):
                if is_first:
                    events.put(Event(kind, "NEW", {}))
                    is_first = False
                events.put(Event(kind, event["type"], event["object"]))
        time.sleep(AGAIN_SECONDS)


def only(value: Object, *names: str) -> None:
    if further := set(value) - set(names):
        raise Unknown(", ".join(sorted(further)))


def selects(selector: Object, labels: Object) -> bool:
    only(selector, "matchLabels")
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


class Network:
    """Which addresses and devices pods have, by the pods' uid."""

    def __init__(self) -> None:
        self._attached: dict[str, tuple[str, str, str] | None] = {}

    def now(self) -> dict[str, tuple[str, str]]:
        names = os.listdir(ATTACHED) if os.path.isdir(ATTACHED) else []
        for gone in set(self._attached) - set(names):
            del self._attached[gone]
        for name in names:
            if self._attached.get(name) is None:
                self._attached[name] = _attachment(os.path.join(ATTACHED, name))
        devices = os.listdir("/sys/class/net")
        return {
            uid: (address, device)
            for uid, address, device in filter(None, self._attached.values())
            if device in devices
        }


def _attachment(path: str) -> tuple[str, str, str] | None:
    try:
        with open(path) as file:
            noted = json.load(file)
        uid = dict(noted["cniArgs"])["K8S_POD_UID"]
        address = noted["result"]["ips"][0]["address"].partition("/")[0]
        devices = [each["name"] for each in noted["result"]["interfaces"]]
        return uid, address, next(each for each in devices if each.startswith("veth"))
    except (OSError, ValueError, LookupError, StopIteration):  # the loopback, or half written
        return None


def rule_text(rule: Object, peers_key: str, side: str, neighbours: list[Pod]) -> Iterator[str]:
    """What a rule of a policy allows, in the words of nftables."""
    only(rule, peers_key, "ports")
    where = ""
    if rule.get(peers_key):
        addresses = set()
        for peer in rule[peers_key]:
            only(peer, "podSelector")
            addresses |= {
                each.address for each in neighbours if selects(peer["podSelector"], each.labels)
            }
        if not addresses:
            return
        where = f"ip {side} {{ {', '.join(sorted(addresses))} }} "
    if not rule.get("ports"):
        yield f"{where}return"
    for port in rule.get("ports") or ():
        only(port, "port", "protocol")
        protocol = port.get("protocol", "TCP").lower()
        if protocol not in ("tcp", "udp"):
            raise Unknown(f"protocol {protocol}")
        if "port" not in port:
            yield f"{where}ip protocol {protocol} return"
        elif isinstance(port["port"], int):
            yield f"{where}{protocol} dport {port['port']} return"
        else:
            raise Unknown("a port's name")


def allowed(policy: Object, direction: tuple[str, ...], neighbours: list[Pod]) -> list[str] | None:
    """What a policy allows the pods that it selects; None if it does not limit this direction."""
    kind, key, peers_key, _, side = direction
    spec = policy["spec"]
    try:
        only(spec, "podSelector", "policyTypes", "ingress", "egress")
        only(spec["podSelector"], "matchLabels")
        if kind not in spec["policyTypes"]:
            return None
        rules = spec.get(key) or ()
        return [text for rule in rules for text in rule_text(rule, peers_key, side, neighbours)]
    except Unknown as unknown:
        name = policy["metadata"]["name"]
        print(f"policy {name} denies everything: not known here: {unknown}", flush=True)
        return []


def concerns(policy: Object, pod: Pod) -> bool:
    try:
        return selects(policy["spec"]["podSelector"], pod.labels)
    except Unknown:
        return True


def table(pods: list[Pod], policies: list[Object], unenforced: set[str]) -> str:
    """The whole table for these pods and policies."""
    chains, jumps = [], []
    for pod in pods:
        neighbours = [each for each in pods if each.namespace == pod.namespace]
        mine = [
            each
            for each in policies
            if each["metadata"]["namespace"] == pod.namespace and concerns(each, pod)
        ]
        for direction in DIRECTIONS if pod.namespace not in unenforced else ():
            lists = [allowed(each, direction, neighbours) for each in mine]
            limiting = [each for each in lists if each is not None]
            if limiting:
                name = f"{direction[1]}_{pod.device}"
                rules = sorted({rule for each in limiting for rule in each})
                chains.append(_chain(name, [*rules, "drop"]))
                jumps.append(f"ip {direction[3]} {pod.address} jump {name}")
    judge = [
        # The cluster gives no such addresses, but each device has one by itself.
        "ether type ip6 drop",
        "tcp flags & (syn | ack) != syn goto pass_on",
        "ip saddr . udp sport . ip daddr . udp dport @answers goto pass_on",
        *jumps,
        "udp dport 0-65535 add @answers { ip daddr . udp dport . ip saddr . udp sport }",
        "goto pass_on",
    ]
    passing = [f"ip daddr {pod.address} fwd to {pod.device}" for pod in pods]
    devices = ", ".join(pod.device for pod in pods)
    hook = f"type filter hook ingress devices = {{ {devices} }} priority 0; policy accept;"
    return (
        f"table netdev {TABLE}\ndelete table netdev {TABLE}\ntable netdev {TABLE} {{\n"
        "set answers { type ipv4_addr . inet_service . ipv4_addr . inet_service; "
        "flags dynamic,timeout; timeout 30s; }\n"
        f"{_chain('pass_on', passing)}{''.join(chains)}{_chain('judge', judge)}"
        f"{_chain('sent', [hook, 'jump judge']) if pods else ''}}}\n"
    )


def _chain(name: str, lines: list[str]) -> str:
    return f"chain {name} {{\n{''.join(f'    {line}' + chr(10) for line in lines)}}}\n"


def apply(wanted: str) -> bool:
    """False if a device has just disappeared."""
    done = subprocess.run(
        ["nft", "--file", "-"], input=wanted, text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        print(done.stderr, flush=True)
    return done.returncode == 0


class Known:
    """The objects of one kind."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[int, Object]] = {}
        self._watch = 0
        self._since = 0.0

    def take(self, event: Event) -> None:
        if event.type == "NEW":
            self._watch += 1
            self._since = time.monotonic()
            return
        uid = event.object.get("metadata", {}).get("uid")
        if event.type == "DELETED":
            self._objects.pop(uid, None)
        elif uid is not None:
            self._objects[uid] = self._watch, event.object

    def now(self) -> list[Object]:
        """Without what the latest watch has not named."""
        if time.monotonic() > self._since + LISTED_SECONDS:
            self._objects = {
                uid: each for uid, each in self._objects.items() if each[0] == self._watch
            }
        return [each for _, each in self._objects.values()]


def main(kubectl: str, kubeconfig: str, unenforced: str) -> None:
    events: queue.Queue[Event] = queue.Queue()
    command = [kubectl, f"--kubeconfig={kubeconfig}"]
    for kind in KINDS:
        threading.Thread(target=watch, args=(command, kind, events), daemon=True).start()
    known = {kind: Known() for kind in KINDS}
    network, applied = Network(), ""
    pods: dict[str, Pod] = {}  # until they have no device any more, as they may still send
    while True:
        with contextlib.suppress(queue.Empty):
            event = events.get(timeout=LOOK_SECONDS)
            while True:
                known[event.kind].take(event)
                event = events.get_nowait()
        attached = network.now()
        for described in (each["metadata"] for each in known["pods"].now()):
            if described["uid"] in attached:
                labels = described.get("labels") or {}
                where = attached[described["uid"]]
                pods[described["uid"]] = Pod(described["namespace"], labels, *where)
        for gone in set(pods) - set(attached):
            del pods[gone]
        listed = sorted(pods.values(), key=lambda pod: pod.device)
        wanted = table(listed, known[POLICIES].now(), set(os.listdir(unenforced)))
        if wanted != applied and apply(wanted):
            applied = wanted


if __name__ == "__main__":
    main(*sys.argv[1:])
