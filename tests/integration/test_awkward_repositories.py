"""Clones of repositories that are not plain, and sessions that rewrite them, on a real engine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_mcp.errors import UsageError, WorkConflict, WorkUnsaved
from claude_mcp.sessions.create.request import Created, CreateRequest, WorkspaceName
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.workspaces.applying import apply_changes
from claude_mcp.sessions.workspaces.changes import get_changes
from tests.snapshots import NEW_OBJECTS, differences, git, is_sound, ref_files, snapshot

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("committer")]
STRESS = pytest.mark.stress
ODD_NAMES = (
    b"n\xff\xfe",
    b"line\nbreak",
    b'"quoted"',
    b"-option",
    b"tab\t",
    "\u00e4/\u65e5".encode(),
)
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


@pytest.fixture
def repository(project: Path) -> Path:
    git(project, "init", "--quiet", "--initial-branch=main")
    (project / "a.txt").write_text("one\n")
    (project / "deep/er").mkdir(parents=True)
    (project / "deep/er/b.txt").write_text("b\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    (project / "a.txt").write_text("two\n")
    git(project, "commit", "--quiet", "-am", "second")
    return project


def odd(project: Path) -> Path:
    for name in ODD_NAMES:
        path = os.path.join(os.fsencode(project), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    (project / "link").symlink_to("deep/er/b.txt")
    (project / "dangling").symlink_to("/nowhere")
    git(project, "add", "-A")
    git(project, "commit", "--quiet", "-m", "odd")
    return project


def detached(project: Path) -> Path:
    git(project, "checkout", "--quiet", "--detach", "HEAD~1")
    return project


def shallow(project: Path) -> Path:
    clone = project.with_name("shallow")
    git(project, "clone", "--quiet", "--depth=1", project.as_uri(), str(clone))
    return clone


def sparse(project: Path) -> Path:
    git(project, "sparse-checkout", "set", "--no-cone", "/a.txt")
    assert not (project / "deep").exists()
    return project


def worktree(project: Path) -> Path:
    git(project, "worktree", "add", "--quiet", "-b", "elsewhere", str(project.with_name("tree")))
    return project.with_name("tree")


def with_submodule(project: Path) -> Path:
    other = project.with_name("other")
    git(project, "clone", "--quiet", str(project), str(other))
    git(
        project,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(other),
        "sub",
    )
    git(project, "commit", "--quiet", "-am", "with a submodule")
    return project


def with_lfs(project: Path) -> Path:
    (project / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (project / "large.bin").write_text(POINTER)
    git(project, "add", "-A")
    git(project, "commit", "--quiet", "-m", "with LFS")
    return project


KINDS = [
    odd,
    *(pytest.param(each, marks=STRESS, id=each.__name__)
      for each in (detached, shallow, sparse, worktree, with_submodule, with_lfs)),
]  # fmt: skip


async def created(
    sessions: Sessions, project: Path, name: str, workspace: WorkspaceName, **options: object
) -> Created:
    request = CreateRequest(str(project), session_name=name, workspace=workspace, **options)  # type: ignore[arg-type]
    return await create(sessions, request)


async def cloned(sessions: Sessions, project: Path, name: str, **options: object) -> Created:
    return await created(sessions, project, name, "clone", **options)


async def run(sessions: Sessions, name: str, command: str) -> str:
    result = await commands.run(await sessions.open(name), command)
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_awkward_repository_goes_in_and_its_work_comes_back(
    sessions: Sessions, repository: Path, name: str, kind: Callable[[Path], Path]
) -> None:
    project = kind(repository)
    before = snapshot(project.parent)
    await cloned(sessions, project, name)
    assert differences(before, snapshot(project.parent)) == []
    state = "git status --porcelain; git fsck --strict; git rev-parse HEAD"
    assert await run(sessions, name, state) == git(project, "rev-parse", "HEAD")
    listing = "git ls-files -s -z | sha256sum"
    assert await run(sessions, name, listing) == on_host(project, listing)
    if kind is odd:
        assert await run(sessions, name, "readlink link dangling; stat -c %a run.sh") == (
            "deep/er/b.txt\n/nowhere\n755"
        )
        files = "find . -path ./.git -prune -o -type f -print0 | LC_ALL=C sort -z"
        contents = f"{files} | xargs -0 sha256sum -- | sha256sum"
        assert await run(sessions, name, contents) == on_host(project, contents)
    if kind is with_lfs:
        assert await run(sessions, name, "cat large.bin") == POINTER.strip()
    await run(sessions, name, "echo x >$(printf 'new\\377') && git add -A && git commit -qm work")
    found = await get_changes(await sessions.open(name))
    assert [(each.status, each.path) for each in found.files] == [("A", "new?")]
    applied = await apply_changes(await sessions.open(name))
    assert (applied.outcome, applied.commits) == ("created", 1)
    git(project, "fsck", "--strict", "--no-dangling")
    assert git(project, "log", "--format=%s", f"claude/{name}").splitlines()[0] == "work"
    objects = (*NEW_OBJECTS, *ref_files(f"refs/heads/claude/{name}"))
    top = repository if kind is worktree else project
    allowed = tuple(f"{top.name}/{each}" for each in objects)
    assert differences(before, snapshot(project.parent), allowed) == []
    taken = await apply_changes(await sessions.open(name), "files", paths=["."])
    assert taken.files == ("new\udcff",)
    assert (project / "new\udcff").read_text() == "x\n"
    await sessions.destroy(name)


def on_host(project: Path, command: str) -> str:
    return subprocess.run(
        ["sh", "-c", command], cwd=project, capture_output=True, text=True, check=True
    ).stdout.strip()


async def test_a_repository_without_commits_goes_in_and_says_what_cannot_come_back(
    sessions: Sessions, project: Path, name: str
) -> None:
    git(project, "init", "--quiet")
    await created(sessions, project, name, "copy")
    assert await run(sessions, name, "ls -A") == ""
    await sessions.destroy(name)
    await cloned(sessions, project, name)
    await run(sessions, name, "echo x >x && git add x && git commit -qm work")
    with pytest.raises(UsageError, match="began without a commit"):
        await apply_changes(await sessions.open(name))
    with pytest.raises(WorkUnsaved):
        await sessions.destroy(name)
    await sessions.destroy(name, discard=True)


@pytest.mark.once
async def test_history_that_is_rewritten_in_the_session_is_no_harm_to_the_host(
    sessions: Sessions, repository: Path, name: str
) -> None:
    before = snapshot(repository)
    await cloned(sessions, repository, name)
    work = "echo three >a.txt && git commit -qam three && echo x >x && git add x"
    await run(sessions, name, f"{work} && git commit -qm four")
    handle = await sessions.open(name)
    assert (await apply_changes(handle)).outcome == "created"
    branch = ref_files(f"refs/heads/claude/{name}")

    # What was applied is rewritten: the branch on the host can no longer be forwarded.
    await run(
        sessions, name,
        "git worktree add -q /tmp/tree HEAD~1 && rm -r /tmp/tree && git worktree prune && "
        "git -c sequence.editor='sed -i 1d' rebase -qi HEAD~2 && "
        "git reflog expire --expire=now --all && git gc -q --prune=now && git fsck",
    )  # fmt: skip
    with pytest.raises(
        WorkConflict, match=f"Branch claude/{name} has commits that .*: four; three"
    ):
        await apply_changes(handle)
    applied = await apply_changes(handle, branch="again")
    assert (applied.outcome, applied.subjects, applied.warnings) == ("created", ("four",), ())

    # All of it is rewritten, the commit that it began at too.
    await run(
        sessions, name,
        "FILTER_BRANCH_SQUELCH_WARNING=1 git filter-branch -f --msg-filter 'sed s/^/new-/' HEAD "
        ">/dev/null && git reflog expire --expire=now --all && git gc -q --prune=now",
    )  # fmt: skip
    applied = await apply_changes(handle, branch="rewritten")
    assert applied.warnings == (
        "The session's history no longer contains the commit from which it started.",
    )
    assert git(repository, "log", "--format=%s", "rewritten").splitlines() == [
        "new-four", "new-second", "new-first",
    ]  # fmt: skip
    with pytest.raises(WorkConflict, match="no commit in common"):
        await apply_changes(handle, "merge")
    allowed = (*branch, *ref_files("refs/heads/again"), *ref_files("refs/heads/rewritten"))
    assert differences(before, snapshot(repository), (*NEW_OBJECTS, *allowed)) == []
    is_sound(repository)
    await sessions.destroy(name)


COUNT = 2000


@pytest.mark.stress
async def test_thousands_of_untracked_files_are_named_or_brought(
    sessions: Sessions, repository: Path, name: str
) -> None:
    for number in range(COUNT):
        path = repository / "untracked" / str(number % 40) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")
    made = await cloned(sessions, repository, name)
    (left_out,) = [each for each in made.warnings if "untracked" in each]
    assert left_out.startswith(f"{COUNT} untracked files are not in the session: ")
    await sessions.destroy(name)

    made = await cloned(sessions, repository, name, include=("untracked",))
    assert [each for each in made.warnings if "untracked" in each] == []
    sums = "find untracked -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    assert await run(sessions, name, sums) == on_host(repository, sums)
    handle = await sessions.open(name)
    assert (await get_changes(handle)).files == ()  # that is how it began
    await sessions.destroy(name)


@pytest.mark.once
async def test_thousands_of_untracked_files_are_told_and_keep_a_session(
    sessions: Sessions, repository: Path, name: str
) -> None:
    await cloned(sessions, repository, name)
    await run(sessions, name, f"for n in $(seq {COUNT}); do echo $n >new-$n; done")
    handle = await sessions.open(name)
    told = await get_changes(handle)
    assert len(told.files) + told.more == COUNT
    assert {(each.status, each.untracked) for each in told.files} == {("A", True)}
    with pytest.raises(WorkUnsaved) as refused:
        await sessions.destroy(name)
    assert f"{COUNT} changed files" in str(refused.value)
    applied = await apply_changes(handle, commit="all of them")
    assert applied.commits == 1
    taken = git(repository, "ls-tree", "--name-only", applied.branch or "").splitlines()
    assert len(taken) == COUNT + 2
    await sessions.destroy(name)
