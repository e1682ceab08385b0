"""Finds the files of a project that can make git run a program, and hashes their contents.

Git itself is never run, because it would obey the files under inspection. A session may have
written them, so sizes, counts and time are bounded, and links are not followed.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import posixpath
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from claude_mcp.sessions.git.directories import OPEN_DIRECTORY, Tree

GIT: Final = ".git"
BARE: Final = frozenset({"HEAD", "objects", "refs"})
SHARED: Final = frozenset({"HEAD", "commondir"})
MARKS: Final = frozenset({GIT, *BARE, *SHARED})
# `commondir` relocates config and hooks; `remotes` and `branches` are legacy forms of config.
FILES: Final = ("config", "config.worktree", "commondir")
DIRECTORIES: Final = ("hooks", "remotes", "branches")
INNER: Final = ("modules", "worktrees", "rebase-merge")
REBASE_TODO: Final = "rebase-merge/git-rebase-todo"
WORKTREE_COMMONDIR: Final = b"../.."
"""What git itself writes there: the path of the main repository."""
MAX_FILES: Final = 1_000
MAX_FILE_BYTES: Final = 1024 * 1024
MAX_BYTES: Final = 32 * 1024 * 1024
MAX_OPENED: Final = 20_000
"""Maximum number of times that a directory is opened."""
MAX_DEPTH: Final = 8
_INCLUDE: Final = re.compile(r"\s*\[\s*include", re.IGNORECASE)
_PATH: Final = re.compile(r"(hooks)?path\s*=\s*(.*)", re.IGNORECASE)
_COMMAND: Final = re.compile(rb"^\s*(?:x|exec)\s.*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Survey:
    """Digests of all these files by their path in the project.

    The directory of each repository is included too, with a trailing slash. Files outside of the
    project have absolute paths.
    """

    files: dict[str, bytes]
    directories: int
    complete: bool


def tree_of(project: str) -> Tree:
    return Tree(project, marks=MARKS, closed=frozenset({GIT}))


def survey(project: str, tree: Tree, limit: int, seconds: float, repository: str = "") -> Survey:
    """Hash the files that exist now; unreadable ones are left out.

    ``repository`` is one outside of the project, which a worktree has.
    """
    reader = _Reader(project)
    with tree.lock:
        try:
            for directory, marks in tree.walk(limit, seconds):
                if GIT in marks:
                    reader.add_git(posixpath.join(directory, GIT))
                if marks >= BARE or marks >= SHARED:
                    reader.add_repository(directory)
        finally:
            reader.close()
        files, exhausted = reader.files, reader.exhausted
    if repository:
        outer = _Reader(repository)
        try:
            outer.add_repository("")
        finally:
            outer.close()
        for path, digest in outer.files.items():
            files[f"{repository}/{path.lstrip('/')}"] = digest
        exhausted |= outer.exhausted
    return Survey(files, tree.walked, tree.complete and not exhausted)


class _Reader:
    def __init__(self, project: str) -> None:
        self._project = project
        self._root = -1
        self._opened_so_far = 0
        self._bytes = 0
        self.files: dict[str, bytes] = {}
        with suppress(OSError):
            self._root = os.open(project, OPEN_DIRECTORY)

    @property
    def exhausted(self) -> bool:
        """A limit was reached, so the survey is incomplete."""
        return (
            len(self.files) >= MAX_FILES
            or self._bytes >= MAX_BYTES
            or self._opened_so_far >= MAX_OPENED
        )

    def close(self) -> None:
        if self._root >= 0:
            os.close(self._root)

    def add_git(self, path: str) -> None:
        """Add a repository, or the file or link that refers to one."""
        if self._is_directory(path):
            self.add_repository(path)
        else:
            self._add(path)

    def add_repository(self, path: str, depth: int = 0) -> None:
        self._note(f"{path}/", b"repository")
        for name in (*DIRECTORIES, *INNER):
            self._add(posixpath.join(path, name))  # it may be a link
        for name in FILES:
            content = self._add(posixpath.join(path, name))
            if content is not None and name != "commondir":
                self._add_named(path, content)
        for name in DIRECTORIES:
            self._add_all(posixpath.join(path, name))
        self._add_rebase(posixpath.join(path, REBASE_TODO))
        worktrees = posixpath.join(path, "worktrees")
        for name in self._names(worktrees):
            self._add(posixpath.join(worktrees, name))
            self._add(posixpath.join(worktrees, name, "config.worktree"))
            self._add(posixpath.join(worktrees, name, "commondir"), usual=WORKTREE_COMMONDIR)
            self._add(posixpath.join(worktrees, name, "rebase-merge"))  # it may be a link
            self._add_rebase(posixpath.join(worktrees, name, REBASE_TODO))
            self._add_modules(posixpath.join(worktrees, name, "modules"), depth + 1)
        self._add_modules(posixpath.join(path, "modules"), depth + 1)

    def _add_modules(self, path: str, depth: int) -> None:
        """Add the repositories of submodules, whose names may contain slashes."""
        if depth > MAX_DEPTH or self.exhausted:
            return
        for name in self._names(path):
            inner = posixpath.join(path, name)
            self._add(inner)
            if "HEAD" in self._names(inner):
                self.add_repository(inner, depth)
            else:
                self._add_modules(inner, depth + 1)

    def _add_named(self, repository: str, config: bytes) -> None:
        """Add other files that a configuration refers to, if they are in the project."""
        including = False
        for line in config.decode("utf-8", "replace").splitlines():
            if line.lstrip().startswith("["):
                including = _INCLUDE.match(line) is not None
            found = _PATH.search(line)
            if found is None or not (found[1] or including):
                continue
            # Hook paths are relative to the working tree, include paths to the file.
            start = posixpath.dirname(repository) if found[1] else repository
            value = found[2].strip().strip('"').removeprefix(f"{self._project}/")
            path = posixpath.normpath(posixpath.join(start, value))
            if not value or path.startswith(("/", "..")):
                continue
            if self._is_directory(path):
                self._add_all(path)
            else:
                self._add(path)

    def _add_all(self, directory: str) -> None:
        for name in self._names(directory):
            if not name.endswith(".sample"):
                self._add(posixpath.join(directory, name))

    def _add_rebase(self, path: str) -> None:
        """Add the commands of an unfinished rebase, which run when it continues."""
        commands = _COMMAND.findall(self._content(path) or b"")
        if commands:
            self._note(path, b"\n".join(commands))

    def _add(self, path: str, usual: bytes | None = None) -> bytes | None:
        """Add a file if it exists, and return its content."""
        with self._opened(posixpath.dirname(path)) as parent:
            if parent is None:
                return None
            name = posixpath.basename(path)
            try:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    self._add_link(path, os.readlink(name, dir_fd=parent))
                    return None
            except (OSError, ValueError):
                return None
        content = self._content(path)
        if content is not None and (usual is None or content.strip() != usual):
            runs = b"x" if status.st_mode & 0o111 else b"-"
            rest = b"" if status.st_size < MAX_FILE_BYTES else b"%d" % status.st_ctime_ns
            self._note(path, runs + rest + b"\0" + content)
        return content

    def _add_link(self, path: str, target: str) -> None:
        """Add a link and, if it is in the project, its target."""
        aim = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        content = None
        if not aim.startswith(("/", "..")):
            content = self._content(aim)
            for name in self._names(aim):
                inner = posixpath.join(aim, name)
                self._note(inner, self._content(inner) or b"")
        self._note(path, b"l" + os.fsencode(target) + b"\0" + (content or b""))

    def _note(self, path: str, content: bytes) -> None:
        if len(self.files) < MAX_FILES:
            self.files[path] = hashlib.sha256(content).digest()

    def _content(self, path: str) -> bytes | None:
        """The first part of a regular file; None for anything else."""
        with self._opened(posixpath.dirname(path)) as parent:
            if parent is None:
                return None
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                descriptor = os.open(posixpath.basename(path), flags, dir_fd=parent)
            except (OSError, ValueError):
                return None
            with suppress(OSError), open(descriptor, "rb") as file:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    content = file.read(min(MAX_FILE_BYTES, MAX_BYTES - self._bytes))
                    self._bytes += len(content)
                    return content
        return None

    def _is_directory(self, path: str) -> bool:
        with self._opened(path) as descriptor:
            return descriptor is not None

    def _names(self, path: str) -> list[str]:
        with self._opened(path) as descriptor:
            if descriptor is None:
                return []
            try:
                with os.scandir(descriptor) as entries:
                    names = [entry.name for entry in itertools.islice(entries, MAX_FILES)]
            except OSError:
                return []
        return sorted(names)

    @contextmanager
    def _opened(self, path: str) -> Iterator[int | None]:
        """Open a directory of the project component by component, without following links."""
        descriptor: int | None = None
        self._opened_so_far += 1
        try:
            if self._opened_so_far > MAX_OPENED:
                raise OSError("too many directories")
            descriptor = os.dup(self._root)
            for step in filter(None, path.split("/")):
                following = os.open(step, OPEN_DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = following
        except (OSError, ValueError):
            if descriptor is not None:
                os.close(descriptor)
                descriptor = None
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)
