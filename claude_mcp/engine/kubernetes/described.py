"""Reads how the API server describes pods and claims.

A pod and its claim are one container. A claim without a pod is a container that has ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from claude_mcp.engine.engine import BEING_REMOVED, LOST, Container
from claude_mcp.engine.kubernetes import claims, marks
from claude_mcp.engine.spec import Limits
from claude_mcp.errors import EngineError

SHOWN_CHARS: Final = 200
STUCK: Final = frozenset(
    (
        "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName",
        "ImageInspectError", "RegistryUnavailable", "CreateContainerConfigError",
        "CreateContainerError", "CreatePodSandboxError", "RunContainerError",
    )
)  # fmt: skip
"""Reasons of a container that waits and will not start before somebody changes something."""
UNSCHEDULABLE: Final = "Unschedulable"
ENDED: Final = ("Succeeded", "Failed")
"""Phases in which no container is started again."""
KILLED_EXIT_CODE: Final = 137
"""That of a pod whose container the node no longer describes, as after an eviction."""
GONE: Final = "its pod is gone"
OOM_KILLED: Final = "OOMKilled"
_OUT_OF_MEMORY: Final = "it ran out of memory, and the kernel killed its main process"
LEAVING: Final = "its pod is being removed, or its node does not answer"
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_FACTORS: Final[Mapping[str | None, float]] = {
    None: 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip
_EXIT_CODE: Final = re.compile(r"\d{1,3}")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod's container, and why the pod does not get on, if it does not."""

    container: Container
    reason: str = ""
    """One word of Kubernetes, such as ``ErrImagePull`` or ``Evicted``."""
    keeps_files: bool = False
    """Whether its directories lie in a claim."""
    record: str = ""
    """The description from which the pod of a claim is created again."""
    exists: bool = True
    """False if only its claim is left."""
    has_ended: bool = False
    """Whether its containers have ended for good."""
    uid: str = ""
    """The cluster's own id of the pod; a pod that is created again has another one."""

    @property
    def is_stuck(self) -> bool:
        """Whether its container has not started and will not before something changes."""
        return self.container.status == "created" and bool(self.reason)

    @property
    def may_be_placed(self) -> bool:
        """Whether all that it lacks is a node with room, which others may make."""
        return self.reason == UNSCHEDULABLE


