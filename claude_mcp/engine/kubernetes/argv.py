"""Argv for ``kubectl``: where the cluster is and a verb in, a tuple of strings out.

Pure functions. Every option has the form ``--name=value``. What stands alone is a pod's name, which
``marks`` makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from claude_mcp.engine.kubernetes import marks
from claude_mcp.engine.kubernetes.manifest import MAIN
from claude_mcp.engine.names import key, reference

Argv = tuple[str, ...]

PROGRAM: Final = "kubectl"
OTHER_POD: Final = "claude-mcp: this is another pod"
"""What an exec says that reached another pod of the same name."""
CLAIMS: Final = "persistentvolumeclaims"
KEPT: Final = f"pods,{CLAIMS}"
"""The kinds of objects that say that a container exists."""
POLICIES: Final = "networkpolicies.v1.networking.k8s.io"
"""With version and group: other programs may call theirs so too, and without the version, kubectl
would ask for the whole API each time (42 requests instead of 3)."""
_AT_ONCE: Final = (
    "--grace-period=0", "--force=true", "--wait=true", "--output=name", "--ignore-not-found=true",
)  # fmt: skip
_IN_THIS_POD: Final = (
    f'[ "${marks.ID_VARIABLE}" = "$0" ] || {{ echo "{OTHER_POD}" >&2; exit 1; }}; exec "$@"'
)
"""A shell script; its arguments are the pod's id and the command."""
TELL_UID: Final = ("/bin/sh", "-c", f'printf %s "${marks.UID_VARIABLE}"')
"""A command that prints the uid of the pod that it reached, if that has a claim."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where pods are. None is what ``kubectl`` takes by itself."""

    context: str | None = None
    namespace: str | None = None

    @property
    def options(self) -> Argv:
        given = (("context", self.context), ("namespace", self.namespace))
        return tuple(f"--{name}={value}" for name, value in given if value is not None)


def _kubectl(place: Place, verb: str, *rest: str) -> Argv:
    return (PROGRAM, *place.options, verb, *rest)


def version_argv(place: Place) -> Argv:
    """The versions of client and server."""
    return _kubectl(place, "version", "--output=json")


def create_argv(place: Place) -> Argv:
    """Reads the description of an object from stdin."""
    # Validation would fetch the whole schema of the API for each call. The server checks anyway.
    return _kubectl(place, "create", "--validate=false", "--filename=-", "--output=name")


def list_argv(place: Place, label: str, value: str | None = None) -> Argv:
    """Pods and claims with a label."""
    selector = key(label) if value is None else f"{key(label)}={marks.label_value(value)}"
    return _kubectl(place, "get", KEPT, f"--selector={selector}", "--output=json")


def get_argv(place: Place, pods: Sequence[str]) -> Argv:
    """Pods and their claims by their names; those that do not exist are left out."""
    return _kubectl(place, "get", KEPT, "--ignore-not-found=true", "--output=json", *pods)


def watch_argv(place: Place, pod: str) -> Argv:
    """A pod as it is, and again whenever it changes: one JSON object after another."""
    return _kubectl(
        place, "get", "pods", "--watch=true", f"--field-selector=metadata.name={pod}",
        "--output=json",
    )  # fmt: skip


def policies_argv(place: Place, id: str | None = None, *, ours: bool = False) -> Argv:
    """Policies of a pod and of earlier ones of its name, of all our pods, or all others."""
    selector = marks.ID if ours else f"!{marks.ID}"
    if id is not None:
        selector = f"{marks.POD}={marks.name_digest(reference(id))}"
    return _kubectl(place, "get", POLICIES, f"--selector={selector}", "--output=json")


def remove_policies_argv(place: Place, *ids: str) -> Argv:
    """Those of these pods."""
    selector = f"{marks.ID} in ({','.join(map(reference, ids))})"
    return _kubectl(place, "delete", POLICIES, f"--selector={selector}", "--output=name")


def claimed_argv(place: Place, pod: str) -> Argv:
    """Prints the name of a pod's claim, if there is one."""
    return _kubectl(place, "get", CLAIMS, "--ignore-not-found=true", "--output=name", pod)


def remove_argv(place: Place, id: str) -> Argv:
    """Remove pod, claim and policy; prints what was removed.

    By the id, so that a later pod of the same name is not removed.
    """
    kinds = f"{KEPT},{POLICIES}"  # the policy goes last
    return _kubectl(place, "delete", kinds, f"--selector={marks.ID}={reference(id)}", *_AT_ONCE)


def remove_pod_argv(place: Place, id: str, *, ended: bool) -> Argv:
    """Remove a pod, but not its claim; with ``ended``, only a pod whose container has ended."""
    running = ["--field-selector=status.phase!=Running,status.phase!=Pending"] if ended else []
    selector = f"--selector={marks.ID}={reference(id)}"
    return _kubectl(place, "delete", "pods", selector, *running, *_AT_ONCE)


def attach_argv(place: Place, pod: str) -> Argv:
    return _kubectl(place, "attach", "--stdin=true", f"--container={MAIN}", pod)


def exec_argv(
    place: Place,
    ref: str,
    command: Sequence[str],
    variables: Mapping[str, str] | None = None,
    *,
    terminal: bool = False,
) -> Argv:
    """A command in a pod. ``variables`` are added to its environment and must hold no secret."""
    assigned = [f"{key(name)}={value}" for name, value in (variables or {}).items()]
    wanted = [*(["env", *assigned] if assigned else []), *command]
    if marks.is_id(ref):
        wanted = ["/bin/sh", "-c", _IN_THIS_POD, ref, *wanted]
    options = ["--stdin=true", *(["--tty=true"] if terminal else []), f"--container={MAIN}"]
    return _kubectl(place, "exec", *options, marks.pod_name(ref), "--", *wanted)


def logs_argv(place: Place, pod: str, tail: int, *, follow: bool = False) -> Argv:
    options = [f"--container={MAIN}", "--timestamps=true", f"--tail={tail}"]
    return _kubectl(place, "logs", *options, *(["--follow=true"] if follow else []), pod)


def plain_logs_argv(place: Place, pod: str) -> Argv:
    """What a container wrote, without times."""
    return _kubectl(place, "logs", f"--container={MAIN}", pod)


def stats_argv(place: Place, refs: Sequence[str]) -> Argv:
    ids = ",".join(map(reference, refs))
    return _kubectl(place, "top", "pods", "--no-headers=true", f"--selector={marks.ID} in ({ids})")
