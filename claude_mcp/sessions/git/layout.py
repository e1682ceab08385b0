"""Finds the repository of a project whose ``.git`` is not a directory in it.

A project may be hostile, so what its ``.git`` file says proves nothing. A worktree is believed
because its repository names it too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_mcp.contract import places
from claude_mcp.sessions.git.files import BARE, GIT, WORKTREE_COMMONDIR

GITFILE_BYTES: Final = 4096
GITFILE_PREFIX: Final = "gitdir:"
ATTRIBUTES_BYTES: Final = 64 * 1024
LFS_ATTRIBUTE: Final = "filter=lfs"
WORKTREES: Final = "worktrees"
MODULES: Final = "modules"
OBEYED: Final = ("commondir", "gitdir", "config.worktree")
"""The files of a worktree's directory that say where git finds what it obeys."""


@dataclass(frozen=True, slots=True)
class Worktree:
    """A project that is a linked worktree of a repository elsewhere."""

    repository: str
    """Its real path on the host."""
    target: str
    """Where the session must see it, so that the project's ``.git`` file leads there."""
    name: str
    """Of the worktree's directory in the repository's ``worktrees``."""
    back: str
    """Where the session must see the ``.git`` file, so that the repository leads back to it."""


def aim(project: str) -> str:
    """The path that a project's ``.git`` file names, made absolute."""
    return os.path.normpath(os.path.join(project, _named(project) or ".."))


def worktree(project: str) -> Worktree | None:
    """The worktree that a project is; None if its repository does not say so too."""
    administration = os.path.realpath(aim(project))
    parent, name = os.path.split(administration)
    repository = os.path.dirname(parent)
    seen = os.path.normpath(os.path.join(places.WORKSPACE, _named(project) or ".."))
    if os.path.basename(parent) != WORKTREES or seen.split("/")[-2:] != [WORKTREES, name]:
        return None
    if _content(os.path.join(administration, "commondir")) != os.fsdecode(WORKTREE_COMMONDIR):
        return None
    if not all(os.path.exists(os.path.join(repository, each)) for each in BARE):
        return None
    back = _content(os.path.join(administration, "gitdir"))
    checkout, file = os.path.split(os.path.join(administration, back))
    if os.path.realpath(checkout) != project or file != GIT:
        return None
    return Worktree(
        repository=repository,
        target=os.path.dirname(os.path.dirname(seen)),
        name=name,
        back=os.path.normpath(os.path.join(seen, back)),
    )


def has_worktrees(repository: str) -> bool:
    return os.path.isdir(os.path.join(repository, WORKTREES))


def is_submodule(path: str) -> bool:
    """Whether a repository is that of a submodule, judged by its path."""
    return MODULES in Path(path).parts


def enclosing(project: str) -> str | None:
    """The checkout that a project without a ``.git`` of its own lies in.

    Like git itself, this does not look beyond a file system.
    """
    try:
        device = os.stat(project).st_dev
        for parent in Path(project).parents:
            if parent.stat().st_dev != device:
                return None
            if os.path.exists(parent / GIT / "HEAD") or os.path.isfile(parent / GIT):
                return str(parent)
    except OSError:
        pass
    return None


def uses_lfs(project: str, repository: str) -> bool:
    """Whether files of a project are kept in Git LFS, judged by the attributes of its root."""
    places_of_attributes = (
        os.path.join(project, ".gitattributes"),
        os.path.join(repository, "info", "attributes"),
    )
    return any(LFS_ATTRIBUTE in _content(path, ATTRIBUTES_BYTES) for path in places_of_attributes)


def _named(project: str) -> str:
    content = _content(os.path.join(project, GIT))
    return content.removeprefix(GITFILE_PREFIX).strip()


def _content(path: str, limit: int = GITFILE_BYTES) -> str:
    """The text of a small file, without its line break; empty if it cannot be read."""
    try:
        with open(path, "rb", opener=_without_links) as file:
            return os.fsdecode(file.read(limit)).replace("\0", "").strip()
    except OSError:
        return ""


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
