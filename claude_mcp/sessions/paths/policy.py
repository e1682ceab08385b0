"""Which host paths a session may have: as a mount, or in a transfer.

What is checked is the real path, without links. Whoever then opens it does that with
``agent/descriptors.py``, which follows no link that was put there since.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from claude_mcp.config import Config
from claude_mcp.config_names import ROOTS_NAME
from claude_mcp.errors import UsageError
from claude_mcp.placing import descriptors
from claude_mcp.sessions.paths.mounts import (
    HostMount,
    Place,
    below,
    is_within,
    place_of,
    read_mounts,
)
from claude_mcp.sessions.paths.protected import (
    NOT_SYSTEM,
    SOCKET,
    SOCKET_NAMES,
    SYSTEM_DIRECTORY,
    Protected,
    protected_paths,
)


@dataclass(frozen=True, slots=True)
class Project:
    """A project directory, with links resolved, and who owns it."""

    path: str
    uid: int
    gid: int


def absolute(value: str, what: str) -> str:
    """A path from the outside.

    Raises:
        UsageError: it is relative, empty, or cannot be a path at all.
    """
    if "\0" in value:
        raise UsageError(f"{what} holds a NUL character.")
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} must be valid Unicode.") from error
    if not value.startswith("/"):
        raise UsageError(f"{what} must be an absolute path, and {value[:200]!r} is not.")
    return value


def host_path(value: str, what: str) -> Path:
    """As ``absolute``, for a path of the host, with ``~`` expanded."""
    expanded = value if "\0" in value else os.path.expanduser(value)
    return Path(absolute(expanded, what))


def project(value: str, config: Config) -> Project:
    """Check a project path.

    Raises:
        UsageError: relative, missing, not a directory, unreadable, or refused by a rule.
    """
    given = host_path(value, "projectPath")
    try:
        path = given.resolve(strict=True)
        status = path.stat()
    except FileNotFoundError:
        raise UsageError(f"There is no project directory {value!r}.") from None
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"The project path {value!r} cannot be used: {reason}.") from error
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(f"The project path {value!r} is not a directory.")
    check(str(path), f"The project path {value!r}", config, status.st_uid)
    return Project(str(path), status.st_uid, status.st_gid)


def mount_source(value: str, config: Config) -> str:
    """As ``project``, for a further file or directory of the host; returns its real path."""
    given = host_path(value, "mcpMounts.hostPath")
    try:
        path = given.resolve(strict=True)
        owner = path.stat().st_uid
    except FileNotFoundError:
        raise UsageError(f"There is no {value!r} to mount.") from None
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{value!r} cannot be mounted: {reason}.") from error
    check(str(path), f"The mount of {value!r}", config, owner)
    return str(path)


def check(path: str, title: str, config: Config, owner: int) -> None:
    """Refuse a real path by the rules; ``title`` is what the message calls it.

    Raises:
        UsageError: which rule it was, and what to do.
    """
    if path == "/":
        raise UsageError(
            f"{title} is refused: it is the root of the file system.", hint="Name a directory."
        )
    mounts = read_mounts()
    places = _Places(place_of(path, mounts), tuple(below(path, mounts)))
    # What people mount in a directory of the system is theirs.
    system = tuple(
        mount for mount in mounts if not any(is_within(mount.point, free) for free in NOT_SYSTEM)
    )
    known = [_known(each, mounts, system) for each in protected_paths(config, owner)]
    refusal = (
        _inside(path, places.own, known)
        or _engine_socket(path)
        or _around(path, places, known)
        or _outside(path, config.allowed_roots)
    )
    if refusal is not None:
        why, hint = refusal
        raise UsageError(f"{title} is refused: {why}.", hint=hint)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a path really is, and where what is mounted in it is."""

    own: Place
    below: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """A protected path under all its names."""

    protected: Protected
    names: tuple[str, str]
    places: _Places


def _known(
    protected: Protected, mounts: tuple[HostMount, ...], system: tuple[HostMount, ...]
) -> _Known:
    real = os.path.realpath(protected.path)
    places = _Places(place_of(real, mounts), tuple(below(real, system)))
    return _Known(protected, (protected.path, real), places)


def _inside(path: str, place: Place, known: list[_Known]) -> tuple[str, str] | None:
    """The innermost of the protected paths that this one is, or lies in."""
    free = any(is_within(path, each) for each in NOT_SYSTEM)
    for each in sorted(known, key=lambda one: len(one.names[1]), reverse=True):
        what = each.protected.what
        if free and what == SYSTEM_DIRECTORY:
            continue
        same = path in each.names or place == each.places.own
        if same and not each.protected.whole:
            return f"it is {what}", "Name a directory in it."
        if each.protected.whole and (
            any(is_within(path, name) for name in each.names)
            or any(place.within(shown) for shown in (each.places.own, *each.places.below))
        ):
            where = "it is" if same else f"it lies in {each.protected.path}, which is"
            return f"{where} {what}", "Copy what the session needs to a directory of its own."
    return None


def _around(path: str, places: _Places, known: list[_Known]) -> tuple[str, str] | None:
    """A protected path that lies in this one, or in what is mounted there."""
    for each in known:
        there = each.places.own
        if (
            any(is_within(name, path) for name in each.names)
            or any(there.within(place) for place in (places.own, *places.below))
            or (each.protected.whole and any(place.within(there) for place in places.below))
        ):
            why = f"{each.protected.path} is in it, and is {each.protected.what}"
            return why, "Name a directory in it that holds nothing of the kind."
    return None


def _engine_socket(path: str) -> tuple[str, str] | None:
    for name in (path, *(os.path.join(path, name) for name in SOCKET_NAMES)):
        if os.path.basename(name) in SOCKET_NAMES and _is_socket(name):
            where = "it is" if name == path else f"{name} is in it, and is"
            return f"{where} {SOCKET}", "Whoever has it has the host; there is no way around this."
    return None


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _outside(path: str, roots: tuple[str, ...]) -> tuple[str, str] | None:
    if not roots or any(_in_root(path, os.path.realpath(root)) for root in roots):
        return None
    return (
        f"it is in none of the allowed roots ({', '.join(roots)})",
        f"Name a path in one of them, or add its directory to {ROOTS_NAME}.",
    )


def _in_root(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root.rstrip('/')}/")


def identities(paths: Iterable[str]) -> list[tuple[int, int] | None]:
    """Device and inode of each real path; None where there is a link or nothing by now."""
    found: list[tuple[int, int] | None] = []
    for path in paths:
        directory, name = os.path.split(path)
        try:
            with descriptors.opened(directory) as opened:
                status = os.stat(name, dir_fd=opened, follow_symlinks=False)
        except OSError:
            found.append(None)
            continue
        found.append(None if stat.S_ISLNK(status.st_mode) else (status.st_dev, status.st_ino))
    return found


def current_uid() -> int:
    """The user that this process, and so a rootless engine, runs as."""
    return os.geteuid()
