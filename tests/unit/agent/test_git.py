"""What the agent prepares for git in a session."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from claude_mcp.agent import git
from claude_mcp.contract import places

NAMED = (("user.name", 'Some "Body" \\'), ("author.email", "some@body"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A session in which the real git works, without the settings of this machine."""
    home, programs = tmp_path / "home", tmp_path / "programs"
    home.mkdir()
    programs.mkdir()
    path = os.pathsep.join((str(programs), os.environ["PATH"]))
    return {"HOME": str(home), "PATH": path, "GIT_CONFIG_NOSYSTEM": "1"}


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *words],
        cwd=environment["HOME"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_git_knows_who_commits_and_trusts_the_project(environment: dict[str, str]) -> None:
    git.prepare(None, NAMED, environment)
    for name, value in (*NAMED, ("safe.directory", "/workspace")):
        assert run(environment, "config", name).stdout == f"{value}\n"
    assert run(environment, "config", "--global", "user.name", "Other").returncode == 0
    git.prepare(None, None, environment)
    assert run(environment, "config", "user.name").stdout == "Other\n"


def test_settings_of_the_image_win(environment: dict[str, str], tmp_path: Path) -> None:
    environment["XDG_CONFIG_HOME"] = str(tmp_path / "settings")
    (tmp_path / "settings/git").mkdir(parents=True)
    (tmp_path / "settings/git/config").write_text("[user]\n\tname = Image\n")
    git.prepare(None, NAMED, environment)
    assert run(environment, "config", "user.name").stdout == "Image\n"
    assert run(environment, "config", "author.email").stdout == "some@body\n"


@pytest.mark.parametrize("installed", [True, False])
def test_files_of_lfs_are_never_added_whole(
    environment: dict[str, str], tmp_path: Path, installed: bool
) -> None:
    # The PATH of this test has git, but no git-lfs of the machine that runs it.
    (tmp_path / "programs/git").symlink_to(str(shutil.which("git")))
    (tmp_path / "programs/sh").symlink_to("/bin/sh")
    (tmp_path / "programs/cat").symlink_to("/bin/cat")
    environment["PATH"] = str(tmp_path / "programs")
    if installed:
        program = tmp_path / "programs" / places.GIT_LFS
        program.write_text('#!/bin/sh\n[ "$1" = clean ] && echo pointer\n')
        program.chmod(0o755)
    git.prepare(None, (), environment)
    run(environment, "config", "--global", "--unset", "filter.lfs.process")
    home = Path(environment["HOME"])
    run(environment, "init", "-q", ".")
    (home / ".gitattributes").write_text("*.bin filter=lfs\n")
    (home / "large.bin").write_text("a large file")
    done = run(environment, "add", "large.bin")
    if installed:
        assert run(environment, "show", ":large.bin").stdout == "pointer\n"
    else:
        assert done.returncode != 0
        assert "clean filter 'lfs' failed" in done.stderr


def test_hooks_of_the_host_are_copied_with_what_is_beside_them(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, own = tmp_path / "host", tmp_path / "own"
    (host / "lib").mkdir(parents=True)
    own.mkdir()
    (host / "pre-commit").write_text("#!/bin/sh\n")
    (host / "pre-commit").chmod(0o755)
    (host / "pre-push.sample").touch()
    (host / "lib/common").write_text("common")
    (host / "post-commit").symlink_to("../../script")
    os.mkfifo(host / "pipe")
    monkeypatch.setattr(places, "HOST_HOOKS", str(host))
    git.prepare(str(own), None, environment)
    assert sorted(path.relative_to(own).as_posix() for path in own.rglob("*")) == [
        "lib",
        "lib/common",
        "post-commit",
        "pre-commit",
    ]
    assert (own / "pre-commit").stat().st_mode & 0o777 == 0o755
    assert os.readlink(own / "post-commit") == "../../script"


def test_hooks_that_cannot_be_copied_do_not_stop_the_session(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(places, "HOST_HOOKS", str(tmp_path / "missing"))
    git.prepare(str(tmp_path), None, environment)
    assert "git could not be prepared" in capsys.readouterr().err
