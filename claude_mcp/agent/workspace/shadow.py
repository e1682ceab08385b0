"""The shadow repository on disk: a bare one in the session's home that only the agent uses.

Its objects, refs and HEAD are written here without a process where that is simple.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from claude_mcp.agent.store import files
from claude_mcp.agent.workspace.git import Deadline, GitTimedOut
from claude_mcp.placing import descriptors
from claude_mcp.placing.staging import PREFIX as STAGING_PREFIX

NAME = "checkpoints.git"
VIEW = "worktrees/project"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
LOCK_POLL_SECONDS = 0.02

# Content is kept as it is on disk and shown as it is, whatever a project's attributes say.
ATTRIBUTES = b"* -text -filter -ident !eol !working-tree-encoding !diff !whitespace\n"
EXCLUDED = f"{STAGING_PREFIX}*/\n".encode()


class Shadow:
    """``path`` is the git directory. Its methods are called with its lock held."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, NAME)
        self.object_format = "sha1"
        self._latest_ns = 0

    def create(self, object_format: str) -> None:
        """Make an empty repository in the place of what may be there."""
        _remove(self.path)
        self.object_format = object_format
        for name in ("objects/pack", "refs/checkpoints", "info"):
            os.makedirs(os.path.join(self.path, name), mode=0o700)
        version = "0" if object_format == "sha1" else "1"
        config = f"[core]\n\trepositoryformatversion = {version}\n\tbare = true\n"
        if object_format != "sha1":
            config += f"[extensions]\n\tobjectFormat = {object_format}\n"
        files.replace(self._at("info/exclude"), EXCLUDED)
        files.replace(self._at("HEAD"), b"ref: refs/heads/none\n")
        files.replace(self._at("config"), config.encode())

    def make_view(self, head: str | None) -> str:
        """A git directory with this HEAD, which shares everything else with the shadow."""
        view = self._at(VIEW)
        os.makedirs(view, mode=0o700, exist_ok=True)
        content = "ref: refs/heads/none" if head is None else head
        files.replace(os.path.join(view, "commondir"), b"../..\n")
        files.replace(os.path.join(view, "HEAD"), f"{content}\n".encode())
        return view

    def remove_view(self) -> None:
        """Remove it, because its HEAD may name a commit that no longer exists."""
        _remove(self._at(VIEW))

    @contextmanager
    def locked(self, deadline: Deadline) -> Iterator[int]:
        """Yields the lock's descriptor, which git processes should inherit.

        Raises:
            GitTimedOut: another process holds the lock.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        descriptor = os.open(self.path + ".lock", flags, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not deadline.left():
                        raise GitTimedOut("the checkpoints are in use") from None
                    time.sleep(LOCK_POLL_SECONDS)
            self.remove_index_lock()
            yield descriptor
        finally:
            os.close(descriptor)

    def remove_index_lock(self) -> None:
        """Remove what a git that was killed has left. Our lock must be held."""
        with suppress(FileNotFoundError):
            os.unlink(self._at("index.lock"))

    def link_objects(self, objects: str) -> None:
        """Link to the objects of a repository, so that its ``gc`` takes none away.

        Does nothing if they are on another file system.
        """
        for suffixes in (("", ".pack", ".rev"), (".idx",)):  # an index before its pack is an error
            for directory, _, names in os.walk(objects):
                below = os.path.relpath(directory, objects)
                if not re.fullmatch(r"pack|[0-9a-f]{2}", below):
                    continue
                target = os.path.join(self.path, "objects", below)
                os.makedirs(target, mode=0o700, exist_ok=True)
                for name in names:
                    if os.path.splitext(name)[1] in suffixes and not _link(directory, target, name):
                        return

    def loose_objects(self) -> int:
        objects = self._at("objects")
        return sum(len(os.listdir(os.path.join(objects, name))) for name in os.listdir(objects))

    def protect_content(self) -> None:
        files.replace(self._at("info/attributes"), ATTRIBUTES)

    @property
    def ready(self) -> bool:
        """Whether its first snapshot was completed and its files are still there."""
        needed = ("config", "info/attributes", "objects/pack", "refs/checkpoints")
        return self.head is not None and all(os.path.lexists(self._at(name)) for name in needed)

    @property
    def head(self) -> str | None:
        """The commit of the latest snapshot."""
        text = self._id_in("HEAD")
        if text is not None:
            self.object_format = "sha1" if len(text) == 40 else "sha256"
        return text

    @head.setter
    def head(self, commit: str) -> None:
        files.replace(self._at("HEAD"), commit.encode() + b"\n")

    def write(self, kind: str, content: bytes) -> str:
        """Write a loose object; returns its id."""
        data = b"%s %d\0" % (kind.encode(), len(content)) + content
        name = hashlib.new(self.object_format, data).hexdigest()
        directory = self._at(f"objects/{name[:2]}")
        os.makedirs(directory, mode=0o700, exist_ok=True)
        files.replace(os.path.join(directory, name[2:]), zlib.compress(data, 1))
        return name

    def empty_blob(self) -> bytes:
        """The id of an empty file, which git knows without an object."""
        return hashlib.new(self.object_format, b"blob 0\0").hexdigest().encode()

    def label(self, label: str, commit: str) -> None:
        """Point a label to a commit, as the newest one, also if the clock was put back."""
        path = self._at(f"refs/checkpoints/{label}")
        files.replace(path, commit.encode() + b"\n")
        newest = self._latest_ns or max((ns for ns, _ in self._labels(label)), default=0)
        self._latest_ns = max(time.time_ns(), newest + 1)
        os.utime(path, ns=(self._latest_ns, self._latest_ns))

    def drop(self, label: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._at(f"refs/checkpoints/{label}"))

    def labels(self) -> list[str]:
        """From the oldest to the newest."""
        return [label for _, label in sorted(self._labels())]

    def commit_of(self, label: str) -> str | None:
        if not LABEL.fullmatch(label):
            return None
        return self._id_in(f"refs/checkpoints/{label}")

    def _labels(self, without: str = "") -> Iterator[tuple[int, str]]:
        try:
            with os.scandir(self._at("refs/checkpoints")) as entries:
                for entry in entries:
                    if LABEL.fullmatch(entry.name) and entry.name != without:
                        yield entry.stat(follow_symlinks=False).st_mtime_ns, entry.name
        except FileNotFoundError:
            return

    def _id_in(self, name: str) -> str | None:
        try:
            text = files.read(self._at(name)).decode("ascii", "replace").strip()
        except OSError:
            return None
        return text if re.fullmatch(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", text) else None

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)


def _link(source: str, target: str, name: str) -> bool:
    try:
        os.link(os.path.join(source, name), os.path.join(target, name), follow_symlinks=False)
    except FileNotFoundError:  # removed by its repository meanwhile
        return True
    except OSError:
        return False
    return True


def _remove(path: str) -> None:
    directory, name = os.path.split(path)
    with suppress(FileNotFoundError), descriptors.opened(os.path.realpath(directory)) as parent:
        descriptors.remove(parent, name)
