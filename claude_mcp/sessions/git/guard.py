"""Keeps a session from planting a program that git on the host would run.

Where possible, the files are mounted read-only (``mounts``). All others are compared with digests
from the session's creation, which a label of the container records.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import struct
from dataclasses import dataclass, replace
from typing import Final

import anyio
import anyio.to_thread

from claude_mcp.contract.wording import named
from claude_mcp.engine.spec import BindMount
from claude_mcp.sessions.channel.answers import NAME_CHARS, listed
from claude_mcp.sessions.git import files as git_files
from claude_mcp.sessions.git import mounts as git_mounts
from claude_mcp.sessions.git.directories import MAX_DIRECTORIES, WALK_SECONDS, Tree
from claude_mcp.sessions.git.files import Survey
from claude_mcp.sessions.git.mounts import Refusal
from claude_mcp.sessions.session import Session

KEPT_TREES: Final = 8
COMPARE_SECONDS: Final = 1.0
"""Longer than at creation, so that a busier machine still sees the same directories."""
KEY_BYTES: Final = 16
DIGEST_BYTES: Final = 6
"""Short digests suffice: a session cannot compute them, because the key is only in the label."""

NOTE_FOR_CLAUDE: Final = (
    "In this container git's config file of the project is read-only on purpose, so `git config`, "
    "`git remote add`, `git submodule add` and the like fail ('Device or resource busy'). "
    "`git config --global` works in its place, also for a remote (`remote.NAME.url`, "
    "`remote.NAME.fetch`) and an upstream (`branch.NAME.remote`, `branch.NAME.merge`), and lasts "
    "as long as the container. `git push -u`, `git branch -m` and checking out a remote's branch "
    "do their work and only cannot record the upstream, whatever they print. Do not work around "
    "it; say what the user should configure. Hooks that are installed here exist in this container "
    "only."
)
WORKTREES_NOTE_FOR_CLAUDE: Final = (
    "The repository has worktrees outside of this container. They look as if they were gone, so "
    "`git worktree prune` would destroy them: do not run it."
)
CONFIG_REFUSED: Final = re.compile(r"could not write config file \S+: Device or resource busy")
"""Git's words for a config file that is mounted read-only."""
CONFIG_NOTE: Final = (
    "The project's git config is read-only in this session, because git on the host obeys it. "
    "Set it on the host, use 'git config --global' or 'git -c' in the session, or create the "
    f"session with {named('trustGit')} or {named('workspace')} 'clone'. Pushes and renamed "
    "branches are done all the same; only their upstream is not recorded."
)


@dataclass(frozen=True, slots=True)
class Protection:
    """What a new session's git needs, and the state to compare with later."""

    mounts: tuple[BindMount, ...] = ()
    hooks: str | None = None
    """The directory of the session that gets hooks of its own."""
    state: str = ""
    warnings: tuple[str, ...] = ()
    works: bool = False
    """Whether the project has a repository that the session can use."""
    lfs: bool = False
    """Whether the project keeps files in Git LFS."""
    notes: tuple[str, ...] = ()
    """What Claude must know."""


class GitGuard:
    """Protects projects; caches their directory listings for faster comparisons."""

    def __init__(self) -> None:
        self._trees: dict[str, Tree] = {}

    async def protect(self, project: str, refusal: Refusal, *, trusted: bool = False) -> Protection:
        """A session that is ``trusted`` gets the mounts that git needs, and no protection."""
        return await anyio.to_thread.run_sync(
            _protect, project, self._tree(project), refusal, trusted, abandon_on_cancel=True
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


def _protect(project: str, tree: Tree, refusal: Refusal, trusted: bool) -> Protection:
    found = git_mounts.find(project, refusal, trusted=trusted)
    notes = [WORKTREES_NOTE_FOR_CLAUDE] if found.has_worktrees else []
    protection = Protection(
        found.mounts, found.hooks, warnings=found.warnings, works=found.works, lfs=found.lfs
    )
    if trusted:
        return replace(protection, notes=tuple(notes))
    if found.works:
        notes.insert(0, NOTE_FOR_CLAUDE)
    survey = git_files.survey(project, tree, MAX_DIRECTORIES, WALK_SECONDS, found.repository)
    warnings = list(found.warnings)
    if not survey.complete:
        warnings.append(
            f"The project is large: only its first {survey.directories} directories are "
            "checked for new git repositories."
        )
    return replace(
        protection,
        state=_encode(survey, found.repository),
        warnings=tuple(warnings),
        notes=tuple(notes),
    )


def _differences(project: str, tree: Tree, state: str) -> tuple[str, ...]:
    if not os.path.isdir(project):
        return ()  # moved, or on another machine
    try:
        limit, known, key, repository = _decode(state)
    except (ValueError, struct.error):
        return ()
    survey = git_files.survey(project, tree, limit or MAX_DIRECTORIES, COMPARE_SECONDS, repository)
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


def config_notes(session: Session, output: str) -> tuple[str, ...]:
    """What a caller should know about a command in whose output git says that it was refused."""
    refused = session.git_state and CONFIG_REFUSED.search(output)
    return (CONFIG_NOTE,) if refused else ()


def _warning(found: list[str]) -> str:
    # A new repository is reported once, not once per file.
    roots = [each.removesuffix(" (new)") for each in found if each.endswith("/ (new)")]
    told = [
        each
        for each in found
        if not any(each.startswith(root) and each != f"{root} (new)" for root in roots)
    ]
    names = listed([_end_of(each) for each in told])
    return (
        f"Files that git on the host obeys have changed since the session was created: {names}. "
        "Inspect or delete them before you run git in this project."
    )


def _end_of(name: str) -> str:
    """A path that is not too long to be told whole; its end says more than its beginning."""
    return name if len(name) <= NAME_CHARS else f"...{name[3 - NAME_CHARS :]}"


def _encode(survey: Survey, repository: str) -> str:
    """``LIMIT:BASE64[:REPOSITORY]``: number of directories seen (0: all); key and one digest pair
    per file; the repository outside of the project, if it is a worktree."""
    key = secrets.token_bytes(KEY_BYTES)
    pairs = sorted(
        _digest(key, os.fsencode(path)) + _digest(key, content)
        for path, content in survey.files.items()
    )
    limit = 0 if survey.complete else survey.directories
    text = f"{limit}:{base64.b64encode(key + b''.join(pairs)).decode()}"
    return f"{text}:{repository}" if repository else text


def _decode(state: str) -> tuple[int, dict[bytes, bytes], bytes, str]:
    limit, _, rest = state.partition(":")
    text, _, repository = rest.partition(":")
    data = base64.b64decode(text, validate=True)
    key, pairs = data[:KEY_BYTES], data[KEY_BYTES:]
    known = dict(struct.iter_unpack(f"{DIGEST_BYTES}s{DIGEST_BYTES}s", pairs))
    return int(limit), known, key, repository


def _digest(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(value, key=key, digest_size=DIGEST_BYTES).digest()
