"""How a pod carries a container's name, id and labels.

A label of Kubernetes has a narrow alphabet and at most 63 characters, and only labels can be
selected by. So each label of a container is an annotation, whose value is free text, and a label
with the value itself or, if that is no label of Kubernetes, with a digest of it.

The API server keeps only the names of pods unique. So a pod's name follows from the container's
name, and the container's id contains it: whoever has the id needs no look-up, and the rest of the
id tells a pod from an earlier one of the same name.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

PREFIX: Final = "claude-mcp-"
"""How every pod's name begins."""
DIGEST_CHARS: Final = 20
"""Of the container's name: the rest of the pod's name, and the end of the id."""
RANDOM_CHARS: Final = 12
"""The beginning of an id. Shorter references are ambiguous no sooner than a random number is."""
ID_CHARS: Final = RANDOM_CHARS + DIGEST_CHARS

OURS: Final = "claude-mcp.pod"
"""The label of every pod of ours."""
ID: Final = "claude-mcp.id"
SHORT: Final = "claude-mcp.short"
"""The label with the beginning of the id."""
POD: Final = "claude-mcp.of"
"""The label of a policy with the end of its pod's name, which a later pod may have too."""
CONTAINER: Final = "claude-mcp.container"
"""The annotation with the container's name."""
LABELS: Final = "claude-mcp.labels"
"""The annotation that names the labels of the container, because a pod may be given others."""
RECORD: Final = "claude-mcp.record"
"""The annotation of a claim with the description of its pod."""
ID_VARIABLE: Final = "CLAUDE_MCP_POD"
"""The variable by which an exec notices that it reached another pod of the same name."""
UID_VARIABLE: Final = "CLAUDE_MCP_POD_UID"
"""The variable that tells a pod from an earlier one of the same container."""

_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_ID: Final = re.compile(rf"[0-9a-f]{{{ID_CHARS}}}")
_HEX: Final = re.compile(r"[0-9a-f]+")
_LABEL_DIGEST_CHARS: Final = 40


def _digest(text: str, chars: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:chars]


def new_id(container_name: str) -> str:
    return secrets.token_hex(RANDOM_CHARS // 2) + _digest(container_name, DIGEST_CHARS)


def is_id(ref: str) -> bool:
    return _ID.fullmatch(ref) is not None


def may_be_prefix(ref: str) -> bool:
    """Whether a reference may be the beginning of an id."""
    return len(ref) <= ID_CHARS and _HEX.fullmatch(ref) is not None


def name_digest(id: str) -> str:
    """That of the container's name, from its whole id."""
    return id[RANDOM_CHARS:]


def pod_name(ref: str) -> str:
    """The name of the pod of a container, by its whole id or by its name."""
    return PREFIX + (name_digest(ref) if is_id(ref) else _digest(ref, DIGEST_CHARS))


def label_value(value: str) -> str:
    """What a label of Kubernetes holds of a container's label."""
    if _LABEL.fullmatch(value):
        return value
    return f"sha256-{_digest(value, _LABEL_DIGEST_CHARS)}"
