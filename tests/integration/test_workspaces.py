"""A session with its own clone or copy of the project, on a real engine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import anyio
import pytest

from claude_mcp.contract import workspaces
from claude_mcp.errors import ImageUnfit, UsageError
from claude_mcp.sessions.create import seeding
from claude_mcp.sessions.create.request import Created, CreateRequest, WorkspaceName
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.turns import commands
from tests.engine_fixtures import Bare

pytestmark = pytest.mark.anyio


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
    bare("restart", "--time=0", made.session.id)
    assert await run(sessions, name, "git status --porcelain") == "A  work"


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
        await sessions.destroy(names[1])


async def test_nothing_is_left_of_a_workspace_that_could_not_be_made(
    sessions: Sessions, repository: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "PACKS", "nowhere")  # so the agent finds no commits
    with pytest.raises(ImageUnfit, match="The workspace could not be made: "):
        await created(sessions, repository, name, "clone")
    assert name not in [each.session.name for each in await sessions.list()]
    monkeypatch.setattr(seeding, "PACKS", workspaces.PACKS)
    await created(sessions, repository, name, "clone")


async def test_a_session_that_was_cancelled_while_it_was_made_is_gone(
    sessions: Sessions, repository: Path, name: str
) -> None:
    copying = anyio.Event()

    async def progress(text: str) -> None:
        if text.startswith("copying"):
            copying.set()

    request = CreateRequest(str(repository), session_name=name, workspace="clone")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(create, sessions, request, progress)
        await copying.wait()
        tasks.cancel_scope.cancel()
    assert name not in [each.session.name for each in await sessions.list()]


async def test_a_read_only_root_has_no_place_for_a_clone(
    sessions: Sessions, repository: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="which is read-only"):
        await created(sessions, repository, name, "clone", read_only_root=True)
