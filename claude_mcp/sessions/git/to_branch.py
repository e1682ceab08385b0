"""Brings a session's work to a branch of the host's repository.

Only objects and one ref are added: working tree, index and configuration stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from claude_mcp.errors import GitError, WorkConflict
from claude_mcp.sessions.git.incoming import (
    UNPACK_SECONDS,
    Incoming,
    check_branch,
    is_ancestor,
    subjects,
)
from claude_mcp.sessions.git.program import Git, Repository, clean

IN_USE: Final = (
    ("rebase-merge/head-name", "is being rebased"),
    ("rebase-apply/head-name", "is being rebased"),
    ("BISECT_START", "is being bisected"),
)
"""Files of a worktree that name the branch to which it returns."""
NAME_BYTES: Final = 4096
NAMED_COMMITS: Final = 5
_REF: Final = "%(refname)%00%(objectname)%00%(symref)%00%(worktreepath)"


class Moved(StrEnum):
    CREATED = "created"
    FORWARDED = "forwarded"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a branch. ``old`` is the commit that it had before; empty if it was new."""

    branch: str
    how: Moved
    old: str
    new: str


async def to_branch(work: Incoming, name: str) -> Applied:
    """Create ``refs/heads/<name>`` in the host's repository, or move it forward, to the work's tip.

    The ref moves only from the commit that was checked here. If another process moves it to the
    same commit meanwhile, that is a success too.

    Raises:
        UsageError: the name is not valid.
        WorkConflict: the branch is checked out or in use, or has commits that the work lacks.
        GitError
    """
    git, repository = work.git, work.repository
    await check_branch(git, name)
    ref = f"refs/heads/{name}"
    old = await _free(git, repository, name)
    if old == work.tip:
        return Applied(name, Moved.UNCHANGED, old, old)
    if old and not await is_ancestor(git, work.scratch, old, work.tip):
        missing = await subjects(git, work.scratch, work.tip, old, NAMED_COMMITS)
        raise WorkConflict(
            f"Branch {name} has commits that the session's work does not contain: "
            f"{'; '.join(missing)}.",
            hint="Choose another branch, or rename or delete this one.",
        )
    await hand_over(work, work.tip, old)
    expected = old or "0" * len(work.tip)
    reason = f"claude-mcp: {'forward' if old else 'create'}"
    try:
        await git.run(
            repository.place, "update-ref", "--no-deref", "--create-reflog", "-m", reason,
            ref, work.tip, expected,
        )  # fmt: skip
    except GitError as error:
        now = await current(git, repository, ref)
        if now == work.tip:
            return Applied(name, Moved.UNCHANGED, now, now)
        if now == old:
            raise
        raise WorkConflict(
            f"Branch {name} was changed by somebody else at the same time.",
            hint="Try again.",
        ) from error
    return Applied(name, Moved.FORWARDED if old else Moved.CREATED, old, work.tip)


async def current(git: Git, repository: Repository, ref: str) -> str:
    """The commit of a ref; empty if there is none."""
    done = await git.run(
        repository.place, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", accepted=(0, 1)
    )
    return done.out.strip()


async def hand_over(work: Incoming, commit: str, known: str) -> None:
    """Store what a commit of the scratch repository needs in the host's repository, as one pack.

    ``known`` is a commit that the host has besides the work's base, or empty. A call that is killed
    leaves at most a temporary file, which ``git gc`` removes.

    Raises:
        GitError: an object is missing, or the repository cannot be written.
    """
    repository = work.repository
    # Git writes where the objects of ``place`` are, but obeys the scratch repository.
    place = replace(
        work.scratch,
        objects=repository.objects,
        borrowed=os.path.join(work.scratch.git_dir or "", "objects"),
    )
    wanted = "".join((f"{commit}\n^{work.base}\n", f"^{known}\n" if known else "")).encode()
    await work.git.answer(
        place, wanted, "pack-objects", "--quiet", "--revs", "--non-empty", "--threads=1",
        os.path.join(repository.objects, "pack", "pack"), seconds=UNPACK_SECONDS,
    )  # fmt: skip


async def _free(git: Git, repository: Repository, name: str) -> str:
    """The commit of a branch, or '' if it does not exist yet.

    Raises:
        WorkConflict: moving it would surprise somebody who works on it.
    """
    ref = f"refs/heads/{name}"
    done = await git.run(repository.place, "for-each-ref", f"--format={_REF}", ref)
    rows = [row.split("\0") for row in done.out.splitlines()]
    commit = ""
    elsewhere = "Choose another branch, or switch to a different one there."
    for found, old, symref, tree in rows:
        if found != ref:  # a branch below this name, which git will report
            continue
        if symref:
            raise WorkConflict(
                f"Branch {name} is another name of {clean(symref)}.", hint="Choose another branch."
            )
        if tree:
            raise WorkConflict(f"Branch {name} is checked out in {clean(tree)}.", hint=elsewhere)
        commit = old
    for directory in _worktrees(repository):
        if content(os.path.join(directory, "HEAD")) == f"ref: {ref}":
            # It has no ref as long as it has no commit.
            raise WorkConflict(f"Branch {name} is checked out.", hint=elsewhere)
        for file, what in IN_USE:
            if content(os.path.join(directory, file)) in (ref, name):
                raise WorkConflict(f"Branch {name} {what}.", hint=elsewhere)
    return commit


def _worktrees(repository: Repository) -> Iterator[str]:
    """The directories in which git keeps the state of each worktree."""
    yield repository.common_dir
    linked = os.path.join(repository.common_dir, "worktrees")
    try:
        names = sorted(os.listdir(linked))
    except OSError:
        return
    yield from (os.path.join(linked, name) for name in names)


def content(path: str) -> str:
    """The text of a small file of git, without its line break; empty if there is none."""
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read(NAME_BYTES)).strip()
    except OSError:
        return ""
