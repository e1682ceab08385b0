"""What a session's own clone or copy of a project consists of.

The host's repository is read and never written. The session's ``.git`` is made of it: the commits
that lead to the base and the tags on the way, but no configuration.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import anyio.to_thread

from claude_mcp.contract import workspaces
from claude_mcp.contract.workspaces import Seed
from claude_mcp.errors import GitError, GitNotFound, UsageError
from claude_mcp.placing import descriptors
from claude_mcp.sessions.git import ignoring, program, temporary, worktree
from claude_mcp.sessions.git.program import Git, Place, Repository
from claude_mcp.sessions.git.rules import EXECUTABLE, FILE, LINK

INCLUDE_FILE: Final = ".worktreeinclude"
NAMED: Final = 5
"""How many files a warning names."""
LIST_BYTES: Final = 64 * 1024 * 1024
"""Upper bound on a list of files."""
PACK_SECONDS: Final = 600.0
EXISTS: Final = (0, 1, 128)
"""Exit codes of a question that may be answered with no."""


@dataclass(frozen=True, slots=True)
class SeedRequest:
    """``include`` and ``exclude`` are patterns as in .gitignore."""

    kind: str
    branch: str
    base_ref: str | None = None
    include_uncommitted: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """What will be handed in; the commits are packed when the container exists."""

    project: str
    seed: Seed
    files: tuple[str, ...]
    """Relative to the project; surrogates stand for bytes that are not UTF-8."""
    repository: Repository | None = None
    tips: tuple[str, ...] = ()
    """The objects to pack, with all that they lead to."""
    warnings: tuple[str, ...] = ()


async def plan(git: Git, project: str, request: SeedRequest) -> SeedPlan:
    """Decide what a clone or copy of a project, a real path, consists of.

    Raises:
        UsageError: the project cannot be had in this way.
        GitError
    """
    if request.kind == workspaces.COPY:
        return await _plan_copy(project, request)
    return await _plan_clone(git, project, request)


@asynccontextmanager
async def packed(git: Git, plan: SeedPlan) -> AsyncIterator[list[str]]:
    """The paths of a git pack with all commits of the plan, and of its index.

    Raises:
        GitError
    """
    data = "".join(f"{tip}\n" for tip in plan.tips).encode()

    def write(pipe: BinaryIO) -> None:
        view = memoryview(data)
        while view:
            view = view[pipe.write(view) :]

    with temporary.directory() as directory:
        if plan.repository is not None and plan.tips:
            await git.feed(
                plan.repository.place,
                write,
                "pack-objects", "--quiet", "--revs", "--delta-base-offset", f"{directory}/pack",
                seconds=PACK_SECONDS,
            )  # fmt: skip
        names = sorted(os.listdir(directory))
        yield [os.path.join(directory, name) for name in names if name.endswith((".pack", ".idx"))]


async def _plan_clone(git: Git, project: str, request: SeedRequest) -> SeedPlan:
    repository = await _whole_repository(git, project)
    base = await _commit(git, repository, request.base_ref)
    async with _reading(git, project, repository) as place:
        uncommitted, deleted = await _uncommitted(git, place, repository)
        included = await _included(git, place, request.include)
        warnings = await _untracked_warnings(git, place, repository, included)
    if not request.include_uncommitted:
        warnings = [*_uncommitted_warnings(len({*uncommitted, *deleted})), *warnings]
        uncommitted, deleted = (), ()
    elif request.base_ref is not None:
        raise UsageError(
            "Uncommitted changes belong to the commit that is checked out, not to baseRef.",
            hint="Leave out baseRef or includeUncommitted.",
        )
    references: dict[str, str] = {}
    tags: list[str] = []
    if base is not None:
        references, tags = await _references(git, repository, base)
        warnings += await _content_warnings(git, repository, base)
    seed = Seed(
        workspaces.CLONE,
        branch=request.branch,
        base=base,
        object_format=repository.object_format,
        references=references,
        shallow=_words_in(os.path.join(repository.common_dir, "shallow")),
        deleted=deleted,
    )
    tips = () if base is None else (base, *tags)
    files = (*uncommitted, *included)
    return SeedPlan(project, seed, files, repository, tips, tuple(warnings))


async def _whole_repository(git: Git, project: str) -> Repository:
    try:
        await git.version()
    except GitNotFound as error:
        hint = f"{error.hint or ''} Or use the workspace 'copy', which needs no git.".strip()
        raise GitNotFound(error.message, hint=hint) from error
    try:
        repository = await program.repository(git, project)
    except GitError as error:
        raise UsageError(
            f"{project!r} is not a git repository, so it cannot be cloned.",
            hint="Use the workspace 'copy' for a directory that is no repository.",
        ) from error
    if repository.work_tree != project:
        raise UsageError(
            f"{project!r} lies in the git repository {repository.work_tree or project!r}, and a "
            "clone is of a whole one with its working tree.",
            hint="Give the repository as the project, or use the workspace 'copy'.",
        )
    return repository


def _words_in(path: str) -> tuple[str, ...]:
    try:
        return tuple(Path(path).read_text(encoding="ascii").split())
    except FileNotFoundError:
        return ()


@asynccontextmanager
async def _reading(git: Git, project: str, repository: Repository) -> AsyncIterator[Place]:
    """A repository of ours with the project as its working tree, for comparing files.

    In the project's own, git would run the filters of its configuration, and write its index.
    """
    with temporary.directory() as directory:
        await git.run(
            Place(directory), "init", "--quiet", "--bare", "--template=",
            f"--object-format={repository.object_format}", directory,
        )  # fmt: skip
        index = os.path.join(directory, "index")
        await anyio.to_thread.run_sync(_copy_index, repository.git_dir, directory)
        yield Place(
            project,
            git_dir=directory,
            work_tree=project,
            index=index,
            borrowed=repository.objects,
        )


def _copy_index(source: str, target: str) -> None:
    """An index may refer to a second one beside it."""
    for path in (os.path.join(source, "index"), *glob.glob(f"{glob.escape(source)}/sharedindex.*")):
        if os.path.isfile(path):
            shutil.copy(path, target)


async def _listed(git: Git, place: Place, *arguments: str) -> list[str]:
    """The fields of what a command writes with ``-z``; surrogates stand for odd bytes."""
    done = await git.run(place, *arguments, output_bytes=LIST_BYTES)
    return os.fsdecode(done.stdout).split("\0")[:-1]


async def _commit(git: Git, repository: Repository, reference: str | None) -> str | None:
    """The commit to begin at; None in a repository without commits."""
    name = "HEAD" if reference is None else reference
    done = await git.run(
        repository.place,
        "rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}",
        accepted=EXISTS,
    )  # fmt: skip
    if not done.returncode:
        return done.out.strip()
    if reference is None:
        return None
    raise UsageError(
        f"The project has no commit {reference[:200]!r}.",
        hint="baseRef is a branch, a tag or a commit of the project on the host.",
    )


async def _references(
    git: Git, repository: Repository, base: str
) -> tuple[dict[str, str], list[str]]:
    """The references that a clone gets besides its branch, and the objects of its tags."""
    head = await git.run(repository.place, "symbolic-ref", "--quiet", "HEAD", accepted=EXISTS)
    branch = head.out.strip().removeprefix("refs/heads/")
    done = await git.run(
        repository.place,
        "for-each-ref", f"--merged={base}", "--format=%(objectname) %(refname)", "refs/tags",
        output_bytes=LIST_BYTES,
    )  # fmt: skip
    tags = [each.split(" ", 1) for each in os.fsdecode(done.stdout).splitlines()]
    references = {name: target for target, name in tags}
    if branch:
        references[workspaces.REMOTE_PREFIX + branch] = base
    return references, [target for target, _ in tags]


async def _uncommitted(
    git: Git, place: Place, repository: Repository
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tracked files that differ from HEAD: those to bring, and those to remove first."""
    head = await _commit(git, repository, None)
    if head is None:
        staged = await _listed(git, place, "ls-files", "--cached", "-z")
        changes = [(":0 100644 0 0 A", path) for path in staged]
    else:
        fields = await _listed(
            git, place, "diff-index", "-z", "--no-renames", "--ignore-submodules", head
        )
        changes = [*zip(fields[::2], fields[1::2], strict=True)]
    return await anyio.to_thread.run_sync(
        _compared, place.directory, changes, repository.object_format
    )


