"""What a check of `doctor` found, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    verdict: Verdict
    message: str
    hint: str | None = None
    engine: str | None = None
    """The name of the engine that it is about, if that has one."""
