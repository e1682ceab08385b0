"""Keeps a session from planting a program that git on the host would run.

Where possible, the files are mounted read-only. All others are compared with digests from the
session's creation, which a label of the container records.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from claude_mcp.contract import places
from claude_mcp.engine.spec import BindMount
from claude_mcp.sessions.channel.answers import line
from claude_mcp.sessions.git import files as git_files
from claude_mcp.sessions.git.directories import MAX_DIRECTORIES, OPEN_DIRECTORY, Tree
from claude_mcp.sessions.git.files import GIT, Survey
from claude_mcp.sessions.session import Session

KEPT_TREES: Final = 8
COMPARE_SECONDS: Final = 1.0
"""Longer than at creation, so that a busier machine still sees the same directories."""
KEY_BYTES: Final = 16
DIGEST_BYTES: Final = 6
"""Short digests suffice: a session cannot compute them, because the key is only in the label."""
MAX_NAMED: Final = 10
GITFILE_BYTES: Final = 4096
GITFILE_PREFIX: Final = "gitdir:"

NOTE_FOR_CLAUDE: Final = (
    "In this container .git/config and .git/hooks are read-only on purpose, so `git config`, "
    "`git remote add`, renaming a branch and upstream tracking fail there ('Device or resource "
    "busy'). Committing, branching, stashing and fetching work. Do not work around it: use "
    "`git -c name=value` for a setting and a URL in place of a remote's name, or say what the "
    "user should configure."
)


@dataclass(frozen=True, slots=True)
class Protection:
    """A new session's extra mounts, and the state to compare with later."""

    mounts: tuple[BindMount, ...] = ()
    state: str = ""
    warnings: tuple[str, ...] = ()


class GitGuard:
    """Protects projects; caches their directory listings for faster comparisons."""

    def __init__(self) -> None:
        self._trees: dict[str, Tree] = {}

    async def protect(self, project: str) -> Protection:
        return await anyio.to_thread.run_sync(
            _protect, project, self._tree(project), abandon_on_cancel=True
        )

    async def differences(self, session: Session) -> tuple[str, ...]:
        """Warnings about git files that changed since the session was created."""
        if not session.git_state:
            return ()
        return await anyio.to_thread.run_sync(
            _differences,
            session.project_path,
            self._tree(session.project_path),
            session.git_state,
            abandon_on_cancel=True,
        )

    def _tree(self, project: str) -> Tree:
        tree = self._trees.pop(project, None) or git_files.tree_of(project)
        self._trees[project] = tree
        while len(self._trees) > KEPT_TREES:
            del self._trees[next(iter(self._trees))]
        return tree


def _protect(project: str, tree: Tree) -> Protection:
    mounts, warnings = _mounts(project)
    survey = git_files.survey(project, tree)
    if not survey.complete:
        warnings.append(
            f"The project is large: only its first {survey.directories} directories are "
            "checked for new git repositories."
        )
    return Protection(tuple(mounts), _encode(survey), tuple(warnings))


def _differences(project: str, tree: Tree, state: str) -> tuple[str, ...]:
    if not os.path.isdir(project):
        return ()  # moved, or on another machine
    try:
        limit, known, key = _decode(state)
    except (ValueError, struct.error):
        return ()
    survey = git_files.survey(project, tree, limit or MAX_DIRECTORIES, COMPARE_SECONDS)
    found = [
        f"{path} ({'changed' if name in known else 'new'})"
        for path, content in survey.files.items()
        if known.get(name := _digest(key, os.fsencode(path))) != _digest(key, content)
    ]
    warnings = []
    if found:
        warnings.append(_warning(found))
    if not limit and not survey.complete:
        warnings.append(
            f"The project has grown: only its first {survey.directories} directories were "
            "checked for new git repositories."
        )
    return tuple(warnings)


def _warning(found: list[str]) -> str:
    # A new repository is reported once, not once per file.
    roots = [each.removesuffix(" (new)") for each in found if each.endswith("/ (new)")]
    told = [
        each
        for each in found
        if not any(each.startswith(root) and each != f"{root} (new)" for root in roots)
    ]
    names = ", ".join(line(each, 120) for each in told[:MAX_NAMED])
    more = f" and {len(told) - MAX_NAMED} more" if len(told) > MAX_NAMED else ""
    return (
        f"Files that git on the host obeys have changed since the session was created: {names}"
        f"{more}. Inspect or delete them before you run git in this project."
    )


