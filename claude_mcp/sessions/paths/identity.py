"""What is at a path: its device and inode, without following a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from claude_mcp.placing import descriptors


def identities(paths: Iterable[str]) -> list[tuple[int, int] | None]:
    """Device and inode of each real path; None if it no longer exists or contains a link."""
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
