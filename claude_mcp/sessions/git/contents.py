"""What a commit refers to and does not hold: submodules, and files of Git LFS.

Both come along as far as the host's repository has them. Nothing is fetched, and no configuration
of the project decides where they are: only what lies in the project and its repository counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import anyio.to_thread

from claude_mcp.contract.workspaces import Submodule
from claude_mcp.errors import GitError
from claude_mcp.sessions.git import program
from claude_mcp.sessions.git.program import Git, Repository

GITMODULES: Final = ".gitmodules"
GITATTRIBUTES: Final = ".gitattributes"
GITLINK: Final = b"160000"
LIST_BYTES: Final = 64 * 1024 * 1024
MAX_SUBMODULES: Final = 100
MAX_DEPTH: Final = 5
MAX_POINTER_BYTES: Final = 1024
MAX_LFS_BYTES: Final = 2 * 1024**3
"""Of the content of all files of Git LFS; the others stay pointers."""
MAX_LFS_FILES: Final = 20_000
LFS_OBJECTS: Final = "lfs/objects"
_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n"
)
EXISTS: Final = (0, 1, 128)


@dataclass(frozen=True, slots=True)
class Included:
    """A submodule that comes along, and where its commits are."""

    submodule: Submodule
    repository: Repository


async def submodules(
    git: Git, repository: Repository, top: str, base: str
) -> tuple[list[Included], list[str]]:
    """The submodules that come along, and the paths of those that are not there.

    ``top`` is the top of the working tree. Each is had at the commit that ``base`` records.
    """
    found: list[Included] = []
    missing: list[str] = []
    within = (top, repository.common_dir)
    await _add(git, repository, within, "", base, found, missing, MAX_DEPTH)
    return found, missing


async def _add(
    git: Git,
    repository: Repository,
    within: tuple[str, str],
    above: str,
    commit: str,
    found: list[Included],
    missing: list[str],
    depth: int,
) -> None:
    if not depth or not await _has(git, repository, f"{commit}:{GITMODULES}"):
        return
    done = await git.run(
        repository.place, "ls-tree", "-r", "-z", "--full-tree", commit, output_bytes=LIST_BYTES
    )
    for row in done.stdout.split(b"\0"):
        if not row.startswith(GITLINK):
            continue
        facts, _, name = row.partition(b"\t")
        path, oid = above + os.fsdecode(name), facts.split(b" ")[2].decode()
        inner = await _repository(git, f"{within[0]}/{path}", within)
        is_there = inner is not None and await _has(git, inner, f"{oid}^{{commit}}")
        if inner is None or not is_there or len(found) >= MAX_SUBMODULES:
            missing.append(path)
            continue
        shallow = await anyio.to_thread.run_sync(shallow_commits, inner)
        prefix = f"{len(found) + 1}-"
        module = Submodule(path, oid, prefix, inner.object_format, shallow)
        found.append(Included(module, inner))
        await _add(git, inner, within, f"{path}/", oid, found, missing, depth - 1)


async def _repository(git: Git, path: str, within: Sequence[str]) -> Repository | None:
    """The repository of a submodule, if it is one of the project's and not another of the host."""
    if not await anyio.to_thread.run_sync(_is_checkout, path):
        return None
    try:
        found = await program.repository(git, path)
    except GitError:
        return None
    places = (found.git_dir, found.common_dir, found.objects)
    ours = all(any(os.path.commonpath((each, here)) == here for here in within) for each in places)
    return found if ours and found.work_tree == path else None


def _is_checkout(path: str) -> bool:
    return os.path.realpath(path) == path and os.path.lexists(os.path.join(path, ".git"))


async def _has(git: Git, repository: Repository, name: str) -> bool:
    done = await git.run(repository.place, "cat-file", "-e", name, accepted=EXISTS)
    return done.returncode == 0


def shallow_commits(repository: Repository) -> tuple[str, ...]:
    """Commits whose parents a shallow clone lacks."""
    try:
        with open(os.path.join(repository.common_dir, "shallow"), encoding="ascii") as file:
            return tuple(file.read().split())
    except FileNotFoundError:
        return ()


@dataclass(frozen=True, slots=True)
class Lfs:
    """The content of files of Git LFS that the host has, as ``objects`` below ``directory``.

    ``pointers`` are the paths of the others.
    """

    directory: str
    objects: tuple[str, ...] = ()
    pointers: tuple[str, ...] = ()


async def lfs(git: Git, repository: Repository, base: str) -> Lfs:
    """The files of Git LFS in a commit."""
    none = Lfs(os.path.join(repository.common_dir, LFS_OBJECTS))
    if not await _uses_lfs(git, repository, base):
        return none
    listing = await git.run(
        repository.place, "ls-tree", "-r", "-l", "-z", "--full-tree", base, output_bytes=LIST_BYTES
    )
    small: list[tuple[str, str]] = []
    for row in listing.stdout.split(b"\0")[:-1]:
        facts, _, name = row.partition(b"\t")
        _, kind, oid, size = facts.split()
        if kind == b"blob" and int(size) <= MAX_POINTER_BYTES:
            small.append((os.fsdecode(name), oid.decode()))
    asked = "".join(f"{oid}\n" for _, oid in small).encode()
    contents = await git.answer(
        repository.place, asked, "cat-file", "--batch", output_bytes=2 * LIST_BYTES
    )
    pointers = _pointers(contents.stdout, [path for path, _ in small])
    return await anyio.to_thread.run_sync(_present, none.directory, pointers)


async def _uses_lfs(git: Git, repository: Repository, base: str) -> bool:
    done = await git.run(
        repository.place, "cat-file", "blob", f"{base}:{GITATTRIBUTES}", accepted=EXISTS
    )
    return b"filter=lfs" in done.stdout


def _pointers(batch: bytes, paths: Sequence[str]) -> list[tuple[str, str, int]]:
    """Path, object and size of each pointer in the output of ``cat-file --batch``."""
    found, position = [], 0
    for path in paths:
        end = batch.index(b"\n", position)
        size = int(batch[position:end].split(b" ")[2])
        pointer = _POINTER.fullmatch(batch, end + 1, end + 1 + size)
        position = end + size + 2
        if pointer is not None:
            found.append((path, pointer[1].decode(), int(pointer[2])))
    return found


def _present(directory: str, pointers: Sequence[tuple[str, str, int]]) -> Lfs:
    objects: dict[str, None] = {}
    left, total = [], 0
    for path, oid, size in pointers:
        name = f"{oid[:2]}/{oid[2:4]}/{oid}"
        there = os.path.join(directory, name)
        fits = total + size <= MAX_LFS_BYTES and len(objects) < MAX_LFS_FILES
        is_there = os.path.isfile(there) and not os.path.islink(there)
        if size and (not fits or not is_there or os.path.getsize(there) != size):
            left.append(path)
            continue
        if size and name not in objects:
            objects[name] = None
            total += size
    return Lfs(directory, tuple(objects), tuple(left))
