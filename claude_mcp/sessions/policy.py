"""Which host paths a session may have."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from claude_mcp.errors import UsageError


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


def project(value: str) -> Project:
    """Check a project path.

    Raises:
        UsageError: relative, missing, not a directory, unreadable, or the root of the file system.
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
    if str(path) == "/":
        raise UsageError("The root of the file system cannot be a project.")
    return Project(str(path), status.st_uid, status.st_gid)


def current_uid() -> int:
    """The user that this process, and so a rootless engine, runs as."""
    return os.geteuid()
