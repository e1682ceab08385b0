"""Merges a session's work into the branch that is checked out on the host.

The merge is computed in the scratch repository, where nothing of the host's configuration counts
but how its file system behaves. Only then are files, index and branch changed, without hooks and
filters: the branch is locked first, so nobody can commit in between.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import anyio
import anyio.to_thread

from claude_mcp.engine import process
from claude_mcp.errors import GitError, GitNotFound, WorkConflict
from claude_mcp.placing import descriptors
from claude_mcp.sessions.git import program, rules
from claude_mcp.sessions.git.identity import Identity, commits
from claude_mcp.sessions.git.incoming import (
    MAX_ENTRIES_BYTES,
    UNPACK_SECONDS,
    Incoming,
    changed,
    is_ancestor,
    targets,
)
from claude_mcp.sessions.git.program import Place, clean, listed
from claude_mcp.sessions.git.rules import ABSENT, GITLINK, Entry
from claude_mcp.sessions.git.to_branch import current, hand_over
from claude_mcp.sessions.git.worktree import DIRECTORY, Found, files_below, look

UNFINISHED: Final = {
    "MERGE_HEAD": "merge", "CHERRY_PICK_HEAD": "cherry-pick", "REVERT_HEAD": "revert",
    "rebase-merge": "rebase", "rebase-apply": "rebase", "BISECT_START": "bisect",
}  # fmt: skip
INDEX: Final = "index"
LOCK: Final = "index.lock"
HEADS: Final = "refs/heads/"
FILE_SYSTEM: Final = (
    "core.filemode", "core.ignorecase", "core.symlinks", "core.precomposeunicode", "core.autocrlf",
    "core.eol", "core.checkstat", "core.trustctime",
)  # fmt: skip
"""What counts of the host's configuration. No value of these names a program or a file."""
SPARSE: Final = "core.sparsecheckout"
_VALUE: Final = re.compile(r"[a-z]{1,10}")
COMMIT_SECONDS: Final = 60.0


