"""Which parts of a project's repository a session sees, and which of them it cannot change.

What git on the host obeys is read-only: configuration, hooks, and what says where these are.

Git writes its configuration by renaming a file onto it, which fails at a mount point. One that the
session may write would need a link or a file ``commondir`` in the repository on the host. The
variable GIT_COMMON_DIR would name it for every repository in the session, and with it
``git branch -m`` leaves HEAD at a branch that is gone (measured with git 2.39).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from claude_mcp.contract import places
from claude_mcp.engine.spec import BindMount
from claude_mcp.sessions.channel.answers import line
from claude_mcp.sessions.git import layout
from claude_mcp.sessions.git.directories import OPEN_DIRECTORY
from claude_mcp.sessions.git.files import BARE, GIT
from claude_mcp.sessions.git.layout import Worktree

Refusal = Callable[[str, str], str | None]
"""Why a path of the host may not be mounted at a path of the session; None if it may."""


REPOSITORY_REFUSED: Final = (
    "Git does not work in the session, because the repository of this worktree cannot be mounted."
)


@dataclass(frozen=True, slots=True)
class GitMounts:
    """The mounts for a project's git, beyond the project itself."""

    mounts: tuple[BindMount, ...] = ()
    hooks: str | None = None
    """The directory of the session that needs hooks of its own."""
    repository: str = ""
    """The repository of a worktree: its real path on the host."""
    warnings: tuple[str, ...] = ()
    works: bool = False
    """Whether there is a repository that the session can use."""
    lfs: bool = False
    """Whether the project keeps files in Git LFS."""
    has_worktrees: bool = False
    """Whether the repository has worktrees that the session does not see."""


def find(project: str, refusal: Refusal, *, trusted: bool) -> GitMounts:
    """The mounts for a project; a session that is ``trusted`` may change what git obeys."""
    found = _locate(project, refusal)
    mounts = GitMounts(tuple(_needed(project, found))) if trusted else _guarded(project, found)
    repository = found.repository
    return replace(
        mounts,
        warnings=(*found.warnings, *_worktree_warnings(found, trusted)),
        works=repository is not None,
        lfs=repository is not None and layout.uses_lfs(project, repository.path),
        has_worktrees=repository is not None and layout.has_worktrees(repository.path),
    )


@dataclass(frozen=True, slots=True)
class _Repository:
    """A repository that a session needs: its real path on the host, and its path in the session."""

    path: str
    target: str

    def bind(self, name: str = "", *, read_only: bool) -> BindMount:
        return BindMount(
            os.path.join(self.path, name).rstrip("/"),
            os.path.join(self.target, name).rstrip("/"),
            read_only,
        )

    def fixed(self, is_kind: Callable[[int], bool], *names: str) -> tuple[BindMount, ...]:
        """Read-only mounts of those names that exist and are of this kind."""
        mounts = []
        for name in names:
            with suppress(OSError):
                if is_kind(os.lstat(os.path.join(self.path, name)).st_mode):
                    mounts.append(self.bind(name, read_only=True))
        return tuple(mounts)


@dataclass(frozen=True, slots=True)
class _Located:
    """What a project's git needs."""

    repository: _Repository | None = None
    worktree: Worktree | None = None
    """What the project is."""
    git_file: bool = False
    warnings: tuple[str, ...] = ()


def _locate(project: str, refusal: Refusal) -> _Located:
    path = Path(project, GIT)
    try:
        mode = path.lstat().st_mode
    except OSError:
        if all(os.path.exists(os.path.join(project, name)) for name in BARE):
            return _Located(_Repository(project, places.WORKSPACE))
        return _Located(warnings=_enclosing_warnings(project, refusal))
    if stat.S_ISDIR(mode):
        return _Located(_Repository(str(path), f"{places.WORKSPACE}/{GIT}"))
    if not stat.S_ISREG(mode):
        why = f"{path} is a link: its files are compared, but not mounted read-only."
        return _Located(warnings=(why,))
    return replace(_behind_git_file(project, refusal), git_file=True)


