"""A repository on the host, and a session's clone of it, made with the real git."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from claude_mcp.sessions.git.incoming import Incoming, incoming
from claude_mcp.sessions.git.program import Git

BRANCH = "claude/session"
IDENTITY = (("user.name", "Ada"), ("user.email", "ada@example.org"))
UNMAINTAINED = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "maintenance.auto",
    "GIT_CONFIG_VALUE_0": "false",
}
"""Git must not tidy up in the background: its lock would be found in the repository, or be gone
while that is looked through."""
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **UNMAINTAINED,
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}


def git(directory: Path, *arguments: str, data: bytes | None = None) -> str:
    """What the user, or the session, does by hand."""
    done = subprocess.run(
        ["git", "-C", str(directory), "-c", "core.protectNTFS=false", *arguments],
        env=ENVIRONMENT, input=data, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "surrogateescape").strip()


def attempt(directory: Path, *arguments: str) -> None:
    """Run git by hand, whether it fails or not."""
    subprocess.run(
        ["git", "-C", str(directory), *arguments], env=ENVIRONMENT, capture_output=True, check=False
    )


@dataclass
class World:
    host: Path
    session: Path
    bundle: Path
    base: str

    @property
    def git(self) -> Git:
        return Git(ENVIRONMENT)

    def commit(self, files: dict[str, str | None], message: str = "work") -> str:
        """Change files in the session and commit them there."""
        return commit(self.session, files, message)

    def pack(self, tip: str = BRANCH) -> None:
        """Write the session's bundle; ``tip`` is what its branch is."""
        if tip != BRANCH:
            git(self.session, "update-ref", f"refs/heads/{BRANCH}", tip)
        git(self.session, "bundle", "create", "-q", str(self.bundle),
            f"refs/heads/{BRANCH}", f"^{self.base}")  # fmt: skip

    @asynccontextmanager
    async def incoming(self) -> AsyncIterator[Incoming]:
        async with incoming(
            self.git, str(self.host), str(self.bundle), branch=BRANCH, base=self.base
        ) as work:
            yield work

    @asynccontextmanager
    async def applying(
        self, fifo: Path, apply: Callable[..., Coroutine[Any, Any, object]], *args: object
    ) -> AsyncIterator[anyio.abc.TaskGroup]:
        """Apply what came in, with a git of ``slow_git``; the block runs once that has begun."""
        async with self.incoming() as work:
            work.git.environment = dict(os.environ)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(apply, work, *args)
                await anyio.to_thread.run_sync(fifo.read_text)
                yield tasks

    def state(self) -> dict[str, tuple[int, str]]:
        """Mode and digest of every file of the host, without objects, refs and reflogs."""
        found = {}
        for directory, names, files in os.walk(self.host):
            relative = os.path.relpath(directory, self.host)
            if relative == ".git":
                names[:] = [each for each in names if each not in ("objects", "refs", "logs")]
            for name in [*files, *(each for each in names if (Path(directory, each)).is_symlink())]:
                path = Path(directory, name)
                content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
                mode = path.lstat().st_mode
                found[os.path.join(relative, name)] = (mode, hashlib.sha256(content).hexdigest())
        return found

    def ref(self, name: str) -> str:
        return git(self.host, "for-each-ref", "--format=%(objectname)", f"refs/heads/{name}")

    def is_sound(self) -> bool:
        """No broken objects, and no lock or temporary file in the host's repository."""
        git(self.host, "fsck", "--strict", "--no-dangling")
        leftovers = [*self.host.rglob("*.lock"), *self.host.rglob("tmp_*")]
        leftovers += self.host.rglob(".claude-mcp-*")
        return not leftovers


def commit(repository: Path, files: dict[str, str | None], message: str = "work") -> str:
    for name, content in files.items():
        path = repository / name
        if content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    git(repository, "add", "--all", "--force")
    git(repository, "commit", "-q", "--allow-empty", "-m", message)
    return git(repository, "rev-parse", "HEAD")


