"""Takes a session's work out of a bundle, into a scratch repository where it can do no harm.

The rule: everything in the bundle is hostile. It is bounded before git sees it, and checked before
a caller does. The scratch repository is ours, borrows the objects of the host's repository, and
is removed at the end. Nothing here changes the host's repository.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, Final

import anyio
import anyio.to_thread

from claude_mcp.errors import GitError, UsageError, WorkRefused
from claude_mcp.placing.staging import ENTERED
from claude_mcp.sessions.git import bundle as bundles
from claude_mcp.sessions.git import program, rules, temporary
from claude_mcp.sessions.git.bundle import Bundle
from claude_mcp.sessions.git.program import Git, Place, Repository, clean
from claude_mcp.sessions.git.rules import Entry

READ_SECONDS: Final = 180.0
"""Deadline for reading the sizes in a bundle."""
UNPACK_SECONDS: Final = 600.0
MAX_ENTRIES_BYTES: Final = 64 * 1024 * 1024
"""Of the list of changed entries; some 500,000 of them."""
MAX_NEW_LINKS: Final = 10_000
LINE_COUNT_SECONDS: Final = 30.0
MAX_SUBJECTS: Final = 100
MAX_SUBJECT_CHARS: Final = 200
LOG_BYTES: Final = 8 * 1024 * 1024
DIFF: Final = (
    "diff-tree", "-r", "-z", "--no-renames", "--no-abbrev", "--no-ext-diff", "--no-textconv",
    "--ignore-submodules=none",
)  # fmt: skip
SHALLOW: Final = "shallow"
_OBJECT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Change:
    """An entry with its numbers of lines; None for a binary or large file, or if unknown."""

    entry: Entry
    added: int | None
    deleted: int | None

    @property
    def path(self) -> str:
        return self.entry.path


@dataclass(frozen=True, slots=True)
class Incoming:
    """Work that has been checked; it exists while its scratch repository does.

    ``subjects`` are those of the newest commits, at most ``MAX_SUBJECTS``, newest first.
    ``follows`` says whether the history still contains ``base``.
    """

    git: Git
    repository: Repository
    scratch: Place
    branch: str
    base: str
    tip: str
    commits: int
    subjects: tuple[str, ...]
    changes: tuple[Change, ...]
    follows: bool
    warnings: tuple[str, ...]


@asynccontextmanager
async def incoming(
    git: Git, project: str, bundle: str, *, branch: str, base: str, paths: Sequence[str] = ()
) -> AsyncIterator[Incoming]:
    """The work on ``branch`` since the commit ``base``, from a bundle that a session made.

    ``project`` is a real path in a repository of the host, ``bundle`` a file that only we can
    write, and ``base`` a full object name. The bundle must hold ``refs/heads/<branch>`` only. With
    ``paths``, only what lies there is judged by the rules for entries, and may be taken.

    Raises:
        UsageError: the name of the branch, or ``base``, has no valid form.
        GitNotFound: the host has no usable git.
        WorkRefused: the work is too large, broken, or breaks a rule.
        GitError: git failed, or the project is not in a repository.
    """
    await check_branch(git, branch)
    if not _OBJECT.fullmatch(base):
        raise UsageError(f"{clean(base)!r} is not the full name of a commit.")
    repository = await program.repository(git, project)
    with bundles.opened(bundle) as file:
        header = bundles.read(file, branch, repository.object_format)
        await _check_sizes(file, header, repository.object_format)
        with temporary.directory() as directory:
            git, inner, warnings = _as_owner(git, repository, directory)
            scratch = await _scratch(git, inner, repository)
            await _unpack(git, scratch, file, header)
            await _check_commits(git, scratch, base, header.tip)
            try:
                work = await _examine(git, repository, scratch, branch, base, header.tip, paths)
            except WorkRefused:
                raise
            except GitError as error:  # git crashes on trees that are nested very deeply
                raise WorkRefused(f"The session's work is refused: {error.message}") from error
            yield replace(work, warnings=(*warnings, *work.warnings))


async def check_branch(git: Git, name: str) -> None:
    """Check the name of a branch.

    Raises:
        UsageError
    """
    unfit = UsageError(f"{clean(name)!r} cannot be the name of a branch.")
    if name.startswith("-") or "\0" in name or len(os.fsencode(name)) > rules.MAX_NAME_BYTES:
        raise unfit
    done = await git.run(Place(), "check-ref-format", "--branch", name, accepted=(0, 1, 128))
    if done.returncode != 0 or done.stdout != os.fsencode(name) + b"\n":
        raise unfit


async def _check_sizes(file: BinaryIO, header: Bundle, object_format: str) -> None:
    stop = threading.Event()
    try:
        with anyio.fail_after(READ_SECONDS):
            await anyio.to_thread.run_sync(
                bundles.check_sizes, file, header, object_format, stop, abandon_on_cancel=True
            )
    except TimeoutError as error:
        raise WorkRefused(f"Reading the bundle took more than {READ_SECONDS:g} s.") from error
    finally:
        stop.set()


async def _scratch(git: Git, directory: str, repository: Repository) -> Place:
    """An empty repository that borrows the host's objects."""
    git_dir = os.path.join(directory, "scratch.git")
    await git.run(
        Place(directory=directory), "init", "--quiet", "--bare", "--template=",
        f"--object-format={repository.object_format}", git_dir,
    )  # fmt: skip
    _borrow(git, git_dir, repository)
    return Place(git_dir=git_dir)