def _behind_git_file(project: str, refusal: Refusal) -> _Located:
    """The repository that a project's ``.git`` file names."""
    aim = layout.aim(project)
    inner = os.path.relpath(aim, project)
    if not inner.startswith("..") and os.path.isdir(aim):
        target = os.path.normpath(os.path.join(places.WORKSPACE, inner))
        is_real = os.path.realpath(aim) == aim
        return _Located(_Repository(aim, target) if is_real else None)
    worktree = layout.worktree(project)
    if worktree is None:
        return _Located(warnings=(_elsewhere_warning(project, aim),))
    refused = refusal(worktree.repository, worktree.target) or refusal(project, worktree.back)
    if refused is not None:
        return _Located(warnings=(f"{REPOSITORY_REFUSED} {refused}",))
    return _Located(_Repository(worktree.repository, worktree.target), worktree)


def _elsewhere_warning(project: str, aim: str) -> str:
    named = f"{project}/{GIT} leads to {line(aim, 200)}"
    if layout.is_submodule(aim):
        return (
            f"{named}: the project is a submodule, so git does not work in the session. Create "
            "the session for the repository that contains it."
        )
    return (
        f"{named}, a repository that does not name the project as its worktree, so git does not "
        "work in the session. If the worktree was moved, run 'git worktree repair' in it; "
        "otherwise use a clone."
    )


def _enclosing_warnings(project: str, refusal: Refusal) -> tuple[str, ...]:
    top = layout.enclosing(project)
    # It may be a home directory, which nobody means.
    if top is None or refusal(top, top) is not None:
        return ()
    return (
        f"The project is part of the repository {line(top, 200)}, which is not mounted, so git "
        "does not work in the session. To use git, create the session for the whole repository.",
    )


def _worktree_warnings(found: _Located, trusted: bool) -> tuple[str, ...]:
    if found.worktree is None or found.repository is None:
        return ()
    also = "and its configuration and hooks" if trusted else "but not its configuration or hooks"
    return (
        f"The project is a worktree of {line(found.repository.path, 200)}: the session can change "
        f"that repository's branches and objects, {also}.",
    )


def _needed(project: str, found: _Located) -> list[BindMount]:
    """The mounts without which git does not work in a worktree; others' worktrees are fixed."""
    repository, worktree = found.repository, found.worktree
    if repository is None or worktree is None:
        return []
    return [
        repository.bind(read_only=False),
        *repository.fixed(stat.S_ISDIR, layout.WORKTREES),
        repository.bind(f"{layout.WORKTREES}/{worktree.name}", read_only=False),
        # Otherwise 'git worktree prune' in the session takes the worktree for removed.
        BindMount(os.path.join(project, GIT), worktree.back),
    ]


def _guarded(project: str, found: _Located) -> GitMounts:
    """Everything that git needs, with what the host's git obeys read-only.

    A repository is bound onto itself, so that it cannot be moved away. Links are left out,
    because a mount would follow them.
    """
    project_itself = _Repository(project, places.WORKSPACE)
    mounts = [project_itself.bind(GIT, read_only=True)] if found.git_file else []
    repository = found.repository
    if repository is None:
        return GitMounts(tuple(mounts))
    _make_hooks(repository.path)
    mounts += _needed(project, found)
    if found.worktree is not None:
        own = f"{layout.WORKTREES}/{found.worktree.name}"
        mounts += repository.fixed(stat.S_ISDIR, layout.MODULES)
        mounts += repository.fixed(stat.S_ISREG, *(f"{own}/{name}" for name in layout.OBEYED))
    elif repository.target != places.WORKSPACE:
        mounts.append(repository.bind(read_only=False))
    mounts += repository.fixed(stat.S_ISREG, "config", "config.worktree")
    hooks = repository.fixed(stat.S_ISDIR, "hooks")
    # The session has hooks of its own: the agent copies the host's. An engine's option for a
    # tmpfs cannot express every path.
    private = hooks and ":" not in repository.target
    mounts += (replace(mount, target=places.HOST_HOOKS) if private else mount for mount in hooks)
    return GitMounts(
        tuple(mounts),
        hooks=hooks[0].target if private else None,
        repository=repository.path if found.worktree is not None else "",
    )


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
