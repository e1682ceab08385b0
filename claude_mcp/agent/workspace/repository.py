"""Reads where the workspace's own repository is and what it is at, without running git.

Everything read here may be forged, so sizes are bounded, and only regular files are read.
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

SMALL_BYTES = 4096
MAX_CONFIG_BYTES = 1024 * 1024
MAX_PACKED_REFS_BYTES = 64 * 1024 * 1024
MAX_INDEX_BYTES = 512 * 1024 * 1024
OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
BRANCHES = "refs/heads/"


class Head(NamedTuple):
    """The commit, None on an unborn branch, and the branch, None if HEAD is detached."""

    commit: str | None
    branch: str | None


class Repository(NamedTuple):
    """``directory`` has HEAD and the index; ``common`` has objects and refs. Often the same."""

    directory: str
    common: str

    @property
    def objects(self) -> str:
        return os.path.join(self.common, "objects")

    @property
    def index_file(self) -> str:
        return os.path.join(self.directory, "index")

    def head(self) -> Head:
        """Where HEAD is; a damaged one is taken for an unborn branch."""
        text = _text(os.path.join(self.directory, "HEAD"))
        if OBJECT_ID.fullmatch(text):
            return Head(text, None)
        name = text[len("ref: ") :].strip() if text.startswith("ref: ") else ""
        if not name.startswith(BRANCHES) or "/../" in name or "\0" in name:
            return Head(None, None)
        return Head(self._commit(name), name[len(BRANCHES) :])

    def _commit(self, reference: str) -> str | None:
        text = _text(os.path.join(self.common, reference))
        if OBJECT_ID.fullmatch(text):
            return text
        packed = read(os.path.join(self.common, "packed-refs"), MAX_PACKED_REFS_BYTES)
        found = re.search(
            rb"^([0-9a-f]{40,64}) " + re.escape(os.fsencode(reference)) + rb"$",
            packed,
            re.MULTILINE,
        )
        return found.group(1).decode() if found else None

    def object_format(self) -> str:
        config = read(os.path.join(self.common, "config"), MAX_CONFIG_BYTES)
        sha256 = re.search(
            rb"^\s*objectformat\s*=\s*\"?sha256", config, re.MULTILINE | re.IGNORECASE
        )
        return "sha256" if sha256 else "sha1"


def find(workspace: str) -> Repository | None:
    """The repository whose main directory is the workspace."""
    path = os.path.join(workspace, ".git")
    if not os.path.isdir(path):
        aim = _text(path)
        if not aim.startswith("gitdir:"):
            return None
        path = os.path.join(workspace, aim[len("gitdir:") :].strip())
    path = os.path.realpath(path)
    common = os.path.realpath(os.path.join(path, _text(os.path.join(path, "commondir")) or "."))
    if not os.path.isdir(os.path.join(common, "objects")):
        return None
    found = Repository(path, common)
    # Git would wait for a writer if the index were a FIFO.
    if os.path.lexists(found.index_file) and not os.path.isfile(found.index_file):
        return None
    return found


def read(path: str, limit: int) -> bytes:
    """The content of a regular file; empty if it is none, cannot be read or is longer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):  # ValueError: a null character
        return b""
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return b""
        try:
            return file.read(limit)
        except OSError:
            return b""


def _text(path: str) -> str:
    return os.fsdecode(read(path, SMALL_BYTES)).strip().replace("\0", "")
