"""Pods as values: names and labels, descriptions, argv, and what the API server answers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from claude_mcp.engine import pod_options
from claude_mcp.engine.engine import (
    Container,
    ContainerNameInUse,
    ContainerNotFound,
    ContainerNotRunning,
    ProcessLimitReached,
)
from claude_mcp.engine.kubernetes import argv, claims, described, failures, manifest, marks, usage
from claude_mcp.engine.kubernetes.argv import Place
from claude_mcp.engine.pod_options import PodOptions
from claude_mcp.engine.spec import ContainerSpec, Limits, TmpfsMount
from claude_mcp.engine.stats import Stats
from claude_mcp.errors import EngineError, EngineUnavailable, ImageNotFound, ImageUnfit

HERE = Place()
ID = "0123456789ab" + "ee20163a19197634d022"
POD = "claude-mcp-ee20163a19197634d022"
SPEC = ContainerSpec(
    name="claude-mcp-a",
    image="image:1",
    command=("python3", "-c", "print('$(HOME) $x')"),
    labels={"claude-mcp.session": "1", "claude-mcp.project": "/home/a b/ä"},
    environment={"HOME": "/home/$USER"},
    workdir="/workspace",
    user="1000:1001",
    limits=Limits(memory=1 << 30, cpus=1.5, pids=100, disk=1 << 20),
    tmpfs_mounts=(TmpfsMount("/run/hooks", 4096, owned=True),),
    kept_directories=("/workspace", "/home"),
    restart="on-failure",
)


# Names, ids and labels.
def test_the_id_of_a_container_contains_the_name_of_its_pod() -> None:
    id, other = marks.new_id("claude-mcp-a"), marks.new_id("claude-mcp-a")
    assert marks.is_id(id)
    assert id != other
    assert marks.pod_name(id) == marks.pod_name(other) == marks.pod_name("claude-mcp-a")
    assert marks.pod_name("claude-mcp-b") != marks.pod_name("claude-mcp-a")


@pytest.mark.parametrize(
    ("ref", "expected"), [("0123", True), (ID, True), (f"{ID}0", False), ("claude-mcp-a", False)]
)
def test_what_may_be_the_beginning_of_an_id(ref: str, expected: bool) -> None:
    assert marks.may_be_prefix(ref) is expected


@pytest.mark.parametrize("value", ["a", "A.b_c-9", "x" * 63])
def test_a_value_that_a_label_may_have_is_the_label(value: str) -> None:
    assert marks.label_value(value) == value


@pytest.mark.parametrize("value", ["", "a b", "/home", "-a", "a.", "x" * 64, "ä", "\udcff"])
def test_any_other_value_is_a_digest_in_a_label(value: str) -> None:
    digest = marks.label_value(value)
    assert digest.startswith("sha256-")
    assert len(digest) <= 63
    assert digest.isascii()


# The description of a pod.
def test_the_pod_of_a_session() -> None:
    variables = {"EXTRA": "1"}
    assert manifest.pod(SPEC, ID, variables) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": POD,
            "labels": {
                "claude-mcp.session": "1",
                "claude-mcp.project": marks.label_value("/home/a b/ä"),
                "claude-mcp.pod": "1",
                "claude-mcp.id": ID,
                "claude-mcp.short": "0123456789ab",
            },
            "annotations": {
                "claude-mcp.session": "1",
                "claude-mcp.project": "/home/a b/ä",
                "claude-mcp.container": "claude-mcp-a",
                "claude-mcp.labels": '["claude-mcp.session", "claude-mcp.project"]',
            },
        },
        "spec": {
            "restartPolicy": "OnFailure",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "shareProcessNamespace": True,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
                "runAsUser": 1000,
                "runAsGroup": 1001,
            },
            "containers": [
                {
                    "name": "main",
                    "image": "image:1",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", "print('$$(HOME) $$x')"],
                    "env": [
                        {"name": "HOME", "value": "/home/$$USER"},
                        {"name": "EXTRA", "value": "1"},
                        {"name": "CLAUDE_MCP_POD", "value": ID},
                    ],
                    "stdin": True,
                    "stdinOnce": True,
                    "resources": {
                        "limits": {
                            "memory": "1073741824",
                            "cpu": "1500m",
                            "ephemeral-storage": "1048576",
                        },
                        "requests": {
                            "ephemeral-storage": "1048576",
                            "memory": "268435456",
                            "cpu": "100m",
                        },
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "privileged": False,
                        "readOnlyRootFilesystem": False,
                    },
                    "volumeMounts": [
                        {"name": "kept-0", "mountPath": "/workspace"},
                        {"name": "kept-1", "mountPath": "/home"},
                        {"name": "memory-0", "mountPath": "/run/hooks"},
                    ],
                    "workingDir": "/workspace",
                }
            ],
            "volumes": [
                {"name": "kept-0", "emptyDir": {}},
                {"name": "kept-1", "emptyDir": {}},
                {"name": "memory-0", "emptyDir": {"medium": "Memory", "sizeLimit": "4096"}},
            ],
        },
    }


def test_a_runtime_is_a_runtime_class_and_what_is_not_limited_is_still_requested() -> None:
    spec = ContainerSpec("claude-mcp-a", "image:1", ("run",), runtime="gvisor")
    pod = manifest.pod(spec, ID, {})["spec"]
    assert pod["runtimeClassName"] == "gvisor"
    assert pod["containers"][0]["resources"] == {
        "limits": {},
        "requests": {"memory": "268435456", "cpu": "100m"},
    }
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_no_more_is_requested_than_may_be_taken() -> None:
    assert manifest.resources(Limits(memory=1000, cpus=0.01)) == {
        "limits": {"memory": "1000", "cpu": "10m"},
        "requests": {"memory": "1000", "cpu": "10m"},
    }


# Argv.
def test_every_call_names_the_cluster() -> None:
    place = Place("prod/admin", "team-a")
    options = ("kubectl", "--context=prod/admin", "--namespace=team-a")
    assert argv.version_argv(place) == (*options, "version", "--output=json")
    assert argv.create_argv(place) == (
        *options, "create", "--validate=false", "--filename=-", "--output=name",
    )  # fmt: skip
    assert argv.attach_argv(place, POD) == (
        *options, "attach", "--stdin=true", "--container=main", POD,
    )  # fmt: skip


def test_pods_are_selected_by_label() -> None:
    assert argv.list_argv(HERE, "claude-mcp.session")[-2] == "--selector=claude-mcp.session"
    assert argv.list_argv(HERE, "a", "/b")[-2] == f"--selector=a={marks.label_value('/b')}"
    assert argv.remove_argv(HERE, ID)[3] == f"--selector=claude-mcp.id={ID}"
    assert argv.stats_argv(HERE, [ID, ID])[-1] == f"--selector=claude-mcp.id in ({ID},{ID})"


def test_an_exec_checks_that_it_reached_the_pod_it_was_for() -> None:
    plain = argv.exec_argv(HERE, "claude-mcp-a", ("run", "-x"))
    assert plain == (
        "kubectl", "exec", "--stdin=true", "--container=main", POD, "--", "run", "-x",
    )  # fmt: skip
    checked = argv.exec_argv(HERE, ID, ("run",), {"TERM": "xterm"}, terminal=True)
    assert checked[:6] == (
        "kubectl", "exec", "--stdin=true", "--tty=true", "--container=main", POD,
    )  # fmt: skip
    assert checked[6:9] == ("--", "/bin/sh", "-c")
    assert checked[10:] == (ID, "env", "TERM=xterm", "run")


def test_a_pod_has_what_the_configuration_asks_of_all_pods() -> None:
    options = pod_options.parse(
        {
            "pull_secrets": "one,two",
            "pull_policy": "Always",
            "node_selector": "disk=ssd example.org/pool=claude",
            "tolerations": "dedicated=claude:NoSchedule,gpu:NoExecute,spot,mine=",
            "priority_class": "low",
            "labels": "team=platform",
        }
    )
    described = manifest.pod(SPEC, ID, {}, options)
    plain = manifest.pod(SPEC, ID, {})
    assert described["spec"]["containers"][0]["imagePullPolicy"] == "Always"
    assert described["metadata"]["labels"] == {**plain["metadata"]["labels"], "team": "platform"}
    assert described["metadata"]["annotations"] == plain["metadata"]["annotations"]
    added = {name: described["spec"][name] for name in described["spec"].keys() - plain["spec"]}
    assert added == {
        "imagePullSecrets": [{"name": "one"}, {"name": "two"}],
        "nodeSelector": {"disk": "ssd", "example.org/pool": "claude"},
        "tolerations": [
            {"key": "dedicated", "operator": "Equal", "value": "claude", "effect": "NoSchedule"},
            {"key": "gpu", "operator": "Exists", "effect": "NoExecute"},
            {"key": "spot", "operator": "Exists"},
            {"key": "mine", "operator": "Equal", "value": ""},
        ],
        "priorityClassName": "low",
    }


KEPT = replace(SPEC, kept_bytes=1 << 30)


def test_directories_that_outlive_the_pod_lie_in_one_claim() -> None:
    spec = manifest.pod(KEPT, ID, {})["spec"]
    assert spec["volumes"][0] == {
        "name": "kept",
        "persistentVolumeClaim": {"claimName": POD},
    }
    assert spec["containers"][0]["volumeMounts"][:2] == [
        {"name": "kept", "mountPath": "/workspace", "subPath": "workspace"},
        {"name": "kept", "mountPath": "/home", "subPath": "home"},
    ]
    security = spec["securityContext"]
    assert (security["fsGroup"], security["fsGroupChangePolicy"]) == (1001, "OnRootMismatch")


def test_a_claim_is_found_as_its_pod_is_and_describes_it() -> None:
    pod = manifest.pod(KEPT, ID, {}, PodOptions(labels={"team": "platform"}))
    claim = claims.claim(pod, 1 << 30, "fast")
    record = claim["metadata"]["annotations"].pop("claude-mcp.record")
    assert claim == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": pod["metadata"],
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1073741824"}},
            "storageClassName": "fast",
        },
    }
    again = claims.pod(record)
    assert again["spec"]["containers"][0].keys() & {"stdin", "stdinOnce"} == set()
    again["spec"]["containers"][0] |= {"stdin": True, "stdinOnce": True}
    assert again == pod
    assert "storageClassName" not in claims.claim(pod, 1, None)["spec"]


def test_a_further_label_never_replaces_ours() -> None:
    options = PodOptions(labels={marks.ID: "x", "claude-mcp.session": "x"})
    described = manifest.pod(SPEC, ID, {}, options)
    assert described["metadata"]["labels"] == manifest.pod(SPEC, ID, {})["metadata"]["labels"]


@pytest.mark.parametrize(("restart", "policy"), [(None, "Never"), ("on-failure", "OnFailure")])
def test_a_pod_is_restarted_as_its_specification_says(restart: str | None, policy: str) -> None:
    described = manifest.pod(replace(SPEC, restart=restart), ID, {})
    assert described["spec"]["restartPolicy"] == policy


# What the API server answers.
def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    described = manifest.pod(SPEC, ID, {})
    described["metadata"] |= {
        "uid": "aaaa-bbbb",
        "creationTimestamp": "2026-11-29T22:00:00Z",
        **metadata,
    }
    return {**described, "status": status}


def container(**changes: Any) -> Container:
    fields: dict[str, Any] = {
        "id": ID,
        "name": "claude-mcp-a",
        "created": "2026-11-29T22:00:00Z",
        "status": "running",
        "exit_code": 0,
        "error": "",
        "image": "image:1",
        "labels": {"claude-mcp.session": "1", "claude-mcp.project": "/home/a b/ä"},
        "limits": Limits(memory=1 << 30, cpus=1.5),
    }
    return Container(**{**fields, **changes})


def state(now: dict[str, Any], last: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    return {"phase": "Running", "containerStatuses": [{"state": now, "lastState": last or {}}]} | (
        status
    )


def ended(code: int = 0, **more: str) -> dict[str, Any]:
    times = {"startedAt": "t1", "finishedAt": "t2"}
    return {"terminated": {"exitCode": code, **times, **more}}


@pytest.mark.parametrize(
    ("status", "expected", "reason"),
    [
        (state({"running": {"startedAt": "t3"}}), container(started="t3"), ""),
        (
            state({"running": {"startedAt": "t3"}}, ended(137)),
            container(started="t3", finished="t2"),
            "",
        ),
        ({"phase": "Pending"}, container(status="created"), ""),
        (
            state({"waiting": {"reason": "ContainerCreating"}}, phase="Pending"),
            container(status="created"),
            "",
        ),
        (
            state({"waiting": {"reason": "ErrImagePull", "message": "no host"}}, phase="Pending"),
            container(status="created", error="no host"),
            "ErrImagePull",
        ),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                ],
            },
            container(status="created", error="Unschedulable"),
            "Unschedulable",
        ),
        (
            state({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}, ended(1)),
            container(
                status="restarting", exit_code=1, error="back-off", started="t1", finished="t2"
            ),
            "CrashLoopBackOff",
        ),
        (
            state(ended(137, reason="OOMKilled")),
            container(
                status="restarting",
                exit_code=137,
                started="t1",
                finished="t2",
                error="it ran out of memory, and the kernel killed its main process",
            ),
            "OOMKilled",
        ),
        # The agent leaves its exit code behind.
        (
            state(ended(0, message="79", reason="Completed"), phase="Succeeded"),
            container(status="exited", exit_code=79, started="t1", finished="t2"),
            "Completed",
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
            container(status="lost", exit_code=137, error="Evicted: low on memory"),
            "Evicted",
        ),
        (
            {"phase": "Unknown", "reason": "NodeLost", "message": "no answer"},
            container(status="unknown", error="no answer"),
            "NodeLost",
        ),
    ],
)
def test_the_state_of_a_pod(status: dict[str, Any], expected: Container, reason: str) -> None:
    found = described.parse(json.dumps(pod(status)))
    ended = status["phase"] in ("Succeeded", "Failed")
    assert found == [described.Pod(expected, reason, has_ended=ended, uid="aaaa-bbbb")]


def claimed(**metadata: Any) -> dict[str, Any]:
    found = claims.claim(manifest.pod(KEPT, ID, {}), 1 << 30, None)
    found["metadata"] |= {"creationTimestamp": "2026-11-29T21:00:00Z", "uid": "c", **metadata}
    return found


def kept_pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {**pod(status, **metadata), "spec": manifest.pod(KEPT, ID, {})["spec"]}


def test_a_claim_without_a_pod_is_a_container_that_has_ended() -> None:
    found = described.parse(json.dumps({"items": [claimed()]}))
    assert [each.container for each in found] == [
        container(
            status="exited",
            exit_code=137,
            error="its pod is gone",
            created="2026-11-29T21:00:00Z",
        )
    ]
    assert claims.pod(found[0].record)["metadata"]["name"] == POD
    assert not found[0].exists


def test_a_pod_and_its_claim_are_one_container_as_old_as_the_claim() -> None:
    running = kept_pod({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]})
    found = described.parse(json.dumps({"items": [running, claimed()]}))
    assert [each.container for each in found] == [container(created="2026-11-29T21:00:00Z")]
    assert found[0].exists
    assert found[0].keeps_files
    assert found[0].record


def test_a_pod_whose_node_is_gone_has_ended_if_its_files_are_kept() -> None:
    leaving = kept_pod({"phase": "Running"}, deletionTimestamp="t")
    found = described.parse(json.dumps({"items": [leaving, claimed()]}))[0]
    assert (found.container.status, found.container.error) == ("exited", described.LEAVING)
    removed = described.parse(json.dumps({"items": [leaving, claimed(deletionTimestamp="t")]}))[0]
    assert removed.container.status == "removing"


@pytest.mark.parametrize("record", ["", "[]", "{", '{"spec": 1}', '{"spec": {"containers": []}}'])
def test_a_claim_whose_record_was_changed_is_listed_all_the_same(record: str) -> None:
    changed = claimed()
    changed["metadata"]["annotations"]["claude-mcp.record"] = record
    found = described.parse(json.dumps(changed))[0]
    assert (found.container.name, found.container.image, found.record) == ("claude-mcp-a", "", "")


def test_a_pod_that_is_being_removed() -> None:
    found = described.parse(json.dumps(pod({"phase": "Running"}, deletionTimestamp="t")))
    assert found[0].container == container(status="removing")


def test_lists_and_nothing() -> None:
    one = pod(state({"running": {"startedAt": "t3"}}))
    listed = described.parse(json.dumps({"items": [one, one]}))
    assert [each.container for each in listed] == [container(started="t3")] * 2
    assert described.parse("\n") == []


def test_a_pod_that_others_made_has_no_labels() -> None:
    other = pod(state({"running": {"startedAt": "t3"}}), labels={}, annotations={})
    found = described.parse(json.dumps(other))[0].container
    assert (found.id, found.name, found.labels) == ("aaaabbbb", POD, {})


@pytest.mark.parametrize("names", ["nonsense", '{"a": 1}', '["missing"]'])
def test_labels_that_somebody_damaged_are_left_out(names: str) -> None:
    other = pod({"phase": "Pending"}, annotations={"claude-mcp.labels": names})
    assert described.parse(json.dumps(other))[0].container.labels == {}


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"items": [{}]}'])
def test_a_malformed_answer_is_an_error(text: str) -> None:
    with pytest.raises(EngineError, match="malformed"):
        described.parse(text)


def test_only_an_image_or_a_missing_node_is_waited_for_in_vain() -> None:
    stuck = state({"waiting": {"reason": "ErrImagePull"}}, phase="Pending")
    found = described.parse(json.dumps(pod(stuck)))[0]
    assert (found.is_stuck, found.may_be_placed) == (True, False)
    full = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}
    found = described.parse(json.dumps(pod(full)))[0]
    assert (found.is_stuck, found.may_be_placed) == (True, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2", 2.0), ("1500m", 1.5), ("1Ki", 1024.0), ("2G", 2e9), ("0.5", 0.5), ("x", None)],
)
def test_quantities(text: str, expected: float | None) -> None:
    assert described.quantity(text) == expected


def test_a_stream_of_objects_is_cut_where_they_end() -> None:
    objects = described.Objects()
    text = json.dumps({"a": 1}, indent=1) + "\n" + json.dumps({"b": "}"}) + "\n"
    found = [each for piece in text for each in objects.feed(piece)]
    assert found == [{"a": 1}, {"b": "}"}]


def test_what_pods_take() -> None:
    said = f"{POD}   250m   300Mi\nother 1m 1Mi\nshort\n"
    nothing = (None,) * 6
    assert usage.parse(said, [ID]) == [Stats(ID, 25.0, 300 << 20, *nothing)]


# Failures.
REFUSED = "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host"
NO_CLUSTER = REFUSED.replace("127.0.0.1:6443", "localhost:8080")
NO_PLUGIN = (
    "Unable to connect to the server: getting credentials: exec: executable some-login not found\n"
    "\nIt looks like you are trying to use a client-go credential plugin that is not installed."
)
NO_USER = "error: EOF"


@pytest.mark.parametrize(
    ("stderr", "kind", "hint"),
    [
        (f'Error from server (NotFound): pods "{POD}" not found', ContainerNotFound, None),
        ("claude-mcp: this is another pod\ncommand terminated with exit code 1",
         ContainerNotFound, None),
        (f'Error from server (AlreadyExists): error when creating "STDIN": pods "{POD}" already '
         "exists", ContainerNameInUse, None),
        ('Error from server (Forbidden): error when creating "STDIN": pods "x" is forbidden: '
         "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
         EngineError, "quota"),
        ('Error from server (Forbidden): pods is forbidden: User "u" cannot list resource "pods"',
         EngineError, "Role"),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', EngineError, "policy"),
        (REFUSED, EngineUnavailable, "cluster runs"),
        (NO_CLUSTER, EngineUnavailable, "KUBECONFIG"),
        (NO_PLUGIN, EngineUnavailable, "PATH"),
        ("Unable to connect to the server: getting credentials: exec: executable /bin/false failed "
         "with exit code 1", EngineUnavailable, "Log in"),
        (NO_USER, EngineUnavailable, "Log in"),
        ("error: tls: failed to find any PEM data in key input", EngineUnavailable,
         "certificate and key"),
        ("Error from server (BadRequest): the server rejected our request for an unknown reason",
         EngineUnavailable, "https"),
        ("Unable to connect to the server: x509: certificate has expired or is not yet valid: "
         "current time 2026-11-29T22:00:00Z is after 2026-01-01T00:00:00Z",
         EngineUnavailable, "renew"),
        ("Unable to connect to the server: x509: certificate signed by unknown authority",
         EngineUnavailable, "authority"),
        ("error: You must be logged in to the server (Unauthorized)", EngineUnavailable, "Log in"),
        ('error: context "nope" does not exist', EngineUnavailable, "get-contexts"),
        ("error: unable to upgrade connection: container not found (\"main\")",
         ContainerNotRunning, None),
        ("error: cannot exec into a container in a completed pod; current phase is Succeeded",
         ContainerNotRunning, None),
        ("sh: 1: Cannot fork: Resource temporarily unavailable", ProcessLimitReached, None),
        ('OCI runtime exec failed: exec: "python3": executable file not found in $PATH',
         ImageUnfit, None),
        ('Error from server (NotFound): namespaces "x" not found', EngineError, "namespace"),
        ('Error from server (Forbidden): pod rejected: RuntimeClass "gvisor" not found',
         EngineError, "Role"),
        ("error: Metrics API not available", EngineError, "metrics server"),
        ("something else", EngineError, None),
    ],
)  # fmt: skip
def test_what_kubectl_says_becomes_a_typed_error(
    stderr: str, kind: type[EngineError], hint: str | None
) -> None:
    error = failures.classify("do it", f'Defaulted container "main"\n{stderr}\n')
    assert type(error) is kind
    assert (hint or "") in (error.hint or "")
    assert (error.hint is None) is (hint is None)


def test_the_message_says_what_was_tried_in_one_sentence() -> None:
    error = failures.classify("list containers", "Error from server (Timeout): it was slow\n")
    assert error.message == "Kubernetes could not list containers: it was slow."
    error = failures.classify("list containers", REFUSED)
    assert error.message == f"Kubernetes cannot be reached: {REFUSED}."
    error = failures.classify("list containers", NO_PLUGIN)
    assert error.message.endswith("getting credentials: exec: executable some-login not found.")


def test_what_kubectl_says_of_its_own_defaults_is_replaced() -> None:
    error = failures.classify("list containers", NO_CLUSTER)
    assert "no kubeconfig file with a current context." in error.message
    error = failures.classify("list containers", NO_USER)
    assert "has no credentials for this context." in error.message


def test_a_pod_that_does_not_start() -> None:
    error = failures.stuck("image:1", "start it", "ErrImagePull", "not there")
    assert isinstance(error, ImageNotFound)
    assert error.message == "Kubernetes cannot get image image:1: ErrImagePull: not there."
    error = failures.stuck("image:1", "start it", "Unschedulable", "")
    assert error.message == "Kubernetes could not start it: Unschedulable: Unschedulable."
    assert "smaller limits" in (error.hint or "")
