"""Decides which host paths a session may have, as a mount or in a transfer.

The real path is checked, with links resolved. Callers then open it with ``placing.descriptors``,
which does not follow a link created since the check.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from claude_mcp.config import Config
from claude_mcp.config_names import ROOTS_NAME
from claude_mcp.contract.wording import named
from claude_mcp.errors import UsageError
from claude_mcp.sessions.paths import protected, sockets
from claude_mcp.sessions.paths.mounts import read_mounts
from claude_mcp.sessions.paths.protected import SOCKET, SOCKET_NAMES


@dataclass(frozen=True, slots=True)
class Project:
    """A project directory, with links resolved, and its owner."""

    path: str
    uid: int
    gid: int


def absolute(value: str, what: str) -> str:
    """Check a path that a caller passed.

    Raises:
        UsageError: it is relative, empty or not a valid path.
    """
    if "\0" in value:
        raise UsageError(f"{what} contains a NUL character.")
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{what} must be valid UTF-8: rename the file or directory whose name is not."
        ) from error
    if not value.startswith("/"):
        raise UsageError(f"{what} must be an absolute path, not {value[:200]!r}.")
    return value


def host_path(value: str, what: str) -> Path:
    """Like ``absolute``, for a path on the host; expands ``~``."""
    expanded = value if "\0" in value else os.path.expanduser(value)
    return Path(absolute(expanded, what))


def project(value: str, config: Config) -> Project:
    """Check a project path.

    Raises:
        UsageError: relative, missing, not a directory, unreadable, or refused by a rule.
    """
    given = host_path(value, named("projectPath"))
    try:
        path = given.resolve(strict=True)
        status = path.stat()
    except FileNotFoundError:
        raise UsageError(f"The project directory {value!r} does not exist.") from None
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"The project path {value!r} cannot be used: {reason}.", hint=access_hint(given, error)
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(f"The project path {value!r} is not a directory.")
    if not os.access(path, os.R_OK | os.X_OK):
        # Whatever is in it, such as a repository, could be neither found nor protected.
        raise UsageError(
            f"The project path {value!r} cannot be used: Permission denied.",
            hint=access_hint(path, PermissionError()),
        )
    check(str(path), f"The project path {value!r}", config, status.st_uid)
    return Project(str(path), status.st_uid, status.st_gid)


def mount_source(value: str, config: Config) -> str:
    """Like ``project``, for an additional file or directory; returns its real path."""
    given = host_path(value, "mcpMounts.hostPath")
    try:
        path = given.resolve(strict=True)
        owner = path.stat().st_uid
    except FileNotFoundError:
        raise UsageError(f"{value!r} cannot be mounted: it does not exist.") from None
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{value!r} cannot be mounted: {reason}.", hint=access_hint(given, error)
        ) from error
    check(str(path), f"The mount of {value!r}", config, owner)
    return str(path)


def access_hint(path: Path, error: Exception | None = None) -> str | None:
    """What would give this process or an engine access to a path; None if that is not clear."""
    mount = read_mounts().mount_of(os.path.normpath(path))
    if mount is not None and mount.for_one_user:
        return (
            f"{mount.point} is a FUSE file system, which only the user who mounted it may use. "
            "Mount it with '-o allow_other', which needs user_allow_other in /etc/fuse.conf."
        )
    if not isinstance(error, PermissionError):
        return None
    needed = [(each, os.X_OK) for each in reversed(path.parents)] + [(path, os.R_OK | os.X_OK)]
    closed = next((each for each, mode in needed if not os.access(each, mode)), None)
    if closed is None:
        return None
    return (
        f"Your user may not enter {closed}: its owner can permit it, for example with "
        f"'setfacl -m u:NAME:rx {closed}'."
    )


def check(path: str, title: str, config: Config, owner: int) -> None:
    """Check a real path against all rules; ``title`` names it in the message.

    Raises:
        UsageError: says which rule refuses it and what to do.
    """
    if path == "/":
        raise UsageError(
            f"{title} is refused: it is the root of the file system.", hint="Choose a directory."
        )
    mounts = read_mounts()
    requested = mounts.locate_real(path)
    refusal = (
        protected.refusal(requested, mounts, config, owner)
        or _engine_socket(path)
        or _outside(path, config.allowed_roots)
    )
    if refusal is not None:
        why, hint = refusal
        raise UsageError(f"{title} is refused: {why}.", hint=hint)


def _engine_socket(path: str) -> tuple[str, str] | None:
    # What listens is found at any depth; a socket that does not may be one later.
    bound = sockets.found_in([path], SOCKET_NAMES)
    for name in (path, *(os.path.join(path, name) for name in SOCKET_NAMES), *bound):
        if os.path.basename(name) in SOCKET_NAMES and _is_socket(name):
            where = "it is" if name == path else f"it contains {name}, which is"
            return f"{where} {SOCKET}", "It gives full access to the host; no option allows it."
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
        f"it is outside the allowed roots ({', '.join(roots)})",
        f"Choose a path in one of them, or add its directory to {ROOTS_NAME}.",
    )


def _in_root(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root.rstrip('/')}/")


def current_uid() -> int:
    """The uid of this process, and thereby of a rootless engine."""
    return os.geteuid()
