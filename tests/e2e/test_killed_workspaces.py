"""Who is killed while work goes into a session, or comes out of it, leaves the host whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_mcp.placing.staging import PREFIX, STALE_SECONDS
from tests.gate import Gate
from tests.peers import Wire
from tests.snapshots import NEW_OBJECTS, Snapshot, differences, git, is_sound, ref_files, snapshot

if TYPE_CHECKING:
    from claude_mcp.engine.docker_cli import DockerCliEngine
    from tests.engine_fixtures import Bare

pytestmark = [pytest.mark.usefixtures("committer"), pytest.mark.timeout(600)]
Call = Callable[..., Any]
READ_TREE = "read-tree -m -u [0-9a-f]"
"""The one that changes files; one with --dry-run goes before it."""
CAT_FILE = "cat-file --batch=%(objecttype)"
MOMENTS = {
    "branch": ("cp ", "index-pack ", "pack-objects ", "update-ref "),
    "merge": ("commit-tree ", "pack-objects ", "update-ref ", READ_TREE),
    "files": (CAT_FILE,),
    "patch": ("diff-tree -p",),
}
"""Programs of the host at whose start an apply is killed; ``cp`` is the engine's."""
MADE = (READ_TREE, CAT_FILE)
"""When these start, locks or a staging directory are there already."""
NOT_STOPPED = (("merge", "update-ref "), ("merge", READ_TREE))
"""From the first of these on, a signal is obeyed when the merge is complete."""
WHOLE = bool(os.environ.get("CLAUDE_MCP_STRESS"))
KILLED = [
    (mode, words)
    for mode, moments in MOMENTS.items()
    for words in moments
    if WHOLE or (mode, words) in (("branch", "update-ref "), ("merge", READ_TREE))
]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = [
    (number, mode, words)
    for number in SIGNALS
    for mode, words in KILLED
    if WHOLE or (number, mode) == (signal.SIGTERM, "branch")
]
SEEDING = ("pack-objects ", "cp ") if WHOLE else ("cp ",)


class World:
    def __init__(
        self, tmp_path: Path, environ: dict[str, str], program: str, project: Path
    ) -> None:
        self.temporary = tmp_path / "tmp"
        self.temporary.mkdir()
        environ["TMPDIR"] = str(self.temporary)
        self.gate = Gate(tmp_path / "bin", environ, ("git", program))
        self.environ = environ
        self.argv = [sys.executable, "-m", "claude_mcp", f"--engine={program}"]
        self.project = project
        self.patch = tmp_path / "work.patch"

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.argv, *arguments],
            env=self.environ, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done

    async def kill_server(self, tool: str, words: str, **arguments: Any) -> int:
        """Kill a server where this call has come to; returns what was held up there."""
        self.gate.close(words)
        async with Wire.open([*self.argv, "serve"], self.environ) as wire:
            await wire.begin("tools/call", name=tool, arguments=arguments)
            held = await self.gate.reached_before(wire.answered)
            await wire.end(signal.SIGKILL)
        return held

    async def stop_command(
        self, number: signal.Signals, words: str, *arguments: str, at_once: bool = True
    ) -> str:
        """Send a signal to a command where it has come to; returns what it said.

        Unless it ends ``at_once``, what it waits for goes on.
        """
        self.gate.close(words)
        async with await anyio.open_process([*self.argv, *arguments], env=self.environ) as process:
            held = await self.gate.reached_before(process.wait)
            process.send_signal(number)
            await (self.gate.ended(held) if at_once else self.gate.let_go(held))
            assert process.stderr is not None
            said = b"".join([each async for each in process.stderr]).decode()
            assert await process.wait() == 128 + number, said
        return said

    def is_tidy(self) -> None:
        """Nothing of ours is left but what the next call removes when it is old enough."""
        assert [str(each) for each in self.temporary.rglob("*") if each.is_file()] == []

    def age(self) -> None:
        """As if whoever was killed had been killed a while ago."""
        left = self.project.glob(f"{PREFIX}*")
        for each in [self.temporary, *self.temporary.rglob("*"), *left]:
            status = each.lstat()
            times = (status.st_atime - STALE_SECONDS - 1, status.st_mtime - STALE_SECONDS - 1)
            os.utime(each, times, follow_symlinks=False)


