"""Reads the git objects that a session collected, without git, and compares two of its trees.

The rule: everything here is hostile. An object counts only if its content has its name, so what
leads from a known commit or tree is as trustworthy as that. Format: ``git cat-file --batch``.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from claude_mcp.errors import WorkRefused
from claude_mcp.sessions.git.bundle import MAX_OBJECT_BYTES, MAX_OBJECTS, Stopped
from claude_mcp.sessions.git.rules import ABSENT, Entry

READ_BYTES: Final = 1024 * 1024
HEAD_BYTES: Final = 200
MAX_TREE_BYTES: Final = 64 * 1024 * 1024
MAX_ENTRIES: Final = 500_000
MAX_DEPTH: Final = 256
MAX_COMPARED_BYTES: Final = 128 * 1024 * 1024
"""Of the trees that are compared and the paths that differ. One tree may be in many places, so few
objects can make more directories than anybody could visit."""
TREE_BYTES: Final = 1024
"""What a tree counts at least."""
TREE: Final = 0o040000
FORMATS: Final = {40: "sha1", 64: "sha256"}
"""By the length of a name."""
_HEAD: Final = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) (blob|tree|commit|tag) ([0-9]{1,12})\n")
_TREE_OF: Final = re.compile(rb"tree ([0-9a-f]{40}|[0-9a-f]{64})\n")
_ENTRY: Final = re.compile(rb"([0-7]{5,6}) ([^\0]+)\0", re.DOTALL)

Pair = tuple[int, str]
"""The mode and the object of an entry."""
NOTHING: Final[Pair] = (ABSENT, "")


@dataclass(frozen=True, slots=True)
class Objects:
    """Where the objects are in an open file, by name: kind, offset and size."""

    file: BinaryIO = field(repr=False)
    object_format: str
    found: dict[str, tuple[str, int, int]] = field(default_factory=dict, repr=False)

    def content(self, name: str, kind: str = "blob", limit: int = MAX_OBJECT_BYTES) -> bytes:
        """Raises WorkRefused: the session did not send it, or it is too large."""
        offset, size = self._at(name, kind)
        if size > limit:
            raise WorkRefused(f"The session sent a {kind} of {size} bytes.")
        self.file.seek(offset)
        return self.file.read(size)

    async def copy(self, name: str, write: Callable[[bytes], object]) -> None:
        """Write the content of a blob, piece by piece; raises likewise, or OSError of ``write``."""
        offset, left = self._at(name, "blob")
        while left:
            self.file.seek(offset)
            piece = self.file.read(min(left, READ_BYTES))
            write(piece)
            offset, left = offset + len(piece), left - len(piece)

    def _at(self, name: str, kind: str) -> tuple[int, int]:
        found = self.found.get(name)
        if found is None or found[0] != kind:
            raise WorkRefused(f"The session did not send the {kind} {name[:12]}.")
        return found[1:]

    def tree_of(self, name: str) -> str:
        """The tree of a commit; of a tree, itself."""
        found = self.found.get(name)
        if found is None or found[0] != "commit":
            return name
        tree = _TREE_OF.match(self.content(name, "commit", MAX_TREE_BYTES))
        if tree is None:
            raise WorkRefused("The session sent a broken commit.")
        return tree[1].decode()


def read(file: BinaryIO, object_format: str, stop: threading.Event) -> Objects:
    """Find all objects in a file, and check that each has its name.

    Raises:
        WorkRefused, Stopped
    """
    objects = Objects(file, object_format)
    file.seek(0)
    while head := file.readline(HEAD_BYTES):
        found = _HEAD.fullmatch(head)
        if found is None:
            raise WorkRefused("What the session sent is not a list of objects.")
        name, kind, size = found[1].decode(), found[2].decode(), int(found[3])
        if size > MAX_OBJECT_BYTES or len(objects.found) >= MAX_OBJECTS:
            raise WorkRefused("The session sent objects that are too large or too many.")
        objects.found[name] = (kind, file.tell(), size)
        digest = hashlib.new(object_format, usedforsecurity=False)
        digest.update(b"%s %d\0" % (found[2], size))
        while size:
            if stop.is_set():
                raise Stopped
            piece = file.read(min(size, READ_BYTES))
            if not piece:
                raise WorkRefused("What the session sent is cut off.")
            digest.update(piece)
            size -= len(piece)
        if digest.hexdigest() != name or file.read(1) != b"\n":
            raise WorkRefused(f"The object {name[:12]} that the session sent has another content.")
    return objects


def changed(objects: Objects, old: str, new: str, paths: Sequence[str] = ()) -> list[Entry]:
    """The entries that differ between two trees, of some paths only, if given.

    Raises:
        WorkRefused
    """
    wanted = [path.rstrip("/") for path in paths]
    wanted = [] if "." in wanted else wanted
    entries: list[Entry] = []
    for entry in _Comparison(objects, wanted).differing(old, new, "", 0):
        entries.append(entry)
        if len(entries) > MAX_ENTRIES:
            raise WorkRefused(f"The session changed more than {MAX_ENTRIES} files.")
    return entries


class _Comparison:
    def __init__(self, objects: Objects, wanted: Sequence[str]) -> None:
        self._objects, self._wanted = objects, wanted
        self._left = MAX_COMPARED_BYTES

    def differing(self, old: str, new: str, above: str, depth: int) -> Iterator[Entry]:
        if depth > MAX_DEPTH:
            raise WorkRefused("The session's directories are nested too deeply.")
        before, after = self._entries(old), self._entries(new)
        for name in sorted({*before, *after}):
            path = above + name
            was, now = before.get(name, NOTHING), after.get(name, NOTHING)
            if was == now or not _concerns(path, self._wanted):
                continue
            first, second = (each[1] if each[0] == TREE else "" for each in (was, now))
            if first or second:
                yield from self.differing(first, second, f"{path}/", depth + 1)
            was, now = (NOTHING if each[0] == TREE else each for each in (was, now))
            if was != now:
                self._count(len(path))
                yield Entry(path, *was, *now)

    def _entries(self, tree: str) -> dict[str, Pair]:
        if not tree:
            return {}
        content = self._objects.content(tree, "tree", MAX_TREE_BYTES)
        self._count(max(len(content), TREE_BYTES))
        return _parsed(content, self._objects.object_format)

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise WorkRefused("The session changed too many files and directories.")


def _concerns(path: str, wanted: Sequence[str]) -> bool:
    """Whether a path is wanted, lies in a wanted directory, or leads to a wanted path."""
    return not wanted or any(
        path == each or path.startswith(f"{each}/") or each.startswith(f"{path}/")
        for each in wanted
    )


def _parsed(content: bytes, object_format: str) -> dict[str, Pair]:
    size = hashlib.new(object_format, usedforsecurity=False).digest_size
    entries: dict[str, Pair] = {}
    position = 0
    while position < len(content):
        head = _ENTRY.match(content, position)
        if head is None or head.end() + size > len(content):
            raise WorkRefused("The session sent a broken tree.")
        name = head[2].decode("utf-8", "surrogateescape")
        if "/" in name or name in entries:
            raise WorkRefused("The session sent a tree with names that must not exist.")
        entries[name] = int(head[1], 8), content[head.end() : head.end() + size].hex()
        position = head.end() + size
    return entries
