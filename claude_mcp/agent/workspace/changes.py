"""What changed between two checkpoints, or since one of them, and what exists in this session only.

Names and content are the session's: untrusted, with control characters, and paths may contain
surrogates for bytes that are not UTF-8. All lists are bounded and tell how many more there are.
"""

from __future__ import annotations

import bisect
import codecs
import os
from collections.abc import Collection, Sequence
from contextlib import closing
from typing import NamedTuple

from claude_mcp.agent.workspace.checkpoints import CREATE, Checkpoint, Checkpoints, text
from claude_mcp.agent.workspace.git import Deadline, GitFailed, GitTimedOut
from claude_mcp.agent.workspace.repository import Repository

SUMMARY_SECONDS = 20.0
MAX_FILES = 500
"""In one answer."""
DIFF_CHARS = 100_000
LISTING_BYTES = 16 * 1024 * 1024
MAX_COMMITS = 100
SUBJECT_CHARS = 200
RAW = ("--raw", "--no-abbrev", "-r", "-z")
PLAIN = ("--no-ext-diff", "--no-textconv", "--no-color")


class NoCheckpoint(Exception):
    """The message is the label that was asked for."""


class FileChange(NamedTuple):
    """``status`` is A, M, D, R (from ``old_path``) or T (another type, for example a link).

    ``added`` and ``deleted`` count lines; both are None for a binary file, and where git was not
    able to count in time. ``untracked`` refers to the workspace's own repository.
    """

    path: str
    status: str
    old_path: str | None
    added: int | None
    deleted: int | None
    untracked: bool


class RepositoryState(NamedTuple):
    """The workspace's own repository now. ``ahead`` counts commits since the session's creation.

    ``ahead`` and ``committed`` (nothing is uncommitted or untracked) are None if git failed.
    """

    branch: str | None
    head: str | None
    ahead: int | None
    committed: bool | None


class Summary(NamedTuple):
    """``since`` and ``until`` are ids of snapshots, which ``diff`` takes. ``more`` files follow.

    If git was stopped at a limit, ``complete`` is False and ``more`` counts only what it listed.
    """

    since: str
    until: str
    files: tuple[FileChange, ...]
    more: int
    complete: bool
    left_out: tuple[str, ...]
    repository: RepositoryState | None


class Diff(NamedTuple):
    """A part of a unified diff; ``next_offset`` in characters, None at its end."""

    text: str
    next_offset: int | None
    since: str
    until: str


class Commit(NamedTuple):
    oid: str
    subject: str


class Unsaved(NamedTuple):
    """Commits, newest first, and files that would be lost with the session.

    ``more_commits`` and ``more_files`` tell how many are not listed. ``reason`` is set if git
    could not tell all, so that something may be lost that is not listed.
    """

    commits: tuple[Commit, ...]
    more_commits: int
    files: tuple[str, ...]
    more_files: int
    reason: str


def summary(
    checkpoints: Checkpoints,
    since_label: str,
    until_label: str | None = None,
    paths: Sequence[str] | None = None,
    offset: int = 0,
) -> Summary:
    """What changed since a checkpoint, until another one or now; of some paths only, if given.

    To read on, give as ``offset`` the number of files that were listed, and ``until`` of the first
    part: the workspace may change meanwhile.

    Raises:
        NoCheckpoint, TooMuch, GitFailed, NoGit, OSError
    """
    deadline = Deadline(SUMMARY_SECONDS)
    since, until = ends(checkpoints, since_label, until_label)
    changed, more, complete = _changes(checkpoints, since, until, deadline, paths, offset)
    source = checkpoints.git.repository()
    state = None
    if source is not None:
        state, untracked = _state(checkpoints, source, deadline)
        changed = [each._replace(untracked=each.path in untracked) for each in changed]
    return Summary(
        since.commit, until.commit, tuple(changed), more, complete, until.left_out, state
    )


def diff(
    checkpoints: Checkpoints,
    since: str,
    until: str | None = None,
    paths: Sequence[str] | None = None,
    offset: int = 0,
    limit: int = DIFF_CHARS,
) -> Diff:
    """A unified diff from ``offset``, at most ``limit`` characters.

    To read on, give ``until`` of the first part: the workspace may change meanwhile.

    Raises:
        NoCheckpoint, TooMuch, GitFailed, NoGit, OSError
    """
    deadline = Deadline(SUMMARY_SECONDS)
    first, last = ends(checkpoints, since, until)
    arguments = ("diff-tree", "-r", "-p", "-M", *PLAIN, first.tree, last.tree, "--")
    stream = checkpoints.git(borrowing=True).stream((*arguments, *encoded(paths)), deadline)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    shown, position, more = "", 0, False
    with closing(stream):
        for data in stream:
            piece = decoder.decode(data)
            shown += piece[max(0, offset - position) :]
            position += len(piece)
            if len(shown) > limit:
                more = True
                break
        else:
            shown += decoder.decode(b"", True)
    return Diff(shown[:limit], offset + limit if more else None, first.commit, last.commit)