def _compared(
    project: str, changes: Sequence[tuple[str, str]], object_format: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Leave out what only looks changed: git compares times first, and content not always."""
    present, removed = [], []
    with descriptors.opened(project) as root:
        for raw, path in changes:
            mode, _, blob, _, kind = raw.lstrip(":").split(" ")
            found = worktree.look(root, path, object_format)
            if found.mode not in (EXECUTABLE, FILE, LINK):
                removed.append(path)
            elif (found.mode, found.object) != (int(mode, 8), blob):
                present.append(path)
                if kind == "T":
                    removed.append(path)
    return tuple(present), tuple(removed)


async def _included(git: Git, place: Place, patterns: Sequence[str]) -> tuple[str, ...]:
    """The untracked files to bring along."""
    options = [*_include_options(place.directory, patterns)]
    if not options:
        return ()
    return tuple(await _listed(git, place, "ls-files", "-z", "--others", "--ignored", *options))


def _include_options(project: str, patterns: Sequence[str]) -> Iterator[str]:
    for pattern in patterns:
        yield f"--exclude={pattern}"
    file = os.path.join(project, INCLUDE_FILE)
    if os.path.isfile(file):
        yield f"--exclude-from={file}"


def _uncommitted_warnings(count: int) -> list[str]:
    if not count:
        return []
    files = "A tracked file has" if count == 1 else f"{count} tracked files have"
    return [
        f"{files} uncommitted changes, which are not in the session. Commit them, or ask for them "
        "with includeUncommitted."
    ]


async def _untracked_warnings(
    git: Git, place: Place, repository: Repository, included: Sequence[str]
) -> list[str]:
    options = ["--exclude-per-directory=.gitignore"]
    excluded = os.path.join(repository.common_dir, "info", "exclude")
    if await anyio.Path(excluded).is_file():
        options.append(f"--exclude-from={excluded}")
    found = await _listed(git, place, "ls-files", "-z", "--others", *options)
    names = sorted({*found} - {*included})
    if not names:
        return []
    what = "An untracked file is" if len(names) == 1 else f"{len(names)} untracked files are"
    shown = program.listed(names, NAMED)
    return [f"{what} not in the session: {shown}. Bring those it needs with include."]


async def _content_warnings(git: Git, repository: Repository, base: str) -> list[str]:
    place = repository.place
    there = await _listed(
        git, place, "ls-tree", "--name-only", "-z", base, ".gitmodules", ".gitattributes"
    )
    warnings = []
    if ".gitmodules" in there:
        warnings.append("Submodules are empty directories in the session.")
    if ".gitattributes" in there:
        attributes = await git.run(place, "cat-file", "blob", f"{base}:.gitattributes")
        if b"filter=lfs" in attributes.stdout:
            warnings.append("Files in Git LFS are pointers in the session, without their content.")
    return warnings


async def _plan_copy(project: str, request: SeedRequest) -> SeedPlan:
    """Without git, which such a project need not have."""
    files = await anyio.to_thread.run_sync(
        ignoring.files_of, project, request.exclude, abandon_on_cancel=True
    )
    return SeedPlan(project, Seed(workspaces.COPY), tuple(files))