def plant(world: World, tmp_path: Path) -> Path:
    """Configure every kind of program in the host's repository; returns the file they make."""
    marker = tmp_path / "marker"
    program = tmp_path / "evil"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{marker}'\nexit 0\n")
    program.chmod(0o755)
    for name in ("reference-transaction", "post-checkout", "post-merge", "pre-merge-commit",
                 "post-index-change", "pre-commit", "post-update", "pre-auto-gc", "update",
                 "post-rewrite", "fsmonitor-watchman"):  # fmt: skip
        hook = world.host / ".git/hooks" / name
        hook.unlink(missing_ok=True)
        hook.symlink_to(program)
    for name in (
        "core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.gitProxy",
        "core.alternateRefsCommand", "core.askPass", "diff.external", "diff.evil.textconv",
        "diff.evil.command", "merge.evil.driver", "filter.evil.clean", "filter.evil.smudge",
        "filter.evil.process", "credential.helper", "uploadpack.packObjectsHook", "gpg.program",
        "alias.update-ref", "alias.rev-parse", "sequence.editor", "interactive.diffFilter",
    ):  # fmt: skip
        value = f"!{program}" if name.startswith("alias") else str(program)
        git(world.host, "config", name, value)
    for name in ("commit.gpgSign", "log.showSignature", "core.untrackedCache"):
        git(world.host, "config", name, "true")
    (world.host / ".git/info").mkdir(exist_ok=True)
    (world.host / ".git/info/attributes").write_text("* filter=evil diff=evil merge=evil\n")
    marker.unlink(missing_ok=True)
    return marker


PROGRAM = """
import asyncio, os, sys
from claude_mcp.errors import WorkConflict
from claude_mcp.sessions.git.incoming import incoming
from claude_mcp.sessions.git.program import Git
from claude_mcp.sessions.git.to_branch import to_branch
from claude_mcp.sessions.git.merge import merge

async def main(host, bundle, branch, base, how):
    async with incoming(Git(os.environ), host, bundle, branch=branch, base=base) as work:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        try:
            if how == "merge":
                done = await merge(work, (("user.name", "Ada"), ("user.email", "a@example.org")))
            else:
                done = await to_branch(work, how)
            print(done.how, flush=True)
        except WorkConflict as error:
            print("conflict", error, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def start(world: World, bundle: Path, how: str = BRANCH) -> asyncio.subprocess.Process:
    """Another process that has read a bundle, and applies it when it gets a line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(world.host), str(bundle), BRANCH, world.base, how,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


def slow_git(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    before: str = ":",
    after: str = ":",
) -> Path:
    """A git on PATH that says on a FIFO that a command starts, and then lets it run.

    ``command`` is a pattern of the shell. ``before`` is what the shell runs before it says so, and
    ``after`` what it runs then.
    """
    directory = tmp_path / "bin"
    directory.mkdir()
    fifo = tmp_path / "started"
    os.mkfifo(fifo)
    real = next(
        path
        for each in os.environ["PATH"].split(":")
        if os.access(path := os.path.join(each, "git"), os.X_OK)
    )
    wrapper = directory / "git"
    wrapper.write_text(
        f'#!/bin/sh\ncase " $* " in *\\ {command}\\ *)\n'
        f"{before}; echo x > '{fifo}'; {after};; esac\n"
        f'exec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return fifo


def number(value: int) -> bytes:
    """A size as a delta states it."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def entry(kind: int, data: bytes, size: int | None = None, between: bytes = b"") -> bytes:
    """One object of a pack; ``size`` is what it claims to have."""
    size = len(data) if size is None else size
    first, rest = kind << 4 | size & 15, size >> 4
    head = bytes([first | (0x80 if rest else 0)]) + (number(rest) if rest else b"")
    return head + between + zlib.compress(data)


def pack(*entries: bytes, count: int | None = None, version: int = 2) -> bytes:
    count = len(entries) if count is None else count
    body = b"PACK" + version.to_bytes(4, "big") + count.to_bytes(4, "big") + b"".join(entries)
    return body + hashlib.sha1(body).digest()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    host = tmp_path / "host"
    host.mkdir()
    git(host, "init", "-q", "-b", "main")
    numbers = "".join(f"line {number}\n" for number in range(50))
    base = commit(host, {"a": numbers, "b": "b\n", "dir/c": "c\n", "dir/d": "d\n"}, "base")
    session = tmp_path / "session"
    git(tmp_path, "clone", "-q", str(host), str(session))
    git(session, "checkout", "-q", "-b", BRANCH)
    return World(host, session, tmp_path / "bundle", base)
