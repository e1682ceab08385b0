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
from claude_mcp.sessions.git.guard import CONFIG_NOTE
from claude_mcp.sessions.git.identity import UNKNOWN
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from tests.engine_fixtures import Bare

pytestmark = pytest.mark.usefixtures("committer")

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


@pytest.mark.near("has nothing to say of a mounted project")
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


@pytest.mark.near("guards the git of a mounted project")
@pytest.mark.per_engine
async def test_config_is_read_only_and_the_answer_says_why(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    before = (repository.project / ".git/config").read_bytes()
    await create(sessions, CreateRequest(str(repository.project), session_name=name))
    for attempt in (
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
            assert done.notes == (CONFIG_NOTE,)
        else:
            assert done.notes == ()
    assert (repository.project / ".git/config").read_bytes() == before
    repository("checkout", "-q", "-b", "after")
    assert not repository.ran_it
    assert (await sessions.destroy(name)).warnings == ()


@pytest.mark.near("guards the git of a mounted project")
@pytest.mark.per_engine
async def test_hosts_own_git_config_ends_the_mount_in_the_session_but_not_the_comparison(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    await create(sessions, CreateRequest(str(repository.project), session_name=name))
    repository("config", "user.name", "me")
    await commands.run(await sessions.open(name), f"{EVIL.replace('$HOST', '/tmp')} >.git/config")
    assert ".git/config (changed)" in (await sessions.destroy(name)).warnings[0]


INSTALL = """
cat >.git/hooks/pre-commit <<'END'
#!/bin/sh
echo "installed hook ran"
END
chmod +x .git/hooks/pre-commit
mv .git/hooks/commit-msg .git/hooks/commit-msg.old
"""
"""What lefthook, pre-commit and the like do."""


@pytest.mark.near("guards the git of a mounted project")
@pytest.mark.per_engine
@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
async def test_hooks_can_be_installed_in_a_session_and_never_reach_the_host(
    sessions: Sessions,
    config: Config,
    bare: Bare,
    repository: HostGit,
    name: str,
    owner: int | None,
    give_to: Callable[[Path, int], None],
) -> None:
    hooks = repository.project / ".git/hooks"
    (hooks / "commit-msg").write_text('#!/bin/sh\n. "$(dirname "$0")/lib/say"\n')
    (hooks / "commit-msg").chmod(0o755)
    (hooks / "lib").mkdir()
    (hooks / "lib/say").write_text('echo "the host\'s hook ran"\n')
    (hooks / "post-commit").symlink_to("../../post-commit.sh")
    (repository.project / "post-commit.sh").write_text("#!/bin/sh\necho linked hook ran\n")
    (repository.project / "post-commit.sh").chmod(0o755)
    if owner is not None:
        repository.project.parent.chmod(0o755)
        give_to(repository.project, owner)
    before = _changes(hooks)
    await create(sessions, CreateRequest(str(repository.project), session_name=name))
    said = await run(sessions, name, "git commit --allow-empty -m one 2>&1")
    assert "the host's hook ran" in said
    assert "linked hook ran" in said
    said = await run(sessions, name, INSTALL, "git commit --allow-empty -m two 2>&1")
    assert "installed hook ran" in said
    assert "the host's hook ran" not in said
    bare("stop", "--time=1", f"claude-mcp-{name}")
    async with open_sessions(config) as later:
        said = await run(later, name, "git commit --allow-empty -m three 2>&1")
    assert "installed hook ran" not in said
    assert "the host's hook ran" in said
    assert _changes(hooks) == before
    assert (await sessions.destroy(name)).warnings == ()


def _changes(directory: Path) -> dict[Path, int]:
    """When each file was last changed, which no program can set."""
    return {path: path.lstat().st_ctime_ns for path in directory.rglob("*")}


@pytest.mark.near("guards the git of a mounted project")
@pytest.mark.per_engine
async def test_repository_without_a_hooks_directory_gets_none_from_the_session(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    hooks = repository.project / ".git/hooks"
    for sample in hooks.iterdir():
        sample.unlink()
    hooks.rmdir()
    await create(sessions, CreateRequest(str(repository.project), session_name=name))
    await run(sessions, name, "mkdir -p .git/hooks && touch .git/hooks/x")
    assert [*hooks.iterdir()] == []
    assert (await sessions.destroy(name)).warnings == ()


@pytest.mark.near("has nothing to say of a mounted project")
@pytest.mark.per_engine
async def test_commits_are_the_hosts_users_where_the_project_names_nobody(
    sessions: Sessions, repository: HostGit, tmp_path: Path, name: str
) -> None:
    (tmp_path / "work").write_text('[user]\n\temail = "at \\\\ \\" work"\n')
    with (tmp_path / "gitconfig").open("a") as file:
        file.write(f"[includeIf 'gitdir:{tmp_path}/']\n\tpath = work\n".replace("'", '"'))
    created = await create(sessions, CreateRequest(str(repository.project), session_name=name))
    assert told(created) == []
    show = "git log -1 --format='%an %ae %cn %ce'"
    assert await run(sessions, name, f"git commit -q --allow-empty -m x && {show}") == (
        'Some Body at \\ " work Some Body at \\ " work\n'
    )
    nested = "git init -q sub && cd sub && git config user.name Other"
    assert await run(sessions, name, f"{nested} && git commit -q --allow-empty -m x && {show}") == (
        'Other at \\ " work Other at \\ " work\n'
    )
    await sessions.destroy(name)


@pytest.mark.near("has nothing to say of a mounted project")
@pytest.mark.per_engine
async def test_a_host_that_does_not_know_who_commits_is_told_at_create(
    sessions: Sessions, repository: HostGit, tmp_path: Path, name: str
) -> None:
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Some Body\n")
    created = await create(sessions, CreateRequest(str(repository.project), session_name=name))
    assert told(created) == [UNKNOWN]
    done = await commands.run(await sessions.open(name), "git commit --allow-empty -m x")
    assert "Author identity unknown" in done.stderr
    await run(
        sessions, name, "git config --global user.email a@b && git commit -q --allow-empty -m x"
    )
    await sessions.destroy(name)


@pytest.mark.once
async def test_large_files_are_added_as_pointers_and_come_back(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    (repository.project / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs\n")
    created = await create(sessions, CreateRequest(str(repository.project), session_name=name))
    assert told(created) == []
    said = await run(
        sessions,
        name,
        "head -c 100000 /dev/zero >large.bin && git add . && git commit -qm large",
        "git lfs install",  # which installs hooks in the project
        "git show HEAD:large.bin && rm large.bin && git checkout -q large.bin && wc -c large.bin",
    )
    assert "version https://git-lfs.github.com/spec/v1" in said
    assert said.endswith("100000 large.bin\n")
    assert not (repository.project / ".git/hooks/pre-push").exists()
    assert (await sessions.destroy(name)).warnings == ()


@pytest.mark.near("guards the git of a mounted project")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to somebody else")
async def test_git_directory_of_another_owner_is_no_obstacle(
    sessions: Sessions, repository: HostGit, name: str, give_to: Callable[[Path, int], None]
) -> None:
    repository.project.parent.chmod(0o755)
    give_to(repository.project, 4321)
    give_to(repository.project / ".git", 5432)
    await create(sessions, CreateRequest(str(repository.project), session_name=name))
    assert await run(sessions, name, "git status --short; git log --format=%s") == "first\n"
    await sessions.destroy(name)


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


@pytest.mark.near("guards the git of a mounted project")
@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
async def test_git_works_in_a_worktree_and_the_rest_of_its_repository_is_guarded(
    sessions: Sessions,
    repository: HostGit,
    name: str,
    owner: int | None,
    give_to: Callable[[Path, int], None],
) -> None:
    repository("worktree", "add", "-q", "../elsewhere")
    repository("worktree", "add", "-q", "../other")
    outside = repository.project.parent
    project, git = outside / "elsewhere", repository.project / ".git"
    if owner is not None:
        outside.chmod(0o755)
        for each in (repository.project, project, outside / "other"):
            give_to(each, owner)
    before = (git / "config").read_bytes()
    created = await create(sessions, CreateRequest(str(project), session_name=name))
    [warning] = told(created)
    assert "a worktree of" in warning
    assert "but not its configuration or hooks" in warning
    await run(
        sessions,
        name,
        "git status --short && echo 2 >file && git commit -qam second && git branch more",
        "echo 3 >file && git stash -q && git stash pop -q && git commit -qam third",
        "git checkout -q -b topic && git rebase -q HEAD~1 && git gc -q && git branch -D more",
        "git worktree prune",
        "echo '#!/bin/sh' >$(git rev-parse --git-common-dir)/hooks/pre-commit",
    )
    for attempt in (
        "rm .git",
        "echo gitdir: x >.git",
        f"echo >{git}/worktrees/elsewhere/commondir",
        f"rm {git}/worktrees/other/HEAD",
        f"echo >>{git}/config",
        f"mv {git} {git}.old",
        "git config a.b c",
    ):
        done = await commands.run(await sessions.open(name), attempt)
        assert done.exit_code != 0, attempt
    assert repository("log", "--format=%s", "topic").split() == ["third", "second", "first"]
    assert HostGit(project)("status", "--short", "--branch") == "## topic\n"
    assert HostGit(outside / "other")("status", "--short", "--branch") == "## other\n"
    assert (git / "config").read_bytes() == before
    assert not (git / "hooks/pre-commit").exists()
    assert (await sessions.destroy(name)).warnings == ()


@pytest.mark.once
async def test_what_a_worktrees_session_plants_in_its_repository_is_told(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    repository("worktree", "add", "-q", "../elsewhere")
    git = repository.project / ".git"
    project = repository.project.parent / "elsewhere"
    await create(sessions, CreateRequest(str(project), session_name=name))
    await run(
        sessions,
        name,
        f"export HOST={project} PROGRAM=program; {repository.program}",
        f"mkdir copy && cp {git}/HEAD copy && cp -r {git}/objects {git}/refs copy",
        f"{EVIL} >copy/config && echo {project}/copy >{git}/commondir",
    )
    destroyed = await sessions.destroy(name)
    repository("status", check=False)
    assert repository.ran_it
    assert f"{git}/commondir (new)" in destroyed.warnings[0]


@pytest.mark.once
async def test_worktree_with_relative_paths_works(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    repository("worktree", "add", "-q", "../elsewhere")
    project = repository.project.parent / "elsewhere"
    administration = repository.project / ".git/worktrees/elsewhere"
    (project / ".git").write_text("gitdir: ../project/.git/worktrees/elsewhere\n")
    (administration / "gitdir").write_text("../../../../elsewhere/.git\n")
    await create(sessions, CreateRequest(str(project), session_name=name))
    await run(sessions, name, "echo 2 >file && git commit -qam second")
    assert HostGit(project)("log", "-1", "--format=%s") == "second\n"
    assert (await sessions.destroy(name)).warnings == ()


@pytest.mark.once
async def test_trusted_session_may_configure_the_repository_of_its_worktree(
    sessions: Sessions, repository: HostGit, name: str
) -> None:
    repository("worktree", "add", "-q", "../elsewhere")
    project = repository.project.parent / "elsewhere"
    request = CreateRequest(str(project), session_name=name, trust_git=True)
    [warning] = told(await create(sessions, request))
    assert "and its configuration and hooks" in warning
    await run(sessions, name, "git remote add origin /tmp/x && git commit -q --allow-empty -m x")
    assert repository("remote") == "origin\n"
    await sessions.destroy(name)


@pytest.mark.once
@pytest.mark.parametrize("kind", ["submodule", "subdirectory", "moved worktree", "forged"])
async def test_project_whose_repository_is_elsewhere_is_told_at_create_and_keeps_its_git_file(
    sessions: Sessions, repository: HostGit, name: str, kind: str
) -> None:
    project, words = _elsewhere(repository, kind)
    before = [path.read_bytes() for path in project.glob(".git")]
    [warning] = told(await create(sessions, CreateRequest(str(project), session_name=name)))
    assert words in warning
    done = await commands.run(await sessions.open(name), "git log")
    assert done.exit_code != 0
    await commands.run(
        await sessions.open(name), "test -e .git && (rm .git; mv .git x; echo gitdir: x >.git)"
    )
    assert [path.read_bytes() for path in project.glob(".git")] == before
    assert (await sessions.destroy(name)).warnings == ()


def _elsewhere(git: HostGit, kind: str) -> tuple[Path, str]:
    """A project whose repository is not in it, and what is said about it."""
    outside = git.project.parent
    match kind:
        case "submodule":
            _prepare(git, "submodule")
            return git.project / "sub", "Create the session for the repository that contains it"
        case "subdirectory":
            (git.project / "package").mkdir()
            return git.project / "package", "create the session for the whole repository"
        case "moved worktree":
            git("worktree", "add", "-q", "../elsewhere")
            (outside / "elsewhere").rename(outside / "moved")
            return outside / "moved", "git worktree repair"
        case _:
            (outside / "forged").mkdir()
            git("worktree", "add", "-q", "../elsewhere")
            (outside / "forged/.git").write_text((outside / "elsewhere/.git").read_text())
            return outside / "forged", "does not name the project"


@pytest.mark.near("guards the git of a mounted project")
async def test_repository_beside_its_git_file_in_the_project_works_and_is_guarded(
    sessions: Sessions, git: HostGit, name: str
) -> None:
    git("init", "-q", "-b", "main", "--separate-git-dir=.bare", ".")
    (git.project / ".git").write_text("gitdir: .bare\n")
    created = await create(sessions, CreateRequest(str(git.project), session_name=name))
    assert told(created) == []
    await run(sessions, name, IDENTITY, "echo 1 >file && git add file && git commit -qm first")
    for attempt in ("mv .bare x", "git config a.b c", "rm .git"):
        assert (await commands.run(await sessions.open(name), attempt)).exit_code != 0, attempt
    assert git("log", "--format=%s") == "first\n"
    assert (await sessions.destroy(name)).warnings == ()
