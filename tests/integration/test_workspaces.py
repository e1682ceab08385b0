"""A session with its own clone or copy of the project, on a real engine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from claude_mcp.config import Config
from claude_mcp.contract import workspaces
from claude_mcp.contract.wording import named
from claude_mcp.errors import (
    GitNotFound,
    ImageUnfit,
    TransferError,
    UsageError,
    WorkConflict,
    WorkRefused,
    WorkUnsaved,
)
from claude_mcp.sessions.create import seeding
from claude_mcp.sessions.create.request import Created, CreateRequest, WorkspaceName
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns.prompts import prompt
from claude_mcp.sessions.workspaces.applying import apply_changes
from claude_mcp.sessions.workspaces.changes import discard_changes, get_changes
from tests.engine_fixtures import Bare

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("committer"), pytest.mark.cluster]
TURN = "11111111-2222-4333-8444-555555555555"


def git(project: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(project), "-c", "user.name=A", "-c", "user.email=a@b", *words],
        check=True, capture_output=True, text=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull},
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def repository(project: Path) -> Path:
    git(project, "init", "--quiet", "--initial-branch=main")
    (project / "a.txt").write_text("one\n")
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    (project / ".gitignore").write_text("secret\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    (project / "secret").write_text("not for sessions")
    return project


async def created(
    sessions: Sessions, project: Path, name: str, workspace: WorkspaceName, **options: object
) -> Created:
    request = CreateRequest(str(project), session_name=name, workspace=workspace, **options)  # type: ignore[arg-type]
    return await create(sessions, request)


async def run(sessions: Sessions, name: str, command: str) -> str:
    result = await commands.run(await sessions.open(name), command)
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


def contents(project: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in project.rglob("*") if path.is_file()}


@pytest.mark.local
async def test_a_clone_is_the_sessions_own(
    sessions: Sessions, repository: Path, name: str, bare: Bare
) -> None:
    (repository / "a.txt").write_text("uncommitted\n")
    before = contents(repository)
    made = await created(sessions, repository, name, "clone", include_uncommitted=True)
    assert await run(sessions, name, "git branch --show-current") == f"claude/{name}"
    assert await run(sessions, name, "git rev-parse HEAD origin/main") == "\n".join(
        [git(repository, "rev-parse", "HEAD")] * 2
    )
    assert await run(sessions, name, "git status --porcelain") == "M a.txt"
    assert await run(sessions, name, "ls -A") == ".git\n.gitignore\na.txt\nrun.sh"
    assert await run(sessions, name, "stat -c %a run.sh a.txt") == "755\n644"
    await run(sessions, name, "touch new && git config user.name x && git checkout -q -b other")
    await run(sessions, name, "git gc -q && git worktree prune && git fsck --full")
    assert contents(repository) == before
    session = made.session
    found = [each.session for each in await sessions.list() if each.session.name == name]
    assert (found[0].workspace, found[0].base) == ("clone", git(repository, "rev-parse", "HEAD"))
    assert str(repository) not in bare("inspect", "--format={{json .Mounts}}", session.id)


async def test_a_copy_is_the_sessions_own(sessions: Sessions, repository: Path, name: str) -> None:
    (repository / "sub").mkdir()
    (repository / "sub" / "b.txt").write_text("b")
    before = contents(repository)
    await created(sessions, repository, name, "copy", exclude=("*.sh",))
    assert (
        await run(sessions, name, "find . -type f | sort") == "./.gitignore\n./a.txt\n./sub/b.txt"
    )
    await run(sessions, name, "rm -r sub && echo changed >a.txt && touch new")
    assert contents(repository) == before


async def test_a_clone_outlives_its_container(
    sessions: Sessions, repository: Path, name: str, bare: Bare
) -> None:
    made = await created(sessions, repository, name, "clone")
    await run(sessions, name, "echo work >work && git add work")
    bare.restart(made.session.container_id)
    assert await run(sessions, name, "git status --porcelain") == "A  work"


@pytest.mark.per_engine
async def test_two_sessions_on_one_repository_never_meet(
    sessions: Sessions, repository: Path, name: str
) -> None:
    names = [name, f"{name}-b"]
    try:
        async with anyio.create_task_group() as tasks:
            for each in names:
                tasks.start_soon(created, sessions, repository, each, "clone")
        for each in names:
            await run(
                sessions, each,
                f"echo {each} >a.txt && git -c user.name=C -c user.email=c@d commit -qam {each}",
            )  # fmt: skip
        for each in names:
            assert await run(sessions, each, "git log --format=%s") == f"{each}\nfirst"
    finally:
        await sessions.destroy(names[1], discard=True)


async def test_nothing_is_left_of_a_workspace_that_could_not_be_made(
    sessions: Sessions, repository: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "PACKS", "nowhere")  # so the agent finds no commits
    with pytest.raises(ImageUnfit, match="The workspace could not be made: "):
        await created(sessions, repository, name, "clone")
    assert name not in [each.session.name for each in await sessions.list()]
    monkeypatch.setattr(seeding, "PACKS", workspaces.PACKS)
    await created(sessions, repository, name, "clone")


@pytest.mark.per_engine
async def test_a_session_that_was_cancelled_while_it_was_made_is_gone(
    sessions: Sessions, repository: Path, name: str
) -> None:
    copying = anyio.Event()

    async def progress(text: str, amount: object = None, /) -> None:
        if text.startswith("copying"):
            copying.set()

    request = CreateRequest(str(repository), session_name=name, workspace="clone")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(create, sessions, request, progress)
        await copying.wait()
        tasks.cancel_scope.cancel()
    assert name not in [each.session.name for each in await sessions.list()]


@pytest.mark.per_engine
async def test_a_read_only_root_has_no_place_for_a_clone(
    sessions: Sessions, repository: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="which is read-only"):
        await created(sessions, repository, name, "clone", read_only_root=True)


def asking_for(command: str) -> str:
    """A prompt that makes the stand-in for the model run a command."""
    steps = [{"tool": "Bash", "input": {"command": command, "description": "x"}}, {"say": "done"}]
    return f"standin: {json.dumps(steps)}"


COMMIT = "git add -A && git -c user.name=C -c user.email=c@d commit -qm work"


async def test_work_comes_back_as_a_branch_and_nothing_else_changes(
    sessions: Sessions, repository: Path, name: str
) -> None:
    await created(sessions, repository, name, "clone")
    await run(sessions, name, f"echo two >>a.txt && echo new >new.txt && {COMMIT} && touch more")
    before = contents(repository)
    index = (repository / ".git" / "index").read_bytes()
    config = (repository / ".git" / "config").read_bytes()
    applied = await apply_changes(await sessions.open(name))
    assert (applied.outcome, applied.branch, applied.commits) == ("created", f"claude/{name}", 1)
    assert set(applied.files) == {"a.txt", "new.txt"}
    assert applied.warnings == (
        "One file is not committed in the session, so not applied: "
        f"pass {named('commit')} with a message.",
    )
    assert git(repository, "show", f"claude/{name}:a.txt") == "one\ntwo"
    assert git(repository, "branch", "--show-current") == "main"
    after = contents(repository)
    assert {path: after[path] for path in before} == before
    assert (repository / ".git" / "index").read_bytes() == index
    assert (repository / ".git" / "config").read_bytes() == config
    git(repository, "fsck", "--full", "--strict")
    again = await apply_changes(await sessions.open(name), commit="The rest")
    assert (again.outcome, again.commits) == ("forwarded", 2)
    assert git(repository, "log", "-1", "--format=%s", f"claude/{name}") == "The rest"


@pytest.mark.per_engine
async def test_a_conflict_changes_nothing_and_can_be_resolved(
    sessions: Sessions, repository: Path, name: str
) -> None:
    await created(sessions, repository, name, "clone")
    await run(sessions, name, f"echo theirs >a.txt && {COMMIT}")
    (repository / "a.txt").write_text("ours\n")
    git(repository, "commit", "--quiet", "-am", "ours")
    with pytest.raises(WorkConflict) as caught:
        await apply_changes(await sessions.open(name), "merge")
    assert caught.value.paths == ("a.txt",)
    assert git(repository, "status", "--porcelain") == ""
    await apply_changes(await sessions.open(name))
    done = subprocess.run(
        ["git", "-C", str(repository), "-c", "user.name=A", "-c", "user.email=a@b", "merge",
         "-X", "theirs", "-m", "both", f"claude/{name}"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert (repository / "a.txt").read_text() == "theirs\n"


@pytest.mark.per_engine
async def test_chosen_files_and_a_patch(
    sessions: Sessions, repository: Path, name: str, tmp_path: Path
) -> None:
    await created(sessions, repository, name, "clone")
    await run(sessions, name, f"echo two >a.txt && mkdir d && echo x >d/x && rm run.sh && {COMMIT}")
    handle = await sessions.open(name)
    patch = tmp_path / "work.patch"
    assert (await apply_changes(handle, "patch", patch=str(patch))).path == str(patch)
    git(repository, "apply", "--check", str(patch))
    with pytest.raises(TransferError, match="exists"):
        await apply_changes(handle, "patch", patch=str(patch))
    (repository / "a.txt").write_text("changed here\n")
    applied = await apply_changes(handle, "files", paths=["a.txt", "d"])
    assert applied.files == ("d/x",)
    assert applied.left == ("a.txt: it changed on the host since the session began",)
    assert (repository / "a.txt").read_text() == "changed here\n"
    assert (repository / "d" / "x").read_text() == "x\n"
    assert (repository / "run.sh").exists()


@pytest.mark.per_engine
async def test_changes_of_the_session_and_of_a_turn_are_told_and_undone(
    sessions: Sessions, repository: Path, name: str
) -> None:
    await created(sessions, repository, name, "clone")
    await run(sessions, name, f"echo two >>a.txt && {COMMIT}")
    await prompt(await sessions.open(name), asking_for("echo turn >turn.txt"), turn_id=TURN)
    handle = await sessions.open(name)
    found = await get_changes(handle)
    assert {each.path: (each.status, each.added, each.deleted) for each in found.files} == {
        "a.txt": ("M", 1, 0),
        "turn.txt": ("A", 1, 0),
    }
    assert (found.ahead, found.committed, found.branch) == (1, False, f"claude/{name}")
    of_turn = await get_changes(handle, turn_id=TURN)
    assert [each.path for each in of_turn.files] == ["turn.txt"]
    diff = (await get_changes(handle, paths=["a.txt"], diff=True)).diff
    assert diff is not None
    assert "+two" in diff
    assert "turn.txt" not in diff
    done = await discard_changes(handle, turn_id=TURN)
    assert done.removed == ("turn.txt",)
    assert await run(sessions, name, "cat a.txt") == "one\ntwo"
    await discard_changes(handle)
    assert await run(sessions, name, "cat a.txt; git log --format=%s") == "one\nfirst"
    assert (await get_changes(handle)).files == ()


@pytest.mark.local
@pytest.mark.near("mounts a directory")
@pytest.mark.per_engine
async def test_a_mounted_repository_tells_its_changes_too(
    sessions: Sessions, repository: Path, name: str
) -> None:
    await created(sessions, repository, name, "bind")
    handle = await sessions.open(name)
    with anyio.fail_after(60):
        while True:  # the first checkpoint is made beside the start
            try:
                await get_changes(handle)
                break
            except UsageError:
                await anyio.sleep(0.1)
    await run(sessions, name, "echo two >>a.txt")
    assert [each.path for each in (await get_changes(handle)).files] == ["a.txt"]
    await discard_changes(handle, paths=["a.txt"])
    assert (repository / "a.txt").read_text() == "one\n"
    with pytest.raises(UsageError, match="mounted: its changes are on the host already"):
        await apply_changes(handle)


@pytest.mark.local
async def test_work_that_is_nowhere_else_is_not_destroyed(
    sessions: Sessions, repository: Path, name: str, bare: Bare
) -> None:
    await created(sessions, repository, name, "clone")
    await run(sessions, name, f"echo two >>a.txt && {COMMIT} && touch left")
    bare("stop", "--time=0", bare.containers(name)[0])
    with pytest.raises(WorkUnsaved) as caught:
        await sessions.destroy(name)
    assert "1 commit (" in str(caught.value)
    assert "1 changed file (left)" in str(caught.value)
    await apply_changes(await sessions.open(name), commit="The rest")
    assert (await sessions.destroy(name)).existed
    await created(sessions, repository, name, "copy")
    await run(sessions, name, "touch left")
    with pytest.raises(WorkUnsaved, match="1 changed file"):
        await sessions.destroy(name)
    assert (await sessions.destroy(name, discard=True)).existed


@pytest.mark.per_engine
async def test_a_session_cannot_send_what_would_run_on_the_host(
    sessions: Sessions, repository: Path, name: str
) -> None:
    await created(sessions, repository, name, "clone")
    forged = (
        "blob=$(echo evil | git hash-object -w --stdin) && "
        "tree=$(printf '100755 blob %s\\tpost-checkout\\n' $blob | git mktree) && "
        "root=$(printf '040000 tree %s\\t.GIT\\n' $tree | git mktree) && "
        "commit=$(git -c user.name=C -c user.email=c@d commit-tree -p HEAD -m evil $root) && "
        "git update-ref HEAD $commit"
    )
    await run(sessions, name, forged)
    before = contents(repository)
    with pytest.raises(WorkRefused):
        await apply_changes(await sessions.open(name))
    assert contents(repository) == before


@pytest.fixture
async def without_git(config: Config, tmp_path: Path) -> AsyncIterator[Sessions]:
    """Sessions of a host that has everything on its path but git."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for directory in config.environment["PATH"].split(":"):
        for each in Path(directory).glob("*"):
            if not each.name.startswith("git") and not (programs / each.name).exists():
                (programs / each.name).symlink_to(each)
    environment = {**config.environment, "PATH": str(programs)}
    async with open_sessions(replace(config, environment=environment)) as opened:
        yield opened