@pytest.fixture
def world(tmp_path: Path, environ: dict[str, str], engine: DockerCliEngine, project: Path) -> World:
    git(project, "init", "--quiet", "--initial-branch=main")
    for name in ("a.txt", "b.txt", "gone.txt"):
        (project / name).write_text("one\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    return World(tmp_path, environ, engine.program, project)


WORK = (
    "echo two >>a.txt && echo new >new.txt && rm gone.txt && git add -A && git commit -qm work && "
    "mkdir d && echo x >d/x && git add -A && git commit -qm more"
)


def arguments(world: World, name: str, mode: str) -> dict[str, Any]:
    extras: dict[str, dict[str, Any]] = {
        "files": {"paths": ["."]},
        "patch": {"patch": str(world.patch), "overwrite": True},
    }
    return {"sessionId": name, "mode": mode, **extras.get(mode, {})}


def command(world: World, name: str, mode: str) -> list[str]:
    paths = {"files": ["."], "patch": ["--patch", str(world.patch), "--force"]}.get(mode, [])
    return ["apply", name, "--mode", mode, *paths]


def allowed(name: str, mode: str) -> tuple[str, ...]:
    """What may differ once an apply was repeated."""
    main = ("a.txt", "new.txt", "gone.txt", "d")
    return {
        "branch": ref_files(f"refs/heads/claude/{name}"),
        "merge": (*main, ".git/index", ".git/logs/HEAD", *ref_files("refs/heads/main")),
        "files": main,
        "patch": (),
    }[mode]


def check(world: World, before: Snapshot, name: str, mode: str) -> None:
    """That an apply that was repeated did what it should, and nothing else."""
    allowed_paths = (*NEW_OBJECTS, *allowed(name, mode))
    assert differences(before, snapshot(world.project), allowed_paths) == []
    is_sound(world.project)
    world.is_tidy()
    match mode:
        case "branch":
            assert git(world.project, "show", f"claude/{name}:d/x") == "x"
        case "patch":
            git(world.project, "apply", "--check", str(world.patch))
        case _:
            assert (world.project / "a.txt").read_text() == "one\ntwo\n"
            assert not (world.project / "gone.txt").exists()
    if mode == "merge":
        assert git(world.project, "status", "--porcelain") == ""
        assert git(world.project, "log", "--format=%s").splitlines()[-1] == "first"


def reset(world: World, name: str, first: str) -> None:
    """The host as it was before."""
    git(world.project, "reset", "--quiet", "--hard", first)
    git(world.project, "clean", "--quiet", "-fd")
    git(world.project, "branch", "--quiet", "-D", f"claude/{name}", check=False)
    world.patch.unlink(missing_ok=True)


@pytest.mark.once
async def test_an_apply_that_is_killed_or_stopped_can_be_repeated(world: World, name: str) -> None:
    """What a killed server has started goes on; what a stopped command has started ends with it."""
    world.run("create", str(world.project), "--name", name, "--workspace", "clone")
    world.run("exec", name, WORK)
    (world.project / "b.txt").write_text("ours\n")
    git(world.project, "commit", "--quiet", "-am", "ours")
    first = git(world.project, "rev-parse", "HEAD")
    for mode, words in KILLED:
        before = snapshot(world.project)
        held = await world.kill_server("apply_changes", words, **arguments(world, name, mode))
        if words not in MADE:
            assert differences(before, snapshot(world.project), NEW_OBJECTS) == []
        await world.gate.let_go(held)
        git(world.project, "fsck", "--strict", "--no-dangling")
        world.age()
        world.run(*command(world, name, mode))
        check(world, before, name, mode)
        reset(world, name, first)
    for number, mode, words in STOPPED:
        before = snapshot(world.project)
        at_once = (mode, words) not in NOT_STOPPED
        said = await world.stop_command(number, words, *command(world, name, mode), at_once=at_once)
        assert "Traceback" not in said
        if at_once:
            some = allowed(name, mode) if mode == "files" else ()  # each of them is whole
            assert differences(before, snapshot(world.project), (*NEW_OBJECTS, *some)) == []
        else:
            check(world, before, name, mode)
        is_sound(world.project)
        world.is_tidy()
        world.run(*command(world, name, mode))
        check(world, before, name, mode)
        reset(world, name, first)
    world.run("destroy", name, "--force")


@pytest.mark.once
async def test_a_session_that_is_killed_while_it_is_made_is_pruned(
    world: World, name: str, bare: Bare
) -> None:
    before = snapshot(world.project)
    create = ("create", str(world.project), "--name", name, "--workspace", "clone")
    for words in SEEDING:
        held = await world.kill_server(
            "create_session", words,
            projectPath=str(world.project), sessionName=name, workspace="clone",
        )  # fmt: skip
        await world.gate.let_go(held)
        container = bare.containers(name)[0]
        bare("wait", container)  # its creator does not answer, so it ends
        listed = json.loads(world.run("list", "--json").stdout)["sessions"]
        assert [each["status"] for each in listed if each["sessionName"] == name] == ["broken"]
        world.run("prune")
        assert bare.containers(name) == []
        world.age()
        world.run(*create)
        assert world.run("exec", name, "git log --format=%s").stdout == "first\n"
        world.is_tidy()
        world.run("destroy", name)
    for number in SIGNALS if WHOLE else SIGNALS[:1]:
        for words in SEEDING:
            await world.stop_command(number, words, *create)
            assert bare.containers(name) == []
            world.is_tidy()
    assert differences(before, snapshot(world.project)) == []
    is_sound(world.project)


SLOW_GIT = """\
mv /usr/bin/git /usr/bin/git.real
cat >/usr/bin/git <<'END'
#!/bin/sh
case " $* " in *" cat-file --batch "*)
    [ -e /tmp/reached ] || { : >/tmp/reached; until [ -e /tmp/go ]; do sleep 0.1; done; };;
esac
exec /usr/bin/git.real "$@"
END
chmod 755 /usr/bin/git
"""


@pytest.mark.once
async def test_a_discard_whose_server_is_killed_can_be_repeated(
    world: World, name: str, bare: Bare
) -> None:
    before = snapshot(world.project)
    world.run("create", str(world.project), "--name", name, "--workspace", "clone")
    world.run("exec", name, WORK)
    container = bare.containers(name)[0]
    bare("exec", "--user=0", container, "sh", "-c", SLOW_GIT)
    async with Wire.open([*world.argv, "serve"], world.environ) as wire:
        await wire.begin("tools/call", name="discard_changes", arguments={"sessionId": name})
        bare("exec", container, "sh", "-c", "until [ -e /tmp/reached ]; do sleep 0.1; done")
        await wire.end(signal.SIGKILL)
    bare("exec", container, "touch", "/tmp/go")
    world.run("discard", name)
    state = "git status --porcelain; git log --format=%s; cat a.txt gone.txt; ls -A; git fsck"
    assert (
        world.run("exec", name, state).stdout == "first\none\none\n.git\na.txt\nb.txt\ngone.txt\n"
    )
    assert differences(before, snapshot(world.project)) == []
    world.run("destroy", name)


@pytest.mark.once
async def test_two_at_once_and_a_host_that_commits_meanwhile(world: World, name: str) -> None:
    """The host commits on the branch, on another one, and in files that nobody committed."""
    project, merging = world.project, ("apply", name, "--mode", "merge")
    world.run("create", str(project), "--name", name, "--workspace", "clone")
    world.run("exec", name, WORK)
    first = git(project, "rev-parse", "HEAD")

    async def at_once(mode: str) -> list[str]:
        """What two processes say that apply the same work."""
        argv = [*world.argv, "apply", name, "--mode", mode, "--json"]
        both = [await anyio.open_process(argv, env=world.environ) for _ in range(2)]
        said = []
        for process in both:
            async with process:
                assert process.stdout is not None
                out = b"".join([each async for each in process.stdout]).decode()
                code = await process.wait()
                said.append(json.loads(out)["outcome"] if code == 0 else f"exit code {code}")
        return sorted(said)

    assert await at_once("branch") in (["created", "unchanged"], ["created", "exit code 10"])
    check_branch = git(project, "rev-parse", f"claude/{name}")
    said = await at_once("merge")
    assert said in (["forwarded", "unchanged"], ["exit code 10", "forwarded"])
    assert git(project, "rev-parse", "HEAD") == check_branch
    assert git(project, "status", "--porcelain") == ""
    is_sound(project)
    reset(world, name, first)

    # While the merge is computed the branch is free, so that the host may commit on it.
    world.gate.close("read-tree -m -u --dry-run")
    async with await anyio.open_process([*world.argv, *merging], env=world.environ) as process:
        held = await world.gate.reached_before(process.wait)
        (project / "b.txt").write_text("ours\n")
        git(project, "commit", "--quiet", "-am", "ours")
        mine = git(project, "rev-parse", "HEAD")
        await world.gate.let_go(held)
        assert process.stderr is not None
        error = b"".join([each async for each in process.stderr]).decode()
        assert await process.wait() == 10, error
    assert "current branch" in error
    assert git(project, "rev-parse", "HEAD") == mine
    assert git(project, "status", "--porcelain") == ""

    # On another branch, and with changes that are in nobody's way, or in its way.
    git(project, "checkout", "--quiet", "-b", "other", first)
    (project / "b.txt").write_text("not committed\n")
    (project / "new.txt").write_text("mine\n")
    refused = world.run(*merging, check=False)
    assert refused.returncode == 10
    assert "untracked files (new.txt)" in refused.stderr
    (project / "new.txt").unlink()
    assert "Branch other was forwarded" in world.run(*merging).stdout
    assert git(project, "rev-parse", "main") == mine
    assert (project / "b.txt").read_text() == "not committed\n"
    assert git(project, "status", "--porcelain") == "M b.txt"
    is_sound(project)
    world.run("destroy", name)