def work_elsewhere(
    checkpoints: Checkpoints,
    applied: Collection[str] = (),
    since: str = CREATE,
    limit: int = MAX_COMMITS,
) -> Unsaved:
    """What would be lost with a session of kind ``clone`` or ``copy``.

    Of a repository: commits of HEAD, the branches and the stash that are reachable neither from
    ``applied`` nor from the commit at creation, files that are uncommitted or untracked, unless
    they came from the host like that, and files of submodules that differ from the state at
    creation. Of a directory, or if ``since`` is another state: files that differ from that
    checkpoint.

    Raises:
        NoCheckpoint, TooMuch, GitFailed, NoGit, OSError: it cannot be told at all.
    """
    deadline = Deadline(SUMMARY_SECONDS)
    source = checkpoints.git.repository()
    if source is None or not checkpoints.clone or since != CREATE:
        first, last = ends(checkpoints, since, None)
        changed, more, complete = _changes(checkpoints, first, last, deadline)
        names = [each.path for each in changed]
        reason = "" if complete else "too many files changed"
        return Unsaved((), 0, tuple(names[:limit]), max(0, len(names) - limit) + more, reason)
    created = checkpoints.find(CREATE)
    known = [*applied, *([created.head] if created and created.head else [])]
    commits, reason = _commits(checkpoints, source, known, deadline)
    records, complete = _status(checkpoints, source, deadline)
    names = [text(path) for _, path in records]
    if created is not None:
        last = checkpoints.now()
        differing = _differing(checkpoints, created, last, deadline)
        if differing is not None:
            names = [name for name in names if _is_among(name, differing)]
            names += _in_submodules(checkpoints.workspace, differing, names)
        complete = complete and differing is not None
    return Unsaved(
        tuple(commits[:limit]),
        max(0, len(commits) - limit),
        tuple(names[:limit]),
        max(0, len(names) - limit),
        reason or ("" if complete else "too many files changed"),
    )


def ends(checkpoints: Checkpoints, since: str, until: str | None) -> tuple[Checkpoint, Checkpoint]:
    """Both checkpoints; the second is a new snapshot if it has no label."""
    first = checkpoints.find(since)
    if first is None:
        raise NoCheckpoint(since)
    last = checkpoints.now() if until is None else checkpoints.find(until)
    if last is None:
        raise NoCheckpoint(str(until))
    return first, last


def encoded(paths: Sequence[str] | None) -> list[str]:
    """Paths from a request as arguments of a process."""
    return [os.fsdecode(path.encode("utf-8", "surrogateescape")) for path in paths or ()]


def _changes(
    checkpoints: Checkpoints,
    since: Checkpoint,
    until: Checkpoint,
    deadline: Deadline,
    paths: Sequence[str] | None = None,
    offset: int = 0,
) -> tuple[list[FileChange], int, bool]:
    """Changes from ``offset`` on, the number of further ones, and whether git listed all."""
    if since.tree == until.tree:
        return [], 0, True
    arguments = (
        "diff-tree", *RAW, "--numstat", "-M", *PLAIN, since.tree, until.tree, "--",
        *encoded(paths),
    )  # fmt: skip
    data, complete = bytearray(), True
    stream = checkpoints.git(borrowing=True).stream(arguments, deadline)
    with closing(stream):
        try:
            for piece in stream:
                data += piece
                if len(data) > LISTING_BYTES:
                    complete = False
                    break
        except GitTimedOut:
            complete = False
    return _parse_changes(bytes(data), offset, complete)


def _parse_changes(data: bytes, offset: int, complete: bool) -> tuple[list[FileChange], int, bool]:
    """From ``--raw --numstat -z``: first all files, then all numbers of lines."""
    fields = iter(data.split(b"\0")[:-1])
    files: dict[bytes, FileChange] = {}
    seen = more = 0
    for field in fields:
        if field.startswith(b":"):
            status = field.rpartition(b" ")[2][:1].decode()
            path = next(fields, b"")
            old = path if status == "R" else None
            path = next(fields, b"") if old is not None else path
            seen += 1
            if seen <= offset:
                continue
            if len(files) >= MAX_FILES:
                more += 1
                continue
            old_path = None if old is None else text(old)
            files[path] = FileChange(text(path), status, old_path, None, None, False)
            continue
        added, deleted, path = field.split(b"\t", 2)
        if not path:  # renamed: both names follow
            next(fields, b"")
            path = next(fields, b"")
        if path in files and added.isdigit() and deleted.isdigit():
            files[path] = files[path]._replace(added=int(added), deleted=int(deleted))
    return list(files.values()), more, complete