@pytest.mark.per_engine
async def test_a_copy_comes_back_without_git(
    without_git: Sessions, project: Path, name: str, tmp_path: Path
) -> None:
    sessions = without_git
    (project / "src").mkdir()
    for each in ("a", "b", "src/c", "left.log"):
        (project / each).write_text(f"{each}\n")
    (project / ".gitignore").write_text("*.log\n")
    with pytest.raises(GitNotFound, match="no git on this host"):
        await created(sessions, project, name, "clone")
    await created(sessions, project, name, "copy")
    assert await run(sessions, name, "find . -type f | sort") == "./.gitignore\n./a\n./b\n./src/c"
    await run(sessions, name, "echo new >a; rm b; echo x >src/new; ln -s c src/link; echo y >y.log")
    handle = await sessions.open(name)
    assert [each.path for each in (await get_changes(handle)).files] == [
        "a", "b", "src/link", "src/new",
    ]  # fmt: skip
    patch = tmp_path / "x.patch"
    await apply_changes(handle, "patch", patch=str(patch))
    git(tmp_path, "init", "--quiet", "copy")
    for each in ("a", "b", "src/c"):
        (tmp_path / "copy" / each).parent.mkdir(exist_ok=True)
        (tmp_path / "copy" / each).write_text(f"{each}\n")
    git(tmp_path / "copy", "apply", str(patch))
    assert (tmp_path / "copy" / "a").read_text() == "new\n"
    (project / "b").write_text("mine\n")
    applied = await apply_changes(handle, "files", paths=["."])
    assert applied.left == ("b: it changed on the host since the session began",)
    assert applied.warnings == ()
    assert sorted(applied.files) == ["a", "src/link", "src/new"]
    assert (project / "a").read_text() == "new\n"
    assert os.readlink(project / "src" / "link") == "c"
    await run(sessions, name, "echo later >later")
    with pytest.raises(WorkUnsaved, match=r"1 changed file \(later\)"):
        await sessions.destroy(name)  # the patch has the rest
    await discard_changes(handle)
    assert await run(sessions, name, "cat a b; ls src") == "a\nb\nc"


