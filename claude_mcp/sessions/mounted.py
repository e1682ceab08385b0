"""Whether the host paths that a session mounts are still those that it was created with.

An engine looks each path up again at every start, and follows a link that has been put in its
place. So their identities are kept in a label of the container and compared before a start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from claude_mcp.errors import NextStep, SessionNotReady
from claude_mcp.sessions.paths.identity import identities as identities_at
from claude_mcp.sessions.paths.mounts import read_mounts
from claude_mcp.sessions.session import Session

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
LOOK_SECONDS: Final = 5.0
"""How long a file system may take to say what is at the paths."""

Identity = tuple[int, int]
"""Device and inode."""


async def identities(paths: Sequence[str]) -> tuple[Identity | None, ...]:
    """Device and inode of each real path; None if it is missing or contains a link."""
    found = await anyio.to_thread.run_sync(identities_at, list(paths), abandon_on_cancel=True)
    return tuple(found)


def to_label(
    paths: Sequence[str],
    found: Sequence[Identity | None],
    below: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The label of mounted paths with these identities.

    A directory must stay the same one. A file may be replaced, as editors do, and so may what lies
    in another mounted directory; neither may become a link. ``below`` has the directories below
    which no further file system may be mounted, with those that are.
    """
    kept = []
    for path, identity in zip(paths, found, strict=False):
        inside = any(path.startswith(f"{other.rstrip('/')}/") for other in paths)
        exact = identity is not None and os.path.isdir(path) and not inside
        kept.append([path, *(identity or ())] if exact else [path])
    fields: dict[str, Any] = {"boot": boot_id(), "paths": kept}
    if below:
        fields["below"] = {path: list(points) for path, points in below.items()}
    return json.dumps(fields, separators=(",", ":"))


async def check(session: Session) -> None:
    """Raises SessionNotReady if the session would now see something else at one of its mounts."""
    paths, expected, boot = _read(session.mounted)
    below = _read_below(session.mounted)
    try:
        with anyio.fail_after(LOOK_SECONDS):
            found = await identities(paths)
            further = (
                await anyio.to_thread.run_sync(_further, below, abandon_on_cancel=True)
                if below
                else None
            )
    except TimeoutError:
        raise SessionNotReady(
            f"The file system of {', '.join(paths)} does not answer, so the session "
            f"{session.name!r} cannot be used.",
            hint="Try again when it does.",
        ) from None
    for path, before, now in zip(paths, expected, found, strict=True):
        if now is None:
            raise _replaced(session, path, "It is missing, or a link leads to it.")
        # A device may have another number after a restart of the host.
        same_device = (
            boot in (None, "") or boot != boot_id() or before is None or before[0] == now[0]
        )
        if before is not None and (before[1] != now[1] or not same_device):
            raise _replaced(session, path, "Another directory has been put in its place.")
    if further is not None:
        raise SessionNotReady(
            f"Another file system has been mounted at {further} since the session "
            f"{session.name!r} was created. This engine would make it writable for the session, "
            "which may only read the directory above it.",
            hint="Unmount it, or create a new session.",
            steps=(NextStep.DESTROY,),
        )


def _further(below: Mapping[str, Sequence[str]]) -> str | None:
    """Where another file system than these is mounted below one of the directories."""
    mounts = read_mounts()
    for path, known in below.items():
        for point in mounts.points_below(path):
            if point not in known:
                return point
    return None


async def is_replaced(session: Session) -> bool:
    """Whether ``check`` refuses the session."""
    try:
        await check(session)
    except SessionNotReady:
        return True
    return False


def _replaced(session: Session, path: str, how: str) -> SessionNotReady:
    return SessionNotReady(
        f"{path} is not what it was when the session {session.name!r} was created. {how}",
        hint="So that the session does not get at other files, it is not started and nothing is "
        "copied. Put the former one back, or destroy the session.",
        steps=(NextStep.DESTROY,),
    )


def _read(label: str) -> tuple[list[str], list[Identity | None], str | None]:
    """Paths, their identities where they must be the same, and the boot they were taken in."""
    try:
        fields: dict[str, Any] = json.loads(label or "{}")
        paths = [str(path) for path, *_ in fields.get("paths", ())]
        expected = [_identity(rest) for _, *rest in fields.get("paths", ())]
        return paths, expected, fields.get("boot")
    except (ValueError, TypeError, AttributeError, RecursionError):
        return [], [], None


def _read_below(label: str) -> dict[str, list[str]]:
    try:
        found = json.loads(label or "{}").get("below", {})
        return {str(path): [str(point) for point in points] for path, points in found.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _identity(numbers: Sequence[Any]) -> Identity | None:
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else None


def boot_id() -> str | None:
    """What tells one start of this host from the next; None where the kernel does not say."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return None
