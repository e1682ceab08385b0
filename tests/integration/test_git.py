"""The way back through git: what a session leaves in a project, and the host's next ``git``."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.config import Config
from claude_mcp.sessions.create.request import Created, CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns

MARK = "planted-program-ran"
CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfsmonitor = /tmp/nowhere\n"
SETTINGS = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_CONFIG_KEY_1": "protocol.file.allow",
    "GIT_CONFIG_VALUE_1": "always",
    **{f"GIT_{who}_{what}": "test@localhost"
       for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}  # fmt: skip


class HostGit:
    """The host's own git in a throwaway project, and whether it ran what was planted."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.mark = project.parent / MARK

    def __call__(self, *words: str, directory: str = ".", check: bool = True) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=self.project / directory,
            env={**os.environ, **SETTINGS, "GIT_EDITOR": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    @property
    def ran_it(self) -> bool:
        return self.mark.exists()

    @property
    def program(self) -> str:
        """Shell that writes a planted program to the file $PROGRAM; only the host can run it."""
        text = f'#!/bin/sh\ntouch "{self.mark}"\n'
        return f"printf '%s' '{text}' >$PROGRAM && chmod +x $PROGRAM"


@pytest.fixture
def git(project: Path) -> HostGit:
    return HostGit(project)


@pytest.fixture
def repository(git: HostGit) -> HostGit:
    git("init", "-q", "-b", "main")
    (git.project / "file").write_text("1\n")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    return git


async def run(sessions: Sessions, reference: str, *script: str) -> str:
    """Shell in the session; it must succeed."""
    done = await commands.run(await sessions.open(reference), "set -e\n" + "\n".join(script))
    assert done.exit_code == 0, done.stdout + done.stderr
    return done.stdout


IDENTITY = (
    "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b"
)


def told(created: Created) -> list[str]:
    """The warnings but for those about limits, which rootless engines cannot always set."""
    return [each for each in created.warnings if "cannot limit this session" not in each]


# Only root can give a project to somebody else.
OWNERS = {"mine": None, "somebody-elses": 4321} if os.geteuid() == 0 else {"mine": None}


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
async def test_everyday_git_works_inside(
    sessions: Sessions,
    repository: HostGit,
    name: str,
    owner: int | None,
    give_to: Callable[[Path, int], None],
) -> None:
    if owner is not None:
        repository.project.parent.chmod(0o755)
        give_to(repository.project, owner)
    created = await create(sessions, CreateRequest(str(repository.project), session_name=name))
    assert told(created) == []
    await run(
        sessions,
        name,
        IDENTITY,
        "git status --short",
        "echo 2 >file && git commit -qam second",
        "git checkout -qb topic && git branch other",
        "echo 3 >file && git stash -q && git stash pop -q && git commit -qam third",
        "git checkout -q main && git merge -q --no-edit topic && git tag v1 && git gc -q",
        "git branch -D other topic || true",
    )
    assert repository("log", "--format=%s").split() == ["third", "second", "first"]
    destroyed = await sessions.destroy(name)
    assert (destroyed.existed, destroyed.warnings) == (True, ())


async def test_config_and_hooks_are_read_only_and_git_says_so(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    before = (repository.project / ".git/config").read_bytes()
    await create(sessions, CreateRequest(str(repository.project), session_name=name))
    for attempt in (
        f"export PROGRAM=.git/hooks/post-checkout; {repository.program}",
        "echo '[core] fsmonitor = /tmp/x' >>.git/config",
        "rm .git/config",
        "mv .git .moved",
        "mv .git/config .git/config.old",
        "mv .git/hooks .git/hooks.old",
        "ln .git/config linked",
        "git config core.fsmonitor /tmp/x",
        "git remote add origin /tmp/x",
        "git clone -q . /tmp/clone && mv -T /tmp/clone/.git .git",
        "unshare --user --mount umount .git/config",
    ):
        done = await commands.run(await sessions.open(name), attempt)
        assert done.exit_code != 0, attempt
        if attempt.startswith(("git config", "git remote")):
            assert "could not write config file .git/config: Device or resource busy" in done.stderr
    assert (repository.project / ".git/config").read_bytes() == before
    repository("checkout", "-q", "-b", "after")
    assert not repository.ran_it
    assert (await sessions.destroy(name)).warnings == ()


async def test_hosts_own_git_config_ends_the_mount_in_the_session_but_not_the_comparison(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    await create(sessions, CreateRequest(str(repository.project), session_name=name))
    repository("config", "user.name", "me")
    await commands.run(await sessions.open(name), f"{EVIL.replace('$HOST', '/tmp')} >.git/config")
    assert ".git/config (changed)" in (await sessions.destroy(name)).warnings[0]


async def test_repository_without_a_hooks_directory_gets_none_from_the_session(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    hooks = repository.project / ".git/hooks"
    for sample in hooks.iterdir():
        sample.unlink()
    hooks.rmdir()
    await create(sessions, CreateRequest(str(repository.project), session_name=name))
    done = await commands.run(
        await sessions.open(name), "mkdir -p .git/hooks && touch .git/hooks/x"
    )
    assert "Read-only file system" in done.stderr
    assert (await sessions.destroy(name)).warnings == ()


@pytest.mark.once
async def test_trusted_session_may_configure_git(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    request = CreateRequest(str(repository.project), session_name=name, trust_git=True)
    await create(sessions, request)
    await run(
        sessions,
        name,
        "git config user.name somebody && git remote add origin /tmp/x",
        f"export PROGRAM=.git/hooks/post-checkout; {repository.program}",
    )
    repository("checkout", "-q", "-b", "after")
    assert repository.ran_it
    assert (await sessions.destroy(name)).warnings == ()


EVIL = "printf '[core]\\n\\trepositoryformatversion = 0\\n\\tfsmonitor = %s\\n' \"$HOST/program\""
PLANT = "export PROGRAM=program"
NESTED = (
    "git init -q deep/down/nested && cd deep/down/nested && git commit -q --allow-empty -m x && "
    f"{EVIL} >.git/config && cd /workspace && git add deep 2>/dev/null"
)

# How it is planted, what the host's git is then asked, where, and what the warning must name.
WAYS: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "commondir": (
        f"cp -r .git /workspace/copy && {EVIL} >copy/config && echo ../copy >.git/commondir",
        ("status",), ".", ".git/commondir (new)"),
    "nested repository": (NESTED, ("status",), ".", "deep/down/nested/.git/ (new)"),
    "bare repository": (
        f"git init -q --bare tools && ({EVIL}; echo '[core] bare=false'; "
        "printf '[core] worktree = %s\\n' $HOST) >tools/config",
        ("status",), "tools", "tools/ (new)"),
    "submodule": (
        f"({EVIL}; printf '[core] worktree = ../../../sub\\n') >.git/modules/sub/config",
        ("status",), ".", ".git/modules/sub/config (changed)"),
    "gitdir file": (
        f"rm -f sub/.git && cp -r .git/modules/sub other && "
        f"({EVIL}; printf '[core] worktree = ../sub\\n') >other/config && "
        "echo 'gitdir: ../other' >sub/.git",
        ("status",), ".", "sub/.git (changed)"),
    "hooksPath in the project": (
        "export PROGRAM=hooks/post-checkout; printf '#!/bin/sh\\ntouch \"%s\"\\n' "
        f'"$HOST/../{MARK}" >$PROGRAM && chmod +x $PROGRAM',
        ("checkout", "-q", "-b", "after"), ".", "hooks/post-checkout (new)"),
    "include in the project": (
        f"{EVIL} >settings.inc", ("status",), ".", "settings.inc (changed)"),
    "config.worktree": (
        f"{EVIL} >.git/config.worktree", ("status",), ".", ".git/config.worktree (new)"),
    "worktree of the host": (
        f"cp -r .git copy && {EVIL} >copy/config && "
        "echo ../../../copy >.git/worktrees/elsewhere/commondir",
        ("status",), "../elsewhere", ".git/worktrees/elsewhere/commondir (new)"),
    "unfinished rebase": (
        'printf "edit HEAD\\nexec $HOST/program\\n" >/tmp/todo && '
        "GIT_SEQUENCE_EDITOR='cp /tmp/todo' git rebase -q HEAD~1 -i || true; "
        "test -d .git/rebase-merge",
        ("rebase", "--continue"), ".", ".git/rebase-merge/git-rebase-todo (new)"),
}  # fmt: skip


@pytest.mark.once
@pytest.mark.parametrize("way", WAYS)
async def test_what_mounts_cannot_stop_is_told_at_destroy(
    sessions: Sessions, repository: HostGit, name: str, way: str
) -> None:
    plant, words, directory, named = WAYS[way]
    project = repository.project
    _prepare(repository, way)
    await create(sessions, CreateRequest(str(project), session_name=name))
    await run(
        sessions,
        name,
        IDENTITY,
        f"export HOST={project} PROGRAM=program; {repository.program}",
        plant,
    )
    destroyed = await sessions.destroy(name)
    repository(*words, directory=directory, check=False)
    assert repository.ran_it  # else this is no way at all, and the warning would be for nothing
    assert len(destroyed.warnings) == 1
    assert destroyed.warnings[0].startswith("Files that git on the host obeys have changed")
    assert named in destroyed.warnings[0]


def _prepare(git: HostGit, way: str) -> None:
    """What the user's own project has."""
    match way:
        case "submodule" | "gitdir file":
            source = git.project.parent / "source"
            source.mkdir()
            HostGit(source)("init", "-q")
            HostGit(source)("commit", "-q", "--allow-empty", "-m", "x")
            git("submodule", "--quiet", "add", str(source), "sub")
            git("commit", "-q", "-m", "sub")
        case "hooksPath in the project":
            (git.project / "hooks").mkdir()
            git("config", "core.hooksPath", "hooks")
        case "include in the project":
            (git.project / "settings.inc").write_text("[user]\n")
            git("config", "include.path", "../settings.inc")
        case "config.worktree":
            git("config", "extensions.worktreeConfig", "true")
        case "worktree of the host":
            git("worktree", "add", "-q", "../elsewhere")
        case "unfinished rebase":
            git("commit", "-q", "--allow-empty", "-m", "second")


@pytest.mark.once
async def test_turn_tells_what_claude_planted_on_every_front_end(
    sessions: Sessions, config: Config, repository: HostGit, name: str
) -> None:
    await create(sessions, CreateRequest(str(repository.project), session_name=name))
    harmless = await turns.prompt(await sessions.open(name), "hello")
    assert harmless.notes == ()
    step: dict[str, Any] = {
        "tool": "Bash",
        "input": {
            "command": "mkdir x && cd x && git init -q . && echo . >/workspace/.git/commondir"
        },
    }
    turn = await turns.prompt(await sessions.open(name), "standin: " + json.dumps([step]))
    assert len(turn.notes) == 1
    for named in (".git/commondir (new)", "x/.git/ (new)"):
        assert named in turn.notes[0]
    async with open_sessions(config) as other:
        assert (await turns.follow(await other.open(name), turn.turn_id)).notes == turn.notes
        assert (await other.destroy(name)).warnings == turn.notes


@pytest.mark.once
async def test_repository_that_appears_in_a_project_without_one_is_told(
    sessions: Sessions, git: HostGit, name: str
) -> None:
    await create(sessions, CreateRequest(str(git.project), session_name=name))
    await run(sessions, name, "git init -q .")
    assert ".git/ (new)" in (await sessions.destroy(name)).warnings[0]


async def test_worktree_as_a_project_is_told_at_create_and_keeps_its_git_file(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    repository("worktree", "add", "-q", "../elsewhere")
    project = repository.project.parent / "elsewhere"
    created = await create(sessions, CreateRequest(str(project), session_name=name))
    [warning] = told(created)
    assert "git does not work in the session" in warning
    done = await commands.run(await sessions.open(name), "rm .git; mv .git x; echo gitdir: x >.git")
    assert done.exit_code != 0
    assert HostGit(project)("status", "--short") == ""
    assert (await sessions.destroy(name)).warnings == ()


async def test_repository_beside_its_git_file_in_the_project_works_and_is_guarded(
    sessions: Sessions, git: HostGit, name: str
) -> None:
    git("init", "-q", "-b", "main", "--separate-git-dir=.bare", ".")
    (git.project / ".git").write_text("gitdir: .bare\n")
    created = await create(sessions, CreateRequest(str(git.project), session_name=name))
    assert told(created) == []
    await run(sessions, name, IDENTITY, "echo 1 >file && git add file && git commit -qm first")
    for attempt in ("mv .bare x", "git config a.b c", "touch .bare/hooks/x", "rm .git"):
        assert (await commands.run(await sessions.open(name), attempt)).exit_code != 0, attempt
    assert git("log", "--format=%s") == "first\n"
    assert (await sessions.destroy(name)).warnings == ()
