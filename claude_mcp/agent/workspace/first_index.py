"""Makes the first index of the shadow repository from that of the workspace's repository.

A file that the project's index knows is not read again: it has its content's id and the file's
stat data. Left out are entries that do not say what is on disk: what a filter or a conversion of
line ends made, sparse and assumed files, conflicts and submodules.
"""

from __future__ import annotations

import glob
import os
from typing import NamedTuple

from claude_mcp.agent.store import files
from claude_mcp.agent.workspace import repository
from claude_mcp.agent.workspace.git import Deadline, Git

LISTING_BYTES = 128 * 1024 * 1024
MAX_ATTRIBUTES_BYTES = 1024 * 1024
PLAIN_MODES = (b"100644", b"100755", b"120000")
LINK_MODE = b"120000"
CONVERTING = ("filter", "ident", "working-tree-encoding")
NOT_CONVERTED = (b"unspecified", b"unset")


class Entry(NamedTuple):
    mode: bytes
    oid: bytes
    path: bytes


def copy(
    source: repository.Repository, shadow: str, workspace: str, git: Git, deadline: Deadline
) -> None:
    """Copy the index into the shadow repository and correct it.

    ``git`` has the objects of the project. The shadow has no attributes of its own yet.

    Raises:
        GitFailed, OSError: the index is damaged, for example.
    """
    content = repository.read(source.index_file, repository.MAX_INDEX_BYTES)
    if not content or glob.glob(os.path.join(glob.escape(source.directory), "sharedindex.*")):
        return  # nothing there, or only a part of it
    files.replace(os.path.join(shadow, "index"), content)
    attributes = repository.read(
        os.path.join(source.common, "info/attributes"), MAX_ATTRIBUTES_BYTES
    )
    files.replace(os.path.join(shadow, "info/attributes"), attributes)
    plain, wrong = _entries(git, deadline)
    wrong |= _converted(plain, git, deadline) | _of_another_size(plain, workspace, git, deadline)
    if wrong:
        null = b"0" * (64 if source.object_format() == "sha256" else 40)
        lines = b"".join(b"0 %s\t%s\0" % (null, path) for path in wrong)
        arguments = ("update-index", "-z", "--index-info")
        git.run(arguments, deadline, limit_bytes=LISTING_BYTES, stdin=lines)


def _entries(git: Git, deadline: Deadline) -> tuple[list[Entry], set[bytes]]:
    """The plain entries, and the paths of all others."""
    listing = _listing(git, ("ls-files", "-z", "-v", "--stage"), deadline)
    plain, wrong = [], set()
    for line in listing.split(b"\0")[:-1]:
        facts, _, path = line.partition(b"\t")
        tag, mode, oid, stage = facts.split(b" ")
        if tag == b"H" and stage == b"0" and mode in PLAIN_MODES:
            plain.append(Entry(mode, oid, path))
        else:
            wrong.add(path)
    return plain, wrong


def _converted(plain: list[Entry], git: Git, deadline: Deadline) -> set[bytes]:
    """The paths whose content git would convert, other than at the ends of lines."""
    paths = b"".join(entry.path + b"\0" for entry in plain)
    if not paths:
        return set()
    listing = _listing(git, ("check-attr", "-z", "--stdin", *CONVERTING), deadline, paths)
    fields = listing.split(b"\0")[:-1]
    return {path for path, value in zip(fields[::3], fields[2::3]) if value not in NOT_CONVERTED}


def _of_another_size(
    plain: list[Entry], workspace: str, git: Git, deadline: Deadline
) -> set[bytes]:
    """The paths whose object is missing or has not the size of the file.

    This also finds converted line ends, and files that changed, which are to be read anyway.
    """
    oids = b"".join(entry.oid + b"\n" for entry in plain)
    if not oids:
        return set()
    listing = _listing(git, ("cat-file", "--batch-check=%(objectsize)"), deadline, oids)
    root, wrong = os.fsencode(workspace), set()
    for entry, size in zip(plain, listing.split(b"\n")):
        try:
            there = os.lstat(os.path.join(root, entry.path)).st_size
        except OSError:
            continue
        if size != b"%d" % there:
            wrong.add(entry.path)
    return wrong


def _listing(git: Git, arguments: tuple[str, ...], deadline: Deadline, stdin: bytes = b"") -> bytes:
    return git.run(arguments, deadline, limit_bytes=LISTING_BYTES, stdin=stdin).data
