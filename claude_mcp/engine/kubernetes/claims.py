"""The claim of a container whose kept directories outlive its pod.

The claim has the pod's name, labels and annotations, and the pod's whole description as a record.
So it is found as the pod is, and the pod can be created again when it is gone.
"""

from __future__ import annotations

import json
from typing import Any, Final

from claude_mcp.engine.kubernetes import marks
from claude_mcp.engine.kubernetes.manifest import Manifest

KIND: Final = "PersistentVolumeClaim"


def claim(pod: Manifest, size: int, storage_class: str | None) -> Manifest:
    """The claim for a pod's directories; without a class it is of the cluster's default one."""
    metadata = pod["metadata"]
    wanted: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": str(size)}},
    }
    if storage_class is not None:
        wanted["storageClassName"] = storage_class
    record = json.dumps(_without_input(pod), separators=(",", ":"))
    return {
        "apiVersion": "v1",
        "kind": KIND,
        "metadata": {**metadata, "annotations": {**metadata["annotations"], marks.RECORD: record}},
        "spec": wanted,
    }


def _without_input(pod: Manifest) -> Manifest:
    """Nobody is attached to a pod that is created again, so its input is at its end at once."""
    containers: list[dict[str, Any]] = [
        {name: value for name, value in each.items() if name not in ("stdin", "stdinOnce")}
        for each in pod["spec"]["containers"]
    ]
    return {**pod, "spec": {**pod["spec"], "containers": containers}}


def pod(record: str) -> Manifest:
    """The pod that a claim describes. Raises ValueError: somebody changed the record."""
    found = json.loads(record)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
