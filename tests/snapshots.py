"""What a repository of the host consists of, byte for byte."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@b",
}
"""Of git as a user of the host calls it."""
Snapshot = dict[str, tuple[int, int, bytes]]
"""Path -> mode, time of change in nanoseconds (0 for directories), content or target."""


def git(repository: Path, *words: str, check: bool = True, data: bytes | None = None) -> str:
    """What the user of the host does by hand."""
    done = subprocess.run(
        ["git", "-C", str(repository), *words],
        check=False, capture_output=True, env=ENVIRONMENT, input=data,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "surrogateescape").strip()


def snapshot(root: Path) -> Snapshot:
    """Everything below ``root``: tree, index, configuration, refs, reflogs, objects, locks."""
    found: Snapshot = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            status = path.lstat()
            content, changed = b"", status.st_mtime_ns
            if stat.S_ISLNK(status.st_mode):
                content = os.fsencode(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            else:
                changed = 0
            found[os.path.relpath(path, root)] = (status.st_mode, changed, content)
    return found


def differences(before: Snapshot, after: Snapshot, allowed: Iterable[str] = ()) -> list[str]:
    """Paths that differ, without those that start with one of ``allowed``."""
    starts = tuple(allowed)
    paths = before.keys() | after.keys()
    return sorted(
        path
        for path in paths
        if before.get(path) != after.get(path) and not (starts and path.startswith(starts))
    )


NEW_OBJECTS = (".git/objects/",)


def ref_files(ref: str) -> tuple[str, ...]:
    """Where git keeps a ref and its reflog, with the directories above."""
    parts = ref.split("/")
    return tuple(
        f".git/{top}{'/'.join(parts[:count])}"
        for top in ("", "logs/")
        for count in range(len(parts), 2, -1)
    )


def is_sound(repository: Path) -> None:
    """No broken object, no lock, no temporary file, no worktree of ours."""
    git(repository, "fsck", "--full", "--strict", "--no-dangling")
    left = [
        str(path)
        for pattern in ("*.lock", "tmp_*", ".claude-mcp-*")
        for path in repository.rglob(pattern)
    ]
    assert left == []
    assert len(git(repository, "worktree", "list", "--porcelain").split("\n\n")) == 1
