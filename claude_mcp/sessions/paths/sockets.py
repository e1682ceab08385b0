"""Unix sockets of this host in a directory.

Whoever sees such a socket can connect to it, on a read-only mount too, and no network rule applies.
The kernel lists the sockets of this program's network namespace that are bound to a path. So no
directory is searched; sockets of other containers are not found.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from claude_mcp.sessions.paths.mounts import read_mounts

BOUND: Final = Path("/proc/net/unix")


def found_in(sources: Iterable[str], named: Collection[str] = ()) -> list[str]:
    """The sockets that are the given real paths or below them, sorted; if ``named`` holds names,
    only those of these names."""
    mounts = read_mounts()
    locations = {source: mounts.locate_real(source) for source in sources}
    found = set()
    for name in _bound():
        if named and os.path.basename(name) not in named:
            continue
        # A path is listed as it was bound. A relative one is seldom relative to another directory.
        for source, location in locations.items():
            path = os.path.join(source, name)
            if location.contains(mounts.locate(path)) and _is_socket(path):
                found.add(path)
    return sorted(found)


def _bound() -> Iterator[str]:
    """The paths that sockets are bound to, each once."""
    try:
        lines = BOUND.read_bytes().splitlines()[1:]
    except OSError:
        return
    names = {fields[7] for line in lines if len(fields := line.split(None, 7)) == 8}
    yield from (os.fsdecode(name) for name in names if not name.startswith(b"@"))


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False