@pytest.mark.local
@pytest.mark.per_engine
async def test_an_expired_clone_is_kept_for_its_work(
    sessions: Sessions, repository: Path, name: str, bare: Bare
) -> None:
    # A busy machine needs some of it for the first command.
    made = await created(sessions, repository, name, "clone", idle_timeout_seconds=8.0)
    await run(sessions, name, f"echo two >>a.txt && {COMMIT}")
    assert bare("wait", made.session.id).strip() == "80"
    await sessions.list()
    await sessions.finish_sweeping()
    [found] = [each for each in await sessions.prune() if each.session.name == name]
    assert (found.removed, found.kept) == (False, "It holds work that is nowhere else.")
    assert (await apply_changes(await sessions.open(name))).outcome == "created"
    assert bare("wait", made.session.id).strip() == "79"
    assert name in [each.session.name for each in await sessions.prune() if each.removed]


async def test_submodules_and_lfs_come_along_with_the_repository_of_a_subdirectory(
    sessions: Sessions, repository: Path, name: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    (other / "inner.txt").write_text("inner\n")
    git(other, "add", ".")
    git(other, "commit", "--quiet", "-m", "inner")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other),
        "sub")  # fmt: skip
    oid = hashlib.sha256(b"content").hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 7\n"
    (repository / "lib").mkdir()
    (repository / "lib" / "x.bin").write_text(pointer)
    git(repository, "add", ".")
    (repository / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    git(repository, "add", ".gitattributes")
    git(repository, "commit", "--quiet", "-m", "more")
    store = repository / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4]
    store.mkdir(parents=True)
    (store / oid).write_text("content")
    made = await created(sessions, repository / "lib", name, "clone")
    said = [each for each in made.warnings if each.startswith(("The session", "Files", "Subm"))]
    assert len(said) == 1
    assert said[0].startswith("The session has the whole repository")
    assert await run(sessions, name, "cat lib/x.bin sub/inner.txt") == "contentinner"
    assert await run(sessions, name, "git status --porcelain; git -C sub rev-parse HEAD") == git(
        other, "rev-parse", "HEAD"
    )
    await run(sessions, name, f"echo new >lib/new && {COMMIT}")
    await apply_changes(await sessions.open(name), "files", paths=["lib"])
    assert (repository / "lib" / "new").read_text() == "new\n"
