"""Who commits, as the real git of this machine says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_mcp.sessions.git import identity, program

NAME, EMAIL = ("user.name", "Some Body"), ("user.email", "some@body")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Some Body\n\temail = some@body\n")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TRACE": str(tmp_path / "trace"),
        "GIT_DIR": "/nowhere",
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    git = tmp_path / "project/.git"
    (git / "objects").mkdir(parents=True)
    (git / "refs").mkdir()
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    return git.parent


async def test_the_projects_settings_come_before_the_users(
    project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    assert await identity.look_up(str(tmp_path), environment) == (NAME, EMAIL)
    (project / ".git/config").write_text("[user]\n\tname = Other\n")
    assert await identity.look_up(str(project), environment) == (("user.name", "Other"), EMAIL)
    assert not (tmp_path / "trace").exists()


async def test_variables_come_before_settings_and_email_after_them(
    project: Path, environment: dict[str, str]
) -> None:
    environment |= {"GIT_AUTHOR_NAME": "Author", "EMAIL": "last@resort"}
    assert await identity.look_up(str(project), environment) == (
        NAME,
        EMAIL,
        ("author.name", "Author"),
    )
    (Path(environment["HOME"]) / "gitconfig").unlink()
    found = await identity.look_up(str(project), environment)
    assert found == (("user.email", "last@resort"), ("author.name", "Author"))
    assert not identity.commits(found)


@pytest.mark.parametrize(
    ("settings", "enough"),
    [
        ((NAME, EMAIL), True),
        ((NAME,), False),
        ((("author.name", "a"), EMAIL), False),
        ((("author.name", "a"), ("committer.name", "c"), EMAIL), True),
        ((), False),
    ],
)
def test_a_commit_needs_the_name_and_email_of_both(
    settings: identity.Identity, enough: bool
) -> None:
    assert identity.commits(settings) is enough


async def test_a_project_that_git_refuses_does_not_hide_the_users_settings(
    project: Path, environment: dict[str, str]
) -> None:
    (project / ".git/config").write_text("[not a config file")
    assert await identity.look_up(str(project), environment) == (NAME, EMAIL)


async def test_no_file_of_a_project_runs_a_program(
    project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    evil = project / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    evil.chmod(0o755)
    (project / ".git/hooks").mkdir()
    for hook in ("post-index-change", "reference-transaction", "fsmonitor-watchman"):
        (project / ".git/hooks" / hook).symlink_to(evil)
    (project / ".git/config").write_text(
        f"[core]\n\tfsmonitor = {evil}\n\tpager = {evil}\n\tsshCommand = {evil}\n"
        f"\teditor = {evil}\n[pager]\n\tconfig = {evil}\n[alias]\n\tconfig = !{evil}\n"
        f"[trace2]\n\teventTarget = {tmp_path}/ran\n[diff]\n\texternal = {evil}\n"
    )
    assert await identity.look_up(str(project), environment) == (NAME, EMAIL)
    assert not (tmp_path / "ran").exists()


async def test_a_git_that_hangs_or_is_missing_costs_the_identity_only(
    project: Path, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "programs").mkdir()
    environment["PATH"] = str(tmp_path / "programs")
    assert await identity.look_up(str(project), environment) == ()
    hanging = tmp_path / "programs/git"
    hanging.write_text("#!/bin/sh\nexec /bin/sleep 1000\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(program, "CONFIGURED_SECONDS", 0.2)
    assert await identity.look_up(str(project), {**environment, "EMAIL": "a@b"}) == (
        ("user.email", "a@b"),
    )


async def test_values_that_no_configuration_can_hold_are_left_out(
    project: Path, environment: dict[str, str]
) -> None:
    environment |= {"GIT_AUTHOR_NAME": "two\nlines", "GIT_AUTHOR_EMAIL": "x" * 1_000}
    assert await identity.look_up(str(project), environment) == (NAME, EMAIL)
