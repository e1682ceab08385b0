"""What is mounted read-only, what is compared, and that hostile files do no harm there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from claude_mcp.engine.spec import BindMount
from claude_mcp.sessions.git import files as git_files
from claude_mcp.sessions.git.guard import GitGuard
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.session import Session, Status


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git = tmp_path / "project/.git"
    (git / "hooks").mkdir(parents=True)
    (git / "objects").mkdir()
    (git / "config").write_text("[core]\n")
    (git / "hooks/pre-commit.sample").touch()
    (git / "hooks/pre-commit").write_text("#!/bin/sh\n")
    return tmp_path / "project"


def session(project: Path, state: str) -> Session:
    return Session(
        id="0" * 12,
        container_id="0" * 64,
        name="name",
        container_name="claude-mcp-name",
        project_path=str(project),
        image="image:1",
        provider="anthropic",
        credentials=CredentialSource.SERVER,
        status=Status.RUNNING,
        created_at="2026-11-23T06:26:12Z",
        git_state=state,
    )


async def changes(project: Path, state: str) -> tuple[str, ...]:
    """The names in the one warning, as a front end that has just started gives it."""
    warnings = await GitGuard().differences(session(project, state))
    if not warnings:
        return ()
    (warning,) = warnings
    names = warning.partition("session was created: ")[2].partition(". Inspect or")[0]
    return tuple(names.split(", "))


async def test_a_repository_is_bound_onto_itself_with_config_and_hooks_read_only(
    repository: Path,
) -> None:
    protection = await GitGuard().protect(str(repository))
    git = f"{repository}/.git"
    assert protection.mounts == (
        BindMount(git, "/workspace/.git", read_only=False),
        BindMount(f"{git}/config", "/workspace/.git/config", read_only=True),
        BindMount(f"{git}/hooks", "/workspace/.git/hooks", read_only=True),
    )
    assert protection.warnings == ()
    assert len(protection.state) < 200


async def test_only_changed_files_are_reported_by_name(repository: Path) -> None:
    state = (await GitGuard().protect(str(repository))).state
    (repository / ".git/index").write_text("changes all the time")
    (repository / ".git/hooks/other.sample").touch()
    assert await changes(repository, state) == ()
    (repository / ".git/config").write_text("[core]\n\tfsmonitor = x\n")
    (repository / ".git/hooks/pre-commit").chmod(0o755)
    (repository / ".git/commondir").write_text("x")
    (repository / "sub/.git").mkdir(parents=True)
    (repository / "sub/.git/config").touch()
    assert sorted(await changes(repository, state)) == [
        ".git/commondir (new)",
        ".git/config (changed)",
        ".git/hooks/pre-commit (changed)",
        "sub/.git/ (new)",
    ]


async def test_links_in_the_project_are_neither_mounted_nor_followed(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("[include]\n\tpath = /etc/passwd\n")
    (repository / ".git/config").unlink()
    (repository / ".git/config").symlink_to(tmp_path / "secret")
    protection = await GitGuard().protect(str(repository))
    assert [mount.target for mount in protection.mounts] == [
        "/workspace/.git",
        "/workspace/.git/hooks",
    ]
    (tmp_path / "secret").write_text("changed outside of the project")
    assert await changes(repository, protection.state) == ()
    (repository / ".git/config").unlink()
    (repository / ".git/config").symlink_to("hooks/pre-commit")
    assert await changes(repository, protection.state) == (".git/config (changed)",)
    state = (await GitGuard().protect(str(repository))).state
    (repository / ".git/hooks/pre-commit").write_text("#!/bin/sh\nother\n")
    assert ".git/config (changed)" in await changes(repository, state)


@pytest.mark.parametrize(
    "place", ["hooks", "modules", "modules/sub", "modules/sub/hooks", "worktrees", "worktrees/x"]
)
async def test_a_directory_replaced_by_a_link_is_reported(repository: Path, place: str) -> None:
    git = repository / ".git"
    (git / "modules/sub/hooks").mkdir(parents=True)
    (git / "modules/sub/HEAD").touch()
    (git / "worktrees/x").mkdir(parents=True)
    (repository / "planted").mkdir()
    state = (await GitGuard().protect(str(repository))).state
    assert await changes(repository, state) == ()
    (git / place).rename(repository / "moved")
    (git / place).symlink_to(repository / "planted")
    assert f".git/{place} (new)" in await changes(repository, state)


async def test_hooks_behind_a_link_are_compared(repository: Path) -> None:
    (repository / ".git/hooks").rename(repository / "tracked")
    (repository / ".git/hooks").symlink_to("../tracked")
    state = (await GitGuard().protect(str(repository))).state
    (repository / "tracked/pre-commit").write_text("#!/bin/sh\nother\n")
    assert await changes(repository, state) == ("tracked/pre-commit (changed)",)


async def test_a_git_directory_that_is_a_link_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/.git").symlink_to("/etc")
    protection = await GitGuard().protect(str(tmp_path / "project"))
    assert protection.mounts == ()
    assert "is a link" in protection.warnings[0]


async def test_hostile_files_neither_hang_nor_exhaust_the_comparison(repository: Path) -> None:
    state = (await GitGuard().protect(str(repository))).state
    git = repository / ".git"
    os.mkfifo(git / "commondir")
    os.mkfifo(git / "config.worktree")
    (git / "hooks/directory").mkdir()
    os.truncate(os.open(git / "hooks/large", os.O_CREAT | os.O_WRONLY), 1 << 40)
    (git / "remotes").mkdir()
    for number in range(git_files.MAX_FILES + 10):
        (git / f"remotes/\x1b[31m{number}\n").touch()
    told = await GitGuard().differences(session(repository, state))
    assert len(told) == 2
    assert all(len(warning) < 2_000 and "\n" not in warning for warning in told)
    assert " more. Inspect or" in told[0]


async def test_any_path_in_a_configuration_is_tolerated(repository: Path) -> None:
    state = (await GitGuard().protect(str(repository))).state
    names = ["a\0b", "../../../../etc/passwd", "/etc/passwd", "~", "", '"', "x" * 5_000, "."]
    text = "".join(f"[include]\n\tpath = {name}\n[core] hooksPath = {name}\n" for name in names)
    (repository / ".git/config").write_text(text)
    assert ".git/config (changed)" in await changes(repository, state)


async def test_too_many_submodule_directories_are_reported_and_the_search_ends(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = (await GitGuard().protect(str(repository))).state
    for number in range(30):
        (repository / f".git/modules/{number}/a/b/c").mkdir(parents=True)
    monkeypatch.setattr(git_files, "MAX_OPENED", 60)
    (told,) = await GitGuard().differences(session(repository, state))
    assert "The project has grown" in told


async def test_a_large_file_ends_the_survey_with_a_warning(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = (await GitGuard().protect(str(repository))).state
    monkeypatch.setattr(git_files, "MAX_BYTES", 1_000)
    (repository / ".git/config").write_bytes(b"#" * 2_000)
    told = await GitGuard().differences(session(repository, state))
    assert len(told) == 2


@pytest.mark.parametrize("state", ["", "x", "0:", "0:!!!!", "1:AAAA", "٣:AAAA"])
async def test_a_malformed_label_is_not_an_error(repository: Path, state: str) -> None:
    await GitGuard().differences(session(repository, state))


async def test_a_missing_project_has_no_differences(repository: Path) -> None:
    state = (await GitGuard().protect(str(repository))).state
    gone = replace(session(repository, state), project_path=f"{repository}.gone")
    assert await GitGuard().differences(gone) == ()