def _state(
    checkpoints: Checkpoints, source: Repository, deadline: Deadline
) -> tuple[RepositoryState, set[str]]:
    """The repository's state, and the paths of untracked files."""
    head = source.head()
    ahead: int | None = None
    created = checkpoints.find(CREATE)
    try:
        if head.commit is None or (created is not None and created.head == head.commit):
            ahead = 0
        else:
            known = [created.head] if created is not None and created.head is not None else []
            arguments = ("rev-list", "--count", "--ignore-missing", head.commit, *_without(known))
            ahead = int(checkpoints.git(borrowing=True).short(deadline, *arguments))
    except (GitFailed, ValueError):
        ahead = None
    try:
        records, complete = _status(checkpoints, source, deadline)
    except (GitFailed, OSError):
        return RepositoryState(head.branch, head.commit, ahead, None), set()
    untracked = {text(path) for state, path in records if state == b"??"}
    committed = complete and not records
    return RepositoryState(head.branch, head.commit, ahead, committed), untracked


def _status(
    checkpoints: Checkpoints, source: Repository, deadline: Deadline
) -> tuple[list[tuple[bytes, bytes]], bool]:
    """State and path of all that ``git status`` in the workspace would name; whether that is all.

    It reads the project's index, but neither its configuration nor its filters. So a file whose
    filter would have to be run to tell counts as changed.
    """
    git = checkpoints.git.with_index_of(source)
    arguments = ("status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=dirty")
    output = git.run(arguments, deadline, limit_bytes=LISTING_BYTES)
    records = output.data.split(b"\0")[:-1]
    return [(record[:2], record[3:]) for record in records], output.complete


def _differing(
    checkpoints: Checkpoints, since: Checkpoint, until: Checkpoint, deadline: Deadline
) -> list[str] | None:
    """The sorted paths of all files that differ; None if they are too many."""
    arguments = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", since.tree, until.tree)
    git = checkpoints.git(borrowing=True)
    output = git.run(arguments, deadline, limit_bytes=LISTING_BYTES)
    return sorted(map(text, output.data.split(b"\0")[:-1])) if output.complete else None


def _is_among(name: str, paths: Sequence[str]) -> bool:
    """Whether this file, or with a slash at its end one in this directory, is among the paths."""
    place = bisect.bisect_left(paths, name)
    if place == len(paths):
        return False
    return paths[place].startswith(name) if name.endswith("/") else paths[place] == name


def _in_submodules(workspace: str, paths: Sequence[str], named: Sequence[str]) -> list[str]:
    """Those of these files that are in submodules, of which ``git status`` names none.

    Without those in directories that are named already.
    """
    found = []
    directories = tuple(name for name in named if name.endswith("/"))
    for path in paths:
        directory = os.path.dirname(os.fsdecode(path.encode("utf-8", "surrogateescape")))
        while directory and not os.path.lexists(os.path.join(workspace, directory, ".git")):
            directory = os.path.dirname(directory)
        if directory and not path.startswith(directories):
            found.append(path)
    return found


def _commits(
    checkpoints: Checkpoints, source: Repository, known: Sequence[str], deadline: Deadline
) -> tuple[list[Commit], str]:
    """The commits of HEAD, branches and stash that cannot be reached from the known ones."""
    head = source.head().commit
    tips, reason = [] if head is None else [head], ""
    arguments = ("for-each-ref", "--format=%(objectname)", "refs/heads", "refs/stash")
    git = checkpoints.git(borrowing=True, variables={"GIT_DIR": source.common})
    try:
        output = git.run(arguments, deadline, limit_bytes=LISTING_BYTES)
        tips += sorted(set(output.data.decode("ascii", "replace").split()))
        reason = "" if output.complete else "there are too many branches"
    except GitFailed as error:
        reason = str(error)
    if not tips:
        return [], reason
    lines = "\n".join([*tips, *_without(known)]) + "\n"
    output = checkpoints.git(borrowing=True).run(
        ("log", "-z", "--format=%H %s", "--ignore-missing", "--stdin"),
        deadline,
        limit_bytes=LISTING_BYTES,
        stdin=lines.encode(),
    )
    commits = []
    for record in output.data.split(b"\0"):
        oid, _, subject = record.partition(b" ")
        if oid:
            commits.append(Commit(oid.decode("ascii", "replace"), text(subject)[:SUBJECT_CHARS]))
    return commits, reason or ("" if output.complete else "there are too many commits")


def _without(commits: Sequence[str]) -> list[str]:
    return [f"^{commit}" for commit in commits]
