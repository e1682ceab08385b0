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
from typing import BinaryIO, Final

import anyio.to_thread

from claude_mcp.contract import workspaces
from claude_mcp.contract.wording import named
from claude_mcp.contract.workspaces import Seed
from claude_mcp.errors import GitError, GitNotFound, UsageError
from claude_mcp.placing import descriptors
from claude_mcp.sessions.git import contents, ignoring, program, temporary, worktree
from claude_mcp.sessions.git.contents import Included, Lfs
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
    """The directory that is handed in: of a clone, the top of the repository's working tree."""
    seed: Seed
    files: tuple[str, ...]
    """Relative to that; surrogates stand for bytes that are not UTF-8."""
    repository: Repository | None = None
    tips: tuple[str, ...] = ()
    """The objects to pack, with all that they lead to."""
    directory: str = ""
    """Where the project is in ``project``, if it is not all of it."""
    submodules: tuple[Included, ...] = ()
    lfs: Lfs | None = None
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
    with temporary.directory() as directory:
        if plan.repository is not None and plan.tips:
            await _pack(git, plan.repository, plan.tips, f"{directory}/pack")
        for each in plan.submodules:
            start = f"{directory}/{each.submodule.prefix}pack"
            await _pack(git, each.repository, [each.submodule.commit], start)
        names = sorted(os.listdir(directory))
        yield [os.path.join(directory, name) for name in names if name.endswith((".pack", ".idx"))]


async def _pack(git: Git, repository: Repository, tips: Sequence[str], start: str) -> None:
    data = "".join(f"{tip}\n" for tip in tips).encode()

    def write(pipe: BinaryIO) -> None:
        view = memoryview(data)
        while view:
            view = view[pipe.write(view) :]

    await git.feed(
        repository.place, write,
        "pack-objects", "--quiet", "--revs", "--delta-base-offset", start, seconds=PACK_SECONDS,
    )  # fmt: skip


async def _plan_clone(git: Git, project: str, request: SeedRequest) -> SeedPlan:
    repository, top = await _repository(git, project)
    base = await _commit(git, repository, request.base_ref)
    directory = await _directory(git, repository, base, project)
    async with _reading(git, top, repository) as place:
        uncommitted, deleted = await _uncommitted(git, place, repository)
        included = await _included(git, place, request.include)
        warnings = await _untracked_warnings(git, place, repository, included)
    if not request.include_uncommitted:
        warnings = [*_uncommitted_warnings(len({*uncommitted, *deleted})), *warnings]
        uncommitted, deleted = (), ()
    elif request.base_ref is not None:
        raise UsageError(
            "Uncommitted changes belong to the commit that is checked out, not to "
            f"{named('baseRef')}.",
            hint=f"Leave out {named('baseRef')} or {named('includeUncommitted')}.",
        )
    if directory:
        warnings = [
            f"The session has the whole repository {top}; Claude is told to work in {directory!r}, "
            "and commands run at its top.",
            *warnings,
        ]
    references: dict[str, str] = {}
    tags: list[str] = []
    modules: list[Included] = []
    lfs = None
    if base is not None:
        references, tags = await _references(git, repository, base)
        modules, missing = await contents.submodules(git, repository, top, base)
        lfs = await contents.lfs(git, repository, base)
        warnings += _content_warnings(missing, lfs.pointers)
    seed = Seed(
        workspaces.CLONE,
        branch=request.branch,
        base=base,
        object_format=repository.object_format,
        references=references,
        shallow=contents.shallow_commits(repository),
        deleted=deleted,
        submodules=tuple(each.submodule for each in modules),
        lfs=bool(lfs and lfs.objects),
    )
    tips = () if base is None else (base, *tags)
    files = (*uncommitted, *included)
    return SeedPlan(
        top, seed, files, repository, tips, directory, tuple(modules), lfs, tuple(warnings)
    )


async def _repository(git: Git, project: str) -> tuple[Repository, str]:
    """The repository that a project is in, and the top of its working tree."""
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
    if repository.work_tree is None:
        raise UsageError(
            f"{project!r} lies in a git repository without a working tree.",
            hint="Give a checkout of it as the project.",
        )
    return repository, repository.work_tree


async def _directory(git: Git, repository: Repository, base: str | None, project: str) -> str:
    """Where a project is in its repository, which must be there at the base; '' at the top."""
    assert repository.work_tree is not None
    if project == repository.work_tree:
        return ""
    directory = project.removeprefix(f"{repository.work_tree.rstrip('/')}/")
    found = await git.run(
        repository.place, "cat-file", "-t", f"{base}:{directory}", accepted=EXISTS
    )
    if base is None or found.out.strip() != "tree":
        raise UsageError(
            f"The commit that the clone begins at has no directory {directory!r}.",
            hint="Commit it, give the repository as the project, or use the workspace 'copy'.",
        )
    return directory


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
        hint="It takes a branch, a tag or a commit of the project on the host.",
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
        f"with {named('includeUncommitted')}."
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
    return [f"{what} not in the session: {shown}. Bring those it needs with {named('include')}."]


def _content_warnings(missing: Sequence[str], pointers: Sequence[str]) -> list[str]:
    warnings = []
    if missing:
        warnings.append(
            f"Submodules are empty in the session: {program.listed(missing, NAMED)}. Run 'git "
            "submodule update --init --recursive' in the project before."
        )
    if pointers:
        warnings.append(
            f"Files in Git LFS are pointers in the session: {program.listed(pointers, NAMED)}. Run "
            "'git lfs pull' in the project before."
        )
    return warnings


async def _plan_copy(project: str, request: SeedRequest) -> SeedPlan:
    """Without git, which such a project need not have."""
    files = await anyio.to_thread.run_sync(
        ignoring.files_of, project, request.exclude, abandon_on_cancel=True
    )
    return SeedPlan(project, Seed(workspaces.COPY), tuple(files))