def _borrow(git: Git, git_dir: str, repository: Repository) -> None:
    information = os.path.join(git_dir, "objects", "info")
    os.makedirs(information, exist_ok=True)
    with open(os.path.join(information, "alternates"), "wb") as file:
        file.write(os.fsencode(f"{program.quoted(repository.objects)}\n"))
    program.give(file.name, git.user)
    with suppress(FileNotFoundError):
        # It says where the host's history ends on purpose.
        shallow = os.path.join(git_dir, SHALLOW)
        shutil.copyfile(os.path.join(repository.common_dir, SHALLOW), shallow)
        program.give(shallow, git.user)


def _as_owner(git: Git, repository: Repository, directory: str) -> tuple[Git, str, tuple[str, ...]]:
    """Git as the user to whom the repository belongs, and a directory of that user in ours.

    Ours stays ours, so that it is removed if we are killed. Warns if this is not possible.
    """
    owner = program.owner_of(repository)
    if owner is None:
        return git, directory, ()
    for path in filter(None, (repository.common_dir, repository.work_tree, directory)):
        above = os.path.dirname(path) if path == directory else path
        if not program.may_enter(owner, above):
            warning = (
                f"What is new in the repository belongs to root: its owner (uid {owner[0]}) may "
                f"not enter {clean(above)}."
            )
            return git, directory, (warning,)
    inner = os.path.join(directory, "owned")
    os.mkdir(inner, 0o700)
    program.give(inner, owner)
    os.chmod(directory, ENTERED)
    return Git(git.environment, owner), inner, ()


async def _unpack(git: Git, scratch: Place, file: BinaryIO, header: Bundle) -> None:
    """Give the pack to git, which checks every object and that none is missing."""

    def send(pipe: BinaryIO) -> None:
        file.seek(header.pack)
        shutil.copyfileobj(file, pipe, bundles.READ_BYTES)

    try:
        # One thread, because each holds large objects in memory.
        await git.feed(
            scratch, send, "index-pack", "--stdin", "--fix-thin", "--strict", "--threads=1",
            f"--max-input-size={bundles.MAX_BUNDLE_BYTES}", seconds=UNPACK_SECONDS,
        )  # fmt: skip
    except GitError as error:
        raise WorkRefused(f"The session's bundle is refused: {error.message}") from error


async def _check_commits(git: Git, scratch: Place, base: str, tip: str) -> None:
    kinds = await _kinds(git, scratch, [base, tip])
    if kinds[0] != "commit":
        raise GitError(
            f"The commit {base[:12]}, from which the session started, is no longer in the host's "
            "repository."
        )
    if kinds[1] != "commit":
        raise WorkRefused(f"The session's branch names a {kinds[1]} in place of a commit.")


async def _examine(
    git: Git,
    repository: Repository,
    scratch: Place,
    branch: str,
    base: str,
    tip: str,
    paths: Sequence[str],
) -> Incoming:
    entries = await changed(git, scratch, base, tip)
    if paths:
        entries = [each for each in entries if any(rules.lies_at(each, path) for path in paths)]
    rules.check(entries, await targets(git, scratch, entries))
    lines = await _line_counts(git, scratch, base, tip)
    counted = await git.run(scratch, "rev-list", "--count", f"{base}..{tip}")
    follows = await is_ancestor(git, scratch, base, tip)
    return Incoming(
        git=git,
        repository=repository,
        scratch=scratch,
        branch=branch,
        base=base,
        tip=tip,
        commits=int(counted.out),
        subjects=await subjects(git, scratch, base, tip),
        changes=tuple(Change(each, *lines.get(each.path, (None, None))) for each in entries),
        follows=follows,
        warnings=tuple(_warnings(entries, follows)),
    )