class Merge(StrEnum):
    UNCHANGED = "unchanged"
    FORWARDED = "forwarded"
    MERGED = "merged"


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of the branch that is checked out; ``paths`` are the files that changed."""

    branch: str
    how: Merge
    old: str
    new: str
    paths: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


async def merge(work: Incoming, identity: Identity) -> Merged:
    """Merge the work into the current branch of the project's working tree.

    ``identity`` makes the merge commit, unless the branch only moves forward. A call that was
    interrupted can be repeated.

    Raises:
        GitNotFound: git is too old to merge without a working tree.
        WorkConflict: the merge has conflicts, or files, index or branch are not in a state for it.
            Nothing was changed.
        WorkRefused: the merged tree would break a rule.
        GitError
    """
    if await work.git.version() < program.MERGES:
        wanted = ".".join(map(str, program.MERGES))
        raise GitNotFound(
            "The git of this host is too old for a merge.",
            hint=f"Install git {wanted} or later, or take the work as a branch and merge that.",
        )
    branch, ours = await _head(work)
    if await is_ancestor(work.git, work.scratch, work.tip, ours):
        return Merged(branch, Merge.UNCHANGED, ours, ours)
    forward = await is_ancestor(work.git, work.scratch, ours, work.tip)
    new = work.tip if forward else await _merge_commit(work, ours, identity)
    entries = await changed(work.git, work.scratch, ours, new)
    place = await _overlay(work)
    settled = await _settled(work, place, ours, new, entries)
    await hand_over(work, new, ours)
    reason = f"merge {work.branch}: {'Fast-forward' if forward else 'claude-mcp'}"
    # An interruption from here on would leave locks or half of the files.
    with anyio.CancelScope(shield=True):
        async with _branch_locked(work, identity, ours, new, reason):
            await _check_out(work, place, settled, ours, new)
    how = Merge.FORWARDED if forward else Merge.MERGED
    paths = tuple(entry.path for entry in entries)
    return Merged(branch, how, ours, new, paths, await _filtered(work, place, entries))


async def _head(work: Incoming) -> tuple[str, str]:
    """The branch that is checked out, and its commit."""
    git, repository = work.git, work.repository
    if repository.work_tree is None:
        raise WorkConflict(
            "The project is a repository without a working tree, so nothing is checked out.",
            hint="Take the work as a branch.",
        )
    _check_idle(repository.git_dir)
    head = await git.run(repository.place, "symbolic-ref", "--quiet", "HEAD", accepted=(0, 1))
    branch = head.out.strip()
    if not branch.startswith(HEADS):
        raise WorkConflict(
            "No branch is checked out (HEAD is detached).",
            hint="Switch to a branch, or take the work as a branch.",
        )
    commit = await current(git, repository, branch)
    branch = branch.removeprefix(HEADS)
    if not commit:
        raise WorkConflict(
            f"Branch {clean(branch)} has no commit yet.", hint="Take the work as a branch."
        )
    return branch, commit


def _check_idle(git_dir: str) -> None:
    for name, what in UNFINISHED.items():
        if os.path.lexists(os.path.join(git_dir, name)):
            raise WorkConflict(
                f"A {what} is in progress.", hint="Finish or abort it, and try again."
            )
    lock = os.path.join(git_dir, LOCK)
    if os.path.lexists(lock):
        raise WorkConflict(
            f"{clean(lock)} exists: another git works in the project, or was killed there.",
            hint="Wait for it, or delete the file if no git runs there.",
        )


async def _merge_commit(work: Incoming, ours: str, identity: Identity) -> str:
    """A commit of the scratch repository that merges ``ours`` and the work."""
    if not commits(identity):
        raise GitError(
            "A merge needs a commit, and git does not know who you are.",
            hint="Set user.name and user.email with git config.",
        )
    related = await work.git.run(work.scratch, "merge-base", ours, work.tip, accepted=(0, 1))
    if related.returncode:
        raise WorkConflict(
            "The session's history was rewritten and has no commit in common with the current "
            "branch.",
            hint="Take the work as a branch, as a patch or as files.",
        )
    done = await work.git.run(
        work.scratch, "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages",
        ours, work.tip, accepted=(0, 1), seconds=UNPACK_SECONDS, output_bytes=MAX_ENTRIES_BYTES,
    )  # fmt: skip
    tree, *conflicts = [os.fsdecode(each) for each in done.stdout.split(b"\0") if each]
    if done.returncode == 1:
        paths = tuple(dict.fromkeys(conflicts))
        raise WorkConflict(
            f"The session's work conflicts with the current branch in {listed(paths)}.",
            hint="Nothing was changed. Take the work as a branch and merge that by hand, or have "
            "the session merge the current branch first.",
            paths=paths,
        )
    # A merge can move files to other directories.
    seen = {(each.entry.path, each.entry.mode, each.entry.object) for each in work.changes}
    moved = [
        entry
        for entry in await changed(work.git, work.scratch, ours, tree)
        if (entry.path, entry.mode, entry.object) not in seen
    ]
    rules.check(moved, await targets(work.git, work.scratch, moved))
    done = await work.git.run(
        replace(work.scratch, identity=identity), "commit-tree", tree, "-p", ours, "-p", work.tip,
        "-m", f"Merge branch '{work.branch}'",
    )  # fmt: skip
    return done.out.strip()


async def _overlay(work: Incoming) -> Place:
    """The host's files, index and objects, seen with the configuration of the scratch repository.

    Raises:
        WorkConflict: only part of the files is checked out.
    """
    repository = work.repository
    assert repository.work_tree is not None
    names = "|".join(name.replace(".", r"\.") for name in (*FILE_SYSTEM, SPARSE))
    done = await work.git.run(
        repository.place, "config", "--null", "--get-regexp", f"^({names})$", accepted=(0, 1)
    )
    settings = []
    for row in filter(None, done.out.split("\0")):
        name, _, value = row.partition("\n")
        value = value.lower() or "true"
        if name == SPARSE and value not in ("false", "no", "off", "0"):
            raise WorkConflict(
                "Only part of the project is checked out (sparse checkout).",
                hint="Take the work as a branch and merge that.",
            )
        if name in FILE_SYSTEM and _VALUE.fullmatch(value):
            settings.append(f"{name}={value}")
    return replace(
        work.scratch,
        directory=repository.work_tree,
        work_tree=repository.work_tree,
        index=os.path.join(repository.git_dir, INDEX),
        objects=repository.objects,
        borrowed=os.path.join(work.scratch.git_dir or "", "objects"),
        settings=tuple(settings),
    )


async def _settled(
    work: Incoming, place: Place, ours: str, new: str, entries: Sequence[Entry]
) -> tuple[Entry, ...]:
    """Entries whose file is already as the merge wants it, for example after an interruption.

    The index is read from a copy, so that a refusal does not touch it.

    Raises:
        WorkConflict: files have changes that the merge would overwrite.
    """
    assert place.index is not None
    copy = os.path.join(os.path.dirname(work.scratch.git_dir or ""), INDEX)
    with suppress(FileNotFoundError):
        # With its times, by which git tells files that changed after it from others.
        await anyio.to_thread.run_sync(shutil.copy2, place.index, copy)
        program.give(copy, work.git.user)
    looking = replace(place, index=copy)
    git = work.git
    unmerged = await git.run(
        looking, "ls-files", "--unmerged", "-z", output_bytes=MAX_ENTRIES_BYTES
    )
    if unmerged.stdout:
        raise WorkConflict(
            "The index has unresolved conflicts.", hint="Resolve them, and try again."
        )
    await git.run(
        looking, "update-index", "-q", "--really-refresh", accepted=(0, 1), seconds=UNPACK_SECONDS,
        output_bytes=MAX_ENTRIES_BYTES,
    )  # fmt: skip
    unstaged = await git.run(
        looking, "diff-files", "-z", "--name-only", "--no-ext-diff", "--ignore-submodules=all",
        output_bytes=MAX_ENTRIES_BYTES, seconds=UNPACK_SECONDS,
    )  # fmt: skip
    staged = await git.run(
        looking, "diff-index", "--cached", "--raw", "-z", "--no-abbrev", "--no-renames",
        "--no-ext-diff", "--ignore-submodules=none", ours, output_bytes=MAX_ENTRIES_BYTES,
    )  # fmt: skip
    index = _Index(
        {os.fsdecode(each) for each in unstaged.stdout.split(b"\0") if each},
        {each.path: each for each in rules.parse_raw(staged.stdout)},
    )
    settled = await anyio.to_thread.run_sync(_compare, work, index, entries)
    await _check_out(work, looking, settled, ours, new, "--dry-run")
    return settled


@dataclass(frozen=True, slots=True)
class _Index:
    """Paths at which files differ from the index, and entries of the index that HEAD lacks."""

    unstaged: set[str]
    staged: dict[str, Entry]


def _compare(work: Incoming, index: _Index, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    settled: list[Entry] = []
    changes: list[str] = []
    untracked: list[str] = []
    gone = {entry.path for entry in entries if entry.mode == ABSENT}
    with descriptors.opened(work.repository.work_tree or "") as root:
        for entry in entries:
            staged = index.staged.get(entry.path)
            known = entry.old_mode if staged is None else staged.mode
            if staged is not None and (staged.mode, staged.object) != (entry.mode, entry.object):
                changes.append(entry.path)
            elif known != ABSENT and entry.path not in index.unstaged:
                continue
            else:
                found = look(root, entry.path, work.repository.object_format)
                if _is(found, entry):
                    settled.append(entry)
                elif known != ABSENT:
                    changes.append(entry.path)
                elif _in_the_way(root, entry, found, gone):
                    untracked.append(found.blocker or entry.path)
    _refuse(changes, untracked)
    return tuple(settled)


def _is(found: Found, entry: Entry) -> bool:
    if entry.mode == ABSENT:
        return found.mode == ABSENT
    return (found.mode, found.object) == (entry.mode, entry.object)


def _in_the_way(root: int, entry: Entry, found: Found, gone: set[str]) -> bool:
    """Whether something is where a new file goes that the merge does not delete itself.

    To git, files that are ignored are in nobody's way, but they may be all that a user has.
    """
    if ABSENT in (found.mode, entry.mode) or entry.mode == GITLINK:
        return False
    if found.mode == DIRECTORY:
        return any(path not in gone for path in files_below(root, entry.path))
    return found.blocker not in gone if found.blocker else True


def _refuse(changes: list[str], untracked: list[str]) -> None:
    if not changes and not untracked:
        return
    parts = []
    if changes:
        parts.append(f"files with uncommitted changes ({listed(changes)})")
    if untracked:
        parts.append(f"untracked files ({listed(untracked)})")
    raise WorkConflict(
        f"The merge would overwrite {' and '.join(parts)}.",
        hint="Nothing was changed. Commit, stash or move them, and try again.",
        paths=(*changes, *untracked),
    )


@asynccontextmanager
async def _branch_locked(
    work: Incoming, identity: Identity, old: str, new: str, message: str
) -> AsyncIterator[None]:
    """Lock HEAD and its branch during the block, and move the branch at its end if all went well.

    If our process is killed, git sees the end of its input and removes the locks.
    """
    place = replace(work.repository.place, identity=identity)
    failure: Exception | None = None
    locked = False
    async with work.git.open(place, "update-ref", "-m", message, "--stdin") as stream:
        try:
            with anyio.fail_after(COMMIT_SECONDS):
                await _say(stream, f"start\nupdate HEAD {new} {old}\nprepare\n", "prepare: ok")
            locked = True
            yield
            with anyio.fail_after(COMMIT_SECONDS):
                await _say(stream, "commit\n", "commit: ok")
        except Exception as error:
            failure = error
        stream.close_stdin()
        # A git that does not end by itself is killed at the end of the block.
        with anyio.move_on_after(COMMIT_SECONDS):
            await stream.wait()
    reason = program.said(stream.stderr_tail) or "no answer"
    if failure is not None and not locked:
        raise WorkConflict(
            f"The current branch cannot be changed: {reason}.",
            hint="Another program may be using the repository. Try again.",
        ) from failure
    if isinstance(failure, TimeoutError | anyio.BrokenResourceError | EOFError):
        raise GitError(f"git update-ref failed: {reason}") from failure
    if failure is not None:
        raise failure


async def _say(stream: process.Stream, text: str, answer: str) -> None:
    await stream.send(text.encode())
    heard = b""
    while not heard.endswith(f"{answer}\n".encode()):
        if not (piece := await stream.receive()):
            raise EOFError
        heard += piece


async def _check_out(
    work: Incoming, place: Place, settled: Sequence[Entry], ours: str, new: str, *options: str
) -> None:
    """Bring files and index from one commit to another; git refuses before it changes a file."""
    git = work.git
    if settled:
        zero = "0" * len(work.tip)
        rows = [
            b"%06o %s\t%s\0" % (each.mode, (each.object or zero).encode(), os.fsencode(each.path))
            for each in settled
        ]
        await git.answer(place, b"".join(rows), "update-index", "-z", "--index-info")
    # Files that only look changed, because they were copied or touched, are in nobody's way.
    await git.run(
        place, "update-index", "-q", "--refresh", accepted=(0, 1),
        seconds=UNPACK_SECONDS, output_bytes=MAX_ENTRIES_BYTES,
    )  # fmt: skip
    try:
        await git.run(place, "read-tree", "-m", "-u", *options, ours, new, seconds=UNPACK_SECONDS)
    except GitError as error:
        raise WorkConflict(
            f"The files could not be changed: {error.message}",
            hint="Commit, stash or move what is in the way, and try again.",
        ) from error


async def _filtered(work: Incoming, place: Place, entries: Sequence[Entry]) -> tuple[str, ...]:
    """A warning about files that git would have passed through a program of the user's."""
    asked = b"".join(os.fsencode(each.path) + b"\0" for each in entries if each.mode != ABSENT)
    done = await work.git.answer(
        place, asked, "check-attr", "-z", "--stdin", "filter", output_bytes=MAX_ENTRIES_BYTES
    )
    fields = [os.fsdecode(each) for each in done.stdout.split(b"\0")]
    names = [
        path
        for path, value in zip(fields[0::3], fields[2::3], strict=False)
        if value not in ("unspecified", "unset")
    ]
    if not names:
        return ()
    return (
        f"Filters (such as Git LFS) did not run for {listed(names)}. Check out these files again.",
    )
