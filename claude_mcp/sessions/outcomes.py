"""What front ends get of their sessions: which there are, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from claude_mcp.errors import SessionNotFound
from claude_mcp.sessions.session import Session

if TYPE_CHECKING:
    from claude_mcp.sessions.activity import Activity

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """A session and what it is doing, None if it does not run or was not asked.

    ``problem`` says why a session that was asked did not report it.
    """

    session: Session
    engine: str
    activity: Activity | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Destroyed:
    """``existed`` is False if there was nothing left to destroy."""

    reference: str
    session: Session | None
    existed: bool
    warnings: tuple[str, ...] = ()
    not_found: SessionNotFound | None = field(default=None, compare=False)
    """Set if no session with this reference was ever known here; it names the nearest one. If a
    container has its name and is not ours, ``warnings`` has that too."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """One of several engines that did not answer, by its name, and why."""

    engine: str
    problem: str

    def __str__(self) -> str:
        return f"Engine {self.engine} does not answer: {self.problem}"


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """What engines answered, in their order, and which of them did not."""

    found: Sequence[T]
    unreachable: tuple[Unreachable, ...] = ()
