"""How the host's git is started: what it gets, and what its failures become."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import anyio
import pytest

from claude_mcp.errors import GitError, GitNotFound, WorkRefused
from claude_mcp.sessions.git.program import (
    FIXED,
    SETTINGS,
    Git,
    Place,
    clean,
    command,
    listed,
    quoted,
    said,
    variables,
)
from tests.unit.conftest import Lifeline
from tests.unit.sessions.git.conftest import ENVIRONMENT, World, attempt
from tests.unit.sessions.git.conftest import git as make_git


def fake(tmp_path: Path, script: str) -> Git:
    program = tmp_path / "bin/git"
    program.parent.mkdir(exist_ok=True)
    program.write_text(
        f'#!/bin/sh\ncase "$1" in --version) echo git version 2.45.1;; *) {script};; esac\n'
    )
    program.chmod(0o755)
    return Git({"PATH": f"{program.parent}:{os.environ['PATH']}"})


def test_the_argv_of_a_call_is_fixed() -> None:
    settings = [each for setting in SETTINGS for each in ("-c", setting)]
    assert command(Place(), "rev-parse", "HEAD") == (
        "git", "--no-pager", "-C", "/", *settings, "rev-parse", "HEAD"
    )  # fmt: skip
    place = Place("/w", "/g", "/t", settings=("core.eol=lf",))
    assert command(place, "x") == (
        "git", "--no-pager", "-C", "/w", "--git-dir=/g", "--work-tree=/t", *settings,
        "-c", "core.eol=lf", "x",
    )  # fmt: skip


def test_nothing_of_the_users_environment_but_absolute_search_paths_is_passed_on() -> None:
    environment = {
        "PATH": "/a:.::b:/c",
        "HOME": "/root",
        "GIT_DIR": "/x",
        "GIT_SSH_COMMAND": "x",
        "GIT_EXTERNAL_DIFF": "x",
        "LD_PRELOAD": "x",
        "SECRET": "x",
    }
    ours = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "claude-mcp"), ("EMAIL", "claude-mcp@localhost"))
    }
    assert variables(Place(), environment) == {**FIXED, **ours, "PATH": "/a:/c"}
    place = Place(
        index="/i",
        objects="/o",
        borrowed='/b"\n',
        identity=(("user.name", "Ada"), ("committer.name", "Grace"), ("user.email", "")),
    )
    assert variables(place, {"PATH": "/a"}) == {
        **FIXED,
        **ours,
        "PATH": "/a",
        "GIT_INDEX_FILE": "/i",
        "GIT_OBJECT_DIRECTORY": "/o",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": '"/b\\"\\n"',
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_COMMITTER_NAME": "Grace",
    }
    assert "SECRET" not in repr(Git(environment))


def test_texts_of_git_become_one_short_line() -> None:
    assert said("fatal: a\n\n\x1b[1mb\nc\nd\n") == "fatal: a; ?[1mb; c"
    assert len(said("x" * 10_000)) == 400
    assert clean("a\n\tb\udcff") == "a b?"
    assert listed([str(number) for number in range(12)]) == (
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    )
    assert quoted('a\\b"c') == '"a\\\\b\\"c"'


async def test_a_host_without_git_says_so(tmp_path: Path) -> None:
    for environment in ({"PATH": str(tmp_path)}, {"PATH": "relative"}):
        with pytest.raises(GitNotFound, match="no git on this host"):
            await Git(environment).version()
    with pytest.raises(GitNotFound):
        async with Git({"PATH": str(tmp_path)}).open(Place(), "x"):
            pass


@pytest.mark.parametrize("version", ["git version 2.30.9", "git version 1.8.3.1", "nonsense", ""])
async def test_an_old_git_is_refused(tmp_path: Path, version: str) -> None:
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    with pytest.raises(GitNotFound, match=r"Install git 2\.31 or later"):
        await Git({"PATH": str(tmp_path)}).run(Place(), "x")


async def test_failures_say_what_git_said(tmp_path: Path) -> None:
    git = fake(tmp_path, "echo fatal: no >&2; exit 3")
    with pytest.raises(GitError, match=r"git x failed: fatal: no$"):
        await git.run(Place(), "x")
    with pytest.raises(GitError, match=r"git x failed: fatal: no$"):
        await git.answer(Place(), b"x" * 1_000_000, "x")
    with pytest.raises(GitError, match=r"git x failed: fatal: no$"):
        await git.feed(Place(), lambda pipe: None, "x", seconds=60)
    assert (await git.run(Place(), "x", accepted=(3,))).returncode == 3


async def test_output_is_bounded(tmp_path: Path) -> None:
    git = fake(tmp_path, "head -c 1000 /dev/zero")
    assert len((await git.run(Place(), "x", output_bytes=1002)).stdout) == 1000
    for call in (git.run(Place(), "x", output_bytes=1000),
                 git.answer(Place(), b"", "x", output_bytes=1000)):  # fmt: skip
        with pytest.raises(WorkRefused, match="more to say than 1000 bytes"):
            await call


async def test_deadlines_kill_the_whole_group(tmp_path: Path, lifeline: Lifeline) -> None:
    git = fake(tmp_path, f"{lifeline.hold}; sleep 1000 & wait")
    for call in (
        git.run(Place(), "x", seconds=0.2),
        git.answer(Place(), b"", "x", seconds=0.2),
        git.feed(Place(), lambda pipe: None, "x", seconds=0.2),
    ):
        with pytest.raises(GitError, match=r"did not end within 0\.2 s"):
            await call
        await anyio.to_thread.run_sync(lifeline.end)


async def test_cancelled_calls_kill_the_whole_group(tmp_path: Path, lifeline: Lifeline) -> None:
    git = fake(tmp_path, f"{lifeline.hold}; echo started >&9; sleep 1000 & wait")

    async def answer() -> None:
        await git.answer(Place(), b"", "x")

    async def run() -> None:
        await git.run(Place(), "x")

    for call in (answer, run):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await anyio.to_thread.run_sync(lifeline.line)
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(lifeline.end)


@pytest.mark.parametrize("setting", ["core.fsmonitor", "core.hooksPath"])
async def test_programs_that_a_repository_names_do_not_run(
    world: World, tmp_path: Path, setting: str
) -> None:
    program = tmp_path / "post-index-change"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/marker'\n")
    program.chmod(0o755)
    value = program if setting == "core.fsmonitor" else tmp_path
    make_git(world.host, "config", setting, str(value))
    arguments = ("update-index", "--really-refresh")
    os.utime(world.host / "b", (1, 1))
    await world.git.run(Place(str(world.host)), *arguments)
    assert not (tmp_path / "marker").exists()
    os.utime(world.host / "b", (2, 2))
    attempt(world.host, *arguments)  # the control
    assert (tmp_path / "marker").exists()


async def test_a_users_configuration_is_not_read(world: World, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\n\tname = Somebody\n")
    git = Git({**ENVIRONMENT, "HOME": str(home), "XDG_CONFIG_HOME": str(home)})
    done = await git.run(Place(str(world.host)), "config", "--get", "user.name", accepted=(0, 1))
    assert done.out == ""
    assert shutil.which("git") is not None