def _encode(survey: Survey) -> str:
    """``LIMIT:BASE64``: number of directories seen (0: all); key and one digest pair per file."""
    key = secrets.token_bytes(KEY_BYTES)
    pairs = sorted(
        _digest(key, os.fsencode(path)) + _digest(key, content)
        for path, content in survey.files.items()
    )
    limit = 0 if survey.complete else survey.directories
    return f"{limit}:{base64.b64encode(key + b''.join(pairs)).decode()}"


def _decode(state: str) -> tuple[int, dict[bytes, bytes], bytes]:
    limit, _, text = state.partition(":")
    data = base64.b64decode(text, validate=True)
    key, pairs = data[:KEY_BYTES], data[KEY_BYTES:]
    known = dict(struct.iter_unpack(f"{DIGEST_BYTES}s{DIGEST_BYTES}s", pairs))
    return int(limit), known, key


def _digest(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(value, key=key, digest_size=DIGEST_BYTES).digest()


def _mounts(project: str) -> tuple[list[BindMount], list[str]]:
    """Mounts for the project's repository, bound onto itself so that it cannot be moved."""
    path = Path(project, GIT)
    try:
        mode = path.lstat().st_mode
    except OSError:
        bare = all(Path(project, name).exists() for name in git_files.BARE)
        return (_read_only(project, "") if bare else []), []
    if stat.S_ISDIR(mode):
        return [_bind(project, GIT, read_only=False), *_read_only(project, GIT)], []
    if not stat.S_ISREG(mode):
        return [], [f"{path} is a link: its files are compared, but not mounted read-only."]
    mounts = [_bind(project, GIT, read_only=True)]
    aim = _aim(project, path)
    inner = os.path.relpath(aim, project)
    if inner.startswith("..") or not os.path.isdir(aim):
        return mounts, [
            f"{path} belongs to a worktree or submodule whose repository, {line(aim, 200)}, is "
            "outside the project, so git does not work in the session. Use the main checkout."
        ]
    if aim == project:
        mounts += _read_only(project, "")
    elif os.path.realpath(aim) == aim:
        mounts += [_bind(project, inner, read_only=False), *_read_only(project, inner)]
    return mounts, []


def _aim(project: str, path: Path) -> str:
    """The repository that a `.git` file points to."""
    try:
        with open(path, "rb", opener=_without_links) as file:
            text = os.fsdecode(file.read(GITFILE_BYTES))
    except OSError:
        text = ""
    aim = text.removeprefix(GITFILE_PREFIX).strip().replace("\0", "")
    return os.path.normpath(os.path.join(project, aim or ".."))


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _read_only(project: str, repository: str) -> list[BindMount]:
    """Read-only mounts of config and hooks; not of links, which a mount would follow."""
    _make_hooks(os.path.join(project, repository))
    mounts = []
    for name, is_kind in (
        ("config", stat.S_ISREG),
        ("config.worktree", stat.S_ISREG),
        ("hooks", stat.S_ISDIR),
    ):
        path = os.path.join(repository, name)
        try:
            if is_kind(os.lstat(os.path.join(project, path)).st_mode):
                mounts.append(_bind(project, path, read_only=True))
        except OSError:
            continue
    return mounts


def _make_hooks(repository: str) -> None:
    """Create the hooks directory: a missing one could not be mounted read-only."""
    try:
        descriptor = os.open(repository, OPEN_DIRECTORY)
    except OSError:
        return
    try:
        os.mkdir("hooks", dir_fd=descriptor)
        owner = os.fstat(descriptor)
        os.chown("hooks", owner.st_uid, owner.st_gid, dir_fd=descriptor, follow_symlinks=False)
    except OSError:  # it exists or cannot be created; in that case it is compared
        pass
    finally:
        os.close(descriptor)


def _bind(project: str, path: str, *, read_only: bool) -> BindMount:
    return BindMount(os.path.join(project, path), f"{places.WORKSPACE}/{path}", read_only)