def parse(stdout: str) -> list[Pod]:
    """Read pods and claims as ``get --output=json`` prints them: one, a list, or nothing.

    Raises:
        EngineError: it is malformed.
    """
    if not stdout.strip():
        return []
    try:
        answer: Any = json.loads(stdout)
        items = answer.get("items", [answer])
        return [*_joined(items)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise EngineError(
            f"The answer of kubectl is malformed: {stdout[:SHOWN_CHARS]!r}."
        ) from error


def pod(described: Mapping[str, Any]) -> Pod:
    """Read one pod. Raises LookupError, TypeError, ValueError or AttributeError."""
    metadata, spec = described["metadata"], described["spec"]
    status = described.get("status") or {}
    annotations = metadata.get("annotations") or {}
    own = (metadata.get("labels") or {}).get(marks.ID) or metadata["uid"].replace("-", "")
    state = _state(metadata, status)
    keeps_files = any("persistentVolumeClaim" in each for each in spec.get("volumes") or ())
    # A reason of the pod itself, such as Evicted: its container was not merely over.
    lost = state.status == "exited" and bool(status.get("reason")) and not keeps_files
    return Pod(
        Container(
            id=own,
            name=annotations.get(marks.CONTAINER) or metadata["name"],
            created=metadata["creationTimestamp"],
            status=LOST if lost else state.status,
            exit_code=state.exit_code,
            error=state.error,
            image=spec["containers"][0]["image"],
            labels=_labels(annotations),
            started=state.started,
            finished=state.finished,
            limits=_limits(spec["containers"][0]),
            address=status.get("podIP") or "",
        ),
        state.reason,
        keeps_files=keeps_files,
        has_ended=status.get("phase") in ENDED,
        uid=str(metadata.get("uid", "")),
    )


def _joined(items: Iterable[Mapping[str, Any]]) -> Iterator[Pod]:
    """Each pod with its claim, and then the claims without a pod."""
    pods = []
    kept: dict[str, Pod] = {}
    for each in items:
        if each.get("kind") == claims.KIND:
            found = _claim(each)
            kept[found.container.id] = found
        else:
            pods.append(pod(each))
    for found in pods:
        own = kept.pop(found.container.id, None)
        yield found if own is None else _with_claim(found, own)
    yield from kept.values()


def _with_claim(found: Pod, own: Pod) -> Pod:
    if own.container.status in BEING_REMOVED:
        return found
    container = replace(found.container, created=own.container.created)
    if container.status in BEING_REMOVED:
        container = replace(container, status="exited", exit_code=KILLED_EXIT_CODE, error=LEAVING)
    return replace(found, container=container, record=own.record)


def _claim(described: Mapping[str, Any]) -> Pod:
    """What a claim says of a pod that is gone."""
    metadata = described["metadata"]
    annotations = metadata.get("annotations") or {}
    record = annotations.get(marks.RECORD, "")
    try:
        main = claims.pod(record)["spec"]["containers"][0]
        image, limits = str(main["image"]), _limits(main)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        record, image, limits = "", "", Limits()
    removed = "deletionTimestamp" in metadata
    return Pod(
        Container(
            id=metadata["labels"][marks.ID],
            name=annotations.get(marks.CONTAINER) or metadata["name"],
            created=metadata["creationTimestamp"],
            status=BEING_REMOVED[0] if removed else "exited",
            exit_code=KILLED_EXIT_CODE,
            error="" if removed else GONE,
            image=image,
            labels=_labels(annotations),
            limits=limits,
        ),
        keeps_files=True,
        record=record,
        exists=False,
        has_ended=True,
    )


def _labels(annotations: Mapping[str, str]) -> dict[str, str]:
    try:
        names = json.loads(annotations.get(marks.LABELS, "[]"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(names, list):
        return {}
    return {name: annotations[name] for name in names if name in annotations}


@dataclass(frozen=True, slots=True)
class _State:
    status: str
    exit_code: int = 0
    error: str = ""
    reason: str = ""
    started: str = ""
    finished: str = ""


def _state(metadata: Mapping[str, Any], status: Mapping[str, Any]) -> _State:
    """The state in the words of ``Container.status``."""
    if "deletionTimestamp" in metadata:
        return _State(BEING_REMOVED[0])
    containers = status.get("containerStatuses") or [{}]
    now, last = (containers[0].get(name) or {} for name in ("state", "lastState"))
    before = last.get("terminated") or {}
    phase = status.get("phase")
    if phase in ENDED:
        return _ended(status, now.get("terminated") or before)
    if "running" in now:
        return _State(
            "running",
            started=now["running"].get("startedAt") or "",
            finished=before.get("finishedAt") or "",
        )
    ended = now.get("terminated") or before
    if ended:  # the node is about to start it again
        waiting = now.get("waiting") or {}
        return _State(
            "restarting",
            exit_code=_exit_code(ended),
            error=_OUT_OF_MEMORY
            if ended.get("reason") == OOM_KILLED
            else waiting.get("message") or "",
            reason=waiting.get("reason") or ended.get("reason") or "",
            started=ended.get("startedAt") or "",
            finished=ended.get("finishedAt") or "",
        )
    if phase == "Pending":
        return _pending(status, now.get("waiting") or {})
    return _State("unknown", error=status.get("message") or "", reason=status.get("reason") or "")


def _ended(status: Mapping[str, Any], ended: Mapping[str, Any]) -> _State:
    reason = status.get("reason") or ended.get("reason") or ""
    # What a container wrote itself is its exit code, not a reason.
    said = "" if _EXIT_CODE.fullmatch(ended.get("message") or "") else ended.get("message")
    return _State(
        "exited",
        exit_code=_exit_code(ended) if ended else KILLED_EXIT_CODE,
        error=_why(status) or said or ("" if reason == "Completed" else reason),
        reason=reason,
        started=ended.get("startedAt") or "",
        finished=ended.get("finishedAt") or "",
    )


def _why(status: Mapping[str, Any]) -> str:
    """Kubernetes' own words for the end of a pod, such as "Evicted: The node was low on ..."."""
    said = ((status.get(name) or "").strip() for name in ("reason", "message"))
    return ": ".join(filter(None, said))


def _exit_code(ended: Mapping[str, Any]) -> int:
    """A container that ends with 0 may have left another exit code; see ``Dialect.exit_file``."""
    code = int(ended.get("exitCode") or 0)
    said = (ended.get("message") or "").strip()
    return int(said) if code == 0 and _EXIT_CODE.fullmatch(said) else code


def _pending(status: Mapping[str, Any], waiting: Mapping[str, Any]) -> _State:
    reason = waiting.get("reason") or ""
    if reason in STUCK:
        return _State("created", error=waiting.get("message") or reason, reason=reason)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            why = condition.get("reason") or UNSCHEDULABLE
            return _State("created", error=condition.get("message") or why, reason=why)
    return _State("created")


def quantity(text: str) -> float | None:
    """A number with a unit as Kubernetes writes it; None if it is not one."""
    match = _QUANTITY.fullmatch(text)
    return None if match is None else float(match[1]) * _FACTORS[match[2]]


def _limits(container: Mapping[str, Any]) -> Limits:
    limits = (container.get("resources") or {}).get("limits") or {}
    memory, cpus = (quantity(str(limits.get(name, ""))) for name in ("memory", "cpu"))
    return Limits(memory=None if memory is None else int(memory), cpus=cpus)


class Objects:
    """Cuts a stream of JSON objects, each over several lines, into objects."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> Iterator[Any]:
        """The objects that are complete now."""
        self._rest += text
        decoder = json.JSONDecoder()
        while self._rest.lstrip():
            self._rest = self._rest.lstrip()
            try:
                found, end = decoder.raw_decode(self._rest)
            except ValueError:
                return
            self._rest = self._rest[end:]
            yield found
