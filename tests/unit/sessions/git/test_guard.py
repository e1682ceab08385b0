"""What is mounted read-only, what is compared, and that hostile files do no harm there."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from claude_mcp.engine.spec import BindMount
from claude_mcp.sessions.git import files as git_files
from claude_mcp.sessions.git.guard import (
    NOTE_FOR_CLAUDE,
    WORKTREES_NOTE_FOR_CLAUDE,
    GitGuard,
    Protection,
    config_notes,
)
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


async def protect(project: Path) -> Protection:
    return await GitGuard().protect(str(project), lambda source, target: None)


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
    protection = await protect(repository)
    git = f"{repository}/.git"
    assert protection.mounts == (
        BindMount(git, "/workspace/.git", read_only=False),
        BindMount(f"{git}/config", "/workspace/.git/config", read_only=True),
        BindMount(f"{git}/hooks", "/run/claude-mcp-git/hooks", read_only=True),
    )
    assert protection.hooks == "/workspace/.git/hooks"
    assert protection.warnings == ()
    assert len(protection.state) < 200


async def test_only_changed_files_are_reported_by_name(repository: Path) -> None:
    state = (await protect(repository)).state
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
    protection = await protect(repository)
    assert [mount.target for mount in protection.mounts] == [
        "/workspace/.git",
        "/run/claude-mcp-git/hooks",
    ]
    (tmp_path / "secret").write_text("changed outside of the project")
    assert await changes(repository, protection.state) == ()
    (repository / ".git/config").unlink()
    (repository / ".git/config").symlink_to("hooks/pre-commit")
    assert await changes(repository, protection.state) == (".git/config (changed)",)
    state = (await protect(repository)).state
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
    state = (await protect(repository)).state
    assert await changes(repository, state) == ()
    (git / place).rename(repository / "moved")
    (git / place).symlink_to(repository / "planted")
    assert f".git/{place} (new)" in await changes(repository, state)


async def test_hooks_behind_a_link_are_compared(repository: Path) -> None:
    (repository / ".git/hooks").rename(repository / "tracked")
    (repository / ".git/hooks").symlink_to("../tracked")
    state = (await protect(repository)).state
    (repository / "tracked/pre-commit").write_text("#!/bin/sh\nother\n")
    assert await changes(repository, state) == ("tracked/pre-commit (changed)",)


async def test_a_git_directory_that_is_a_link_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/.git").symlink_to("/etc")
    protection = await protect(tmp_path / "project")
    assert protection.mounts == ()
    assert "is a link" in protection.warnings[0]


async def test_hostile_files_neither_hang_nor_exhaust_the_comparison(repository: Path) -> None:
    state = (await protect(repository)).state
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
    state = (await protect(repository)).state
    names = ["a\0b", "../../../../etc/passwd", "/etc/passwd", "~", "", '"', "x" * 5_000, "."]
    text = "".join(f"[include]\n\tpath = {name}\n[core] hooksPath = {name}\n" for name in names)
    (repository / ".git/config").write_text(text)
    assert ".git/config (changed)" in await changes(repository, state)


async def test_too_many_submodule_directories_are_reported_and_the_search_ends(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = (await protect(repository)).state
    for number in range(30):
        (repository / f".git/modules/{number}/a/b/c").mkdir(parents=True)
    monkeypatch.setattr(git_files, "MAX_OPENED", 60)
    (told,) = await GitGuard().differences(session(repository, state))
    assert "The project has grown" in told


async def test_a_large_file_ends_the_survey_with_a_warning(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = (await protect(repository)).state
    monkeypatch.setattr(git_files, "MAX_BYTES", 1_000)
    (repository / ".git/config").write_bytes(b"#" * 2_000)
    told = await GitGuard().differences(session(repository, state))
    assert len(told) == 2


@pytest.mark.parametrize("state", ["", "x", "0:", "0:!!!!", "1:AAAA", "٣:AAAA"])
async def test_a_malformed_label_is_not_an_error(repository: Path, state: str) -> None:
    await GitGuard().differences(session(repository, state))


async def test_a_missing_project_has_no_differences(repository: Path) -> None:
    state = (await protect(repository)).state
    gone = replace(session(repository, state), project_path=f"{repository}.gone")
    assert await GitGuard().differences(gone) == ()


@pytest.fixture
def worktree(repository: Path) -> Path:
    """A linked worktree of the repository, as git makes it."""
    git, project = repository / ".git", repository.parent / "worktree"
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs").mkdir()
    for name, checkout in (("mine", project), ("other", repository.parent / "other")):
        checkout.mkdir()
        (git / "worktrees" / name).mkdir(parents=True)
        (git / "worktrees" / name / "commondir").write_text("../..\n")
        (git / "worktrees" / name / "gitdir").write_text(f"{checkout}/.git\n")
        (checkout / ".git").write_text(f"gitdir: {git}/worktrees/{name}\n")
    return project


async def test_the_repository_of_a_worktree_is_mounted_and_only_its_own_part_is_writable(
    repository: Path, worktree: Path
) -> None:
    protection = await protect(worktree)
    git = f"{repository}/.git"
    assert protection.mounts == (
        BindMount(f"{worktree}/.git", "/workspace/.git"),
        BindMount(git, git, read_only=False),
        BindMount(f"{git}/worktrees", f"{git}/worktrees"),
        BindMount(f"{git}/worktrees/mine", f"{git}/worktrees/mine", read_only=False),
        BindMount(f"{worktree}/.git", f"{worktree}/.git"),
        BindMount(f"{git}/worktrees/mine/commondir", f"{git}/worktrees/mine/commondir"),
        BindMount(f"{git}/worktrees/mine/gitdir", f"{git}/worktrees/mine/gitdir"),
        BindMount(f"{git}/config", f"{git}/config"),
        BindMount(f"{git}/hooks", "/run/claude-mcp-git/hooks"),
    )
    assert protection.hooks == f"{git}/hooks"
    assert "a worktree of" in protection.warnings[0]


async def test_what_a_session_plants_in_the_repository_of_its_worktree_is_reported(
    repository: Path, worktree: Path
) -> None:
    state = (await protect(worktree)).state
    git = repository / ".git"
    assert await changes(worktree, state) == ()
    (git / "commondir").write_text("x")
    # Not even by making its own directory unusable can a session hide this.
    (git / "worktrees/mine/gitdir").write_text("nowhere")
    (git / "worktrees/mine/modules/sub").mkdir(parents=True)
    (git / "worktrees/mine/modules/sub/HEAD").touch()
    (git / "worktrees/mine/rebase-merge").mkdir()
    (git / "worktrees/mine/rebase-merge/git-rebase-todo").write_text("pick 1\nexec evil\n")
    told = await changes(worktree, state)
    assert {f"{git}/commondir (new)", f"{git}/worktrees/mine/modules/sub/ (new)"} < {*told}
    # Of a path that is too long, the end is told.
    assert any(each.endswith("/mine/rebase-merge/git-rebase-todo (new)") for each in told)
    assert len(told) == 3


async def test_a_trusted_session_gets_the_repository_of_its_worktree_without_protection(
    repository: Path, worktree: Path
) -> None:
    protection = await GitGuard().protect(str(worktree), lambda *_: None, trusted=True)
    git = f"{repository}/.git"
    assert protection.mounts == (
        BindMount(git, git, read_only=False),
        BindMount(f"{git}/worktrees", f"{git}/worktrees"),
        BindMount(f"{git}/worktrees/mine", f"{git}/worktrees/mine", read_only=False),
        BindMount(f"{worktree}/.git", f"{worktree}/.git"),
    )
    assert (protection.state, protection.hooks) == ("", None)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("worktrees/mine/gitdir", "/somewhere/else/.git"),
        ("worktrees/mine/gitdir", ""),
        ("worktrees/mine/commondir", "../../../other"),
    ],
)
async def test_a_repository_that_does_not_name_the_project_is_not_mounted(
    repository: Path, worktree: Path, file: str, content: str
) -> None:
    (repository / ".git" / file).write_text(content)
    protection = await protect(worktree)
    assert protection.mounts == (BindMount(f"{worktree}/.git", "/workspace/.git"),)
    assert "does not name the project" in protection.warnings[0]


async def test_a_repository_whose_path_is_refused_is_not_mounted(worktree: Path) -> None:
    protection = await GitGuard().protect(str(worktree), lambda *_: "Not this one.")
    assert len(protection.mounts) == 1
    assert protection.warnings[0].endswith("cannot be mounted. Not this one.")


async def test_claude_is_told_what_it_must_know_about_git(
    repository: Path, worktree: Path, tmp_path: Path
) -> None:
    project = str(repository)
    assert (await protect(repository)).notes == (NOTE_FOR_CLAUDE, WORKTREES_NOTE_FOR_CLAUDE)
    trusted = await GitGuard().protect(project, lambda *_: None, trusted=True)
    assert trusted.notes == (WORKTREES_NOTE_FOR_CLAUDE,)
    shutil.rmtree(repository / ".git/worktrees")
    assert (await protect(repository)).notes == (NOTE_FOR_CLAUDE,)
    assert (await protect(worktree)).notes == ()
    (tmp_path / "empty").mkdir()
    assert (await protect(tmp_path / "empty")).notes == ()


async def test_a_directory_of_a_repository_is_told_unless_the_repository_could_not_be_used(
    repository: Path,
) -> None:
    (repository / ".git/HEAD").touch()
    (repository / "a/b").mkdir(parents=True)
    (warning,) = (await protect(repository / "a/b")).warnings
    assert f"is part of the repository {repository}," in warning
    refused = await GitGuard().protect(str(repository / "a/b"), lambda *_: "a home directory")
    assert refused.warnings == ()


@pytest.mark.parametrize("file", [".gitattributes", ".git/info/attributes"])
async def test_a_project_with_lfs_is_recognized(repository: Path, file: str) -> None:
    assert not (await protect(repository)).lfs
    (repository / file).parent.mkdir(exist_ok=True)
    (repository / file).write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    assert (await protect(repository)).lfs


@pytest.mark.parametrize(
    ("output", "explained"),
    [
        ("error: could not write config file .git/config: Device or resource busy\n", True),
        ("error: could not write config file .git/config: No space left on device\n", False),
        ("", False),
    ],
)
def test_git_that_may_not_write_its_config_is_explained(
    repository: Path, output: str, explained: bool
) -> None:
    assert bool(config_notes(session(repository, "0:"), output)) is explained
    assert config_notes(session(repository, ""), output) == ()