async def _kinds(git: Git, scratch: Place, objects: list[str]) -> list[str]:
    """``commit``, ``tree``, ``blob``, ``tag`` or ``missing`` for each object."""
    return [kind for kind, _ in await _kinds_and_sizes(git, scratch, objects)]


async def _kinds_and_sizes(git: Git, scratch: Place, objects: list[str]) -> list[tuple[str, int]]:
    asked = "".join(f"{each}\n" for each in objects).encode()
    done = await git.answer(
        scratch, asked, "cat-file", "--batch-check=%(objecttype) %(objectsize)",
        output_bytes=MAX_ENTRIES_BYTES,
    )  # fmt: skip
    answers = [each.split(" ") for each in done.out.splitlines()]
    return [
        ("missing", 0) if second == "missing" else (first, int(second)) for first, second in answers
    ]


async def changed(git: Git, scratch: Place, old: str, new: str) -> list[Entry]:
    """The entries that differ between two commits or trees."""
    done = await git.run(
        scratch, *DIFF, "--raw", old, new, output_bytes=MAX_ENTRIES_BYTES, seconds=UNPACK_SECONDS
    )
    return list(rules.parse_raw(done.stdout))


async def targets(git: Git, scratch: Place, entries: list[Entry]) -> dict[str, bytes]:
    """The target of each new link, by object; empty for one that is too long."""
    links = sorted({entry.object for entry in entries if entry.is_new_link})
    if len(links) > MAX_NEW_LINKS:
        raise WorkRefused(f"The session's work has more than {MAX_NEW_LINKS} new links.")
    if not links:
        return {}
    found = dict.fromkeys(links, b"")
    sizes = await _kinds_and_sizes(git, scratch, links)
    short = [
        each
        for each, (kind, size) in zip(links, sizes, strict=True)
        if kind == "blob" and size <= rules.MAX_TARGET_BYTES
    ]
    done = await git.answer(
        scratch, "".join(f"{each}\n" for each in short).encode(), "cat-file",
        "--batch=%(objectsize)", output_bytes=MAX_ENTRIES_BYTES,
    )  # fmt: skip
    position = 0
    for each in short:
        head, _, _ = done.stdout[position : position + 16].partition(b"\n")
        position += len(head) + 1
        found[each] = done.stdout[position : position + int(head)]
        position += int(head) + 1
    return found


async def _line_counts(
    git: Git, scratch: Place, base: str, tip: str
) -> dict[str, tuple[int | None, int | None]]:
    """Lines added and deleted by path; empty if counting takes too long, as it can be made to."""
    try:
        done = await git.run(
            scratch, *DIFF, "--numstat", base, tip,
            output_bytes=MAX_ENTRIES_BYTES, seconds=LINE_COUNT_SECONDS,
        )  # fmt: skip
    except GitError:
        return {}
    found = {}
    for row in filter(None, done.stdout.split(b"\0")):
        added, deleted, path = row.split(b"\t", 2)
        found[path.decode("utf-8", "surrogateescape")] = (
            None if added == b"-" else int(added),
            None if deleted == b"-" else int(deleted),
        )
    return found


async def is_ancestor(git: Git, place: Place, old: str, new: str) -> bool:
    done = await git.run(place, "merge-base", "--is-ancestor", old, new, accepted=(0, 1))
    return done.returncode == 0


async def subjects(
    git: Git, scratch: Place, old: str, new: str, most: int = MAX_SUBJECTS
) -> tuple[str, ...]:
    """The first lines of the commits in ``old..new``, newest first."""
    done = await git.run(
        scratch, "log", "-z", "--format=%s", "--no-color", "--encoding=UTF-8",
        f"--max-count={most}", f"{old}..{new}", output_bytes=LOG_BYTES,
    )  # fmt: skip
    shorten = partial(clean, characters=MAX_SUBJECT_CHARS)
    return tuple(map(shorten, done.out.removesuffix("\0").split("\0"))) if done.out else ()


def _warnings(entries: list[Entry], follows: bool) -> Iterator[str]:
    if not follows:
        yield "The session's history no longer contains the commit from which it started."
    modules = [entry.path for entry in entries if entry.mode == rules.GITLINK]
    if modules:
        yield f"Submodules refer to other commits: {program.listed(modules)}."
    if any(entry.path.casefold() == rules.GITMODULES for entry in entries):
        yield f"{rules.GITMODULES} has changed. Read it before you update submodules."
