"""Runs the host's git. The rule: git runs no program that a repository or a user's file names.

Git obeys its configuration, and a repository has one. Commands that read objects therefore run in
a repository of ours, which borrows the objects of the host's. The few that run in the host's own
repository only look up names and move refs. For all of them the settings that name programs are
overridden.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import anyio

from claude_mcp.contract.capture import BoundedCapture
from claude_mcp.engine import process
from claude_mcp.engine.process import Completed, User
from claude_mcp.errors import GitError, GitNotFound, WorkRefused, ungrouped
from claude_mcp.sessions.channel.answers import line

PROGRAM: Final = "git"
MINIMUM: Final = (2, 31)
"""The first with ``rev-parse --path-format``."""
MERGES: Final = (2, 38)
"""The first with ``merge-tree --write-tree``."""
SECONDS: Final = 60.0
"""Deadline of one call."""
OUTPUT_BYTES: Final = 1024 * 1024
STDERR_LINES: Final = 3
STDERR_CHARS: Final = 400
NULL: Final = "/dev/null"
DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_VERSION: Final = re.compile(r"git version (\d+)\.(\d+)")

SETTINGS: Final = (
    f"core.hooksPath={NULL}", "core.fsmonitor=false", f"core.attributesFile={NULL}",
    f"core.excludesFile={NULL}", "core.pager=cat", "core.editor=false", "core.askPass=false",
    "core.sshCommand=false", "core.gitProxy=false", "core.alternateRefsCommand=false",
    "credential.helper=", "diff.external=", "diff.submodule=short", "submodule.recurse=false",
    "protocol.allow=never", "gc.auto=0", "maintenance.auto=false", "fetch.writeCommitGraph=false",
    "commit.gpgSign=false", "log.showSignature=false", "safe.directory=*",
    "core.bigFileThreshold=16m", "core.quotePath=false", "core.protectHFS=true",
    "core.protectNTFS=true", "core.filesRefLockTimeout=5000",
)  # fmt: skip
"""Of these, ``core.bigFileThreshold`` bounds the memory: larger files are neither compared line by
line nor stored as differences. By itself, git waits only 0.1 s for another git that moves the same
ref, which may have to wait for a busy disk."""

FIXED: Final[Mapping[str, str]] = {
    # No configuration of the system or of a user; old versions of git obey HOME only.
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": NULL,
    "HOME": NULL,
    "XDG_CONFIG_HOME": NULL,
    "GIT_ATTR_NOSYSTEM": "1",
    # Neither the network nor another program, whatever a configuration allows.
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    # What is checked must be what is used.
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}

USERS: Final = (
    "HOME", "XDG_CONFIG_HOME", "LD_LIBRARY_PATH",
    "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
)  # fmt: skip
"""Variables with which git finds the user's own configuration."""
READING: Final[Mapping[str, str]] = {
    "LC_ALL": "C.UTF-8",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
"""For reading a configuration, which runs nothing."""
CONFIGURED_SECONDS: Final = 5.0
"""Bounds what files in odd places may cost."""
CONFIGURED_BYTES: Final = 64 * 1024

OURS: Final = {"name": "claude-mcp", "email": "claude-mcp@localhost"}
"""Who moved a ref, in its reflog, if nobody else is named."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one call of git works; all paths are absolute.

    Without ``git_dir``, git looks for the repository of ``directory``. ``objects`` is where it
    writes objects if not in ``git_dir``; it also reads those of ``borrowed``. Whoever ``identity``
    names makes commits and moves refs.
    """

    directory: str = "/"
    git_dir: str | None = None
    work_tree: str | None = None
    index: str | None = None
    objects: str | None = None
    borrowed: str | None = None
    settings: tuple[str, ...] = ()
    identity: tuple[tuple[str, str], ...] = ()


def command(place: Place, *arguments: str) -> tuple[str, ...]:
    """The argv of one call."""
    options = ["-C", place.directory]
    if place.git_dir is not None:
        options.append(f"--git-dir={place.git_dir}")
    if place.work_tree is not None:
        options.append(f"--work-tree={place.work_tree}")
    for setting in (*SETTINGS, *place.settings):
        options += ["-c", setting]
    return (PROGRAM, "--no-pager", *options, *arguments)


def variables(place: Place, environment: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of one call; of ``environment``, only the search path is used."""
    given = {"PATH": _search_path(environment)}
    if place.index is not None:
        given["GIT_INDEX_FILE"] = place.index
    if place.objects is not None:
        given["GIT_OBJECT_DIRECTORY"] = place.objects
    if place.borrowed is not None:
        given["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = quoted(place.borrowed)
    known = dict(place.identity)
    for role in ("author", "committer"):
        for what, ours in OURS.items():
            who = known.get(f"{role}.{what}") or known.get(f"user.{what}") or ours
            given[f"GIT_{role}_{what}".upper()] = who
    return {**FIXED, **given}


def _search_path(environment: Mapping[str, str]) -> str:
    """Without directories that are relative to ours, which may be a project."""
    path = environment.get("PATH", DEFAULT_PATH).split(os.pathsep)
    return os.pathsep.join(each for each in path if each.startswith("/"))


def quoted(path: str) -> str:
    """A path as git reads it in a list of object directories."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def said(stderr: str) -> str:
    """Git's first lines as one."""
    lines = [text for text in stderr.splitlines() if text.strip()]
    return clean("; ".join(lines[:STDERR_LINES]), STDERR_CHARS)


def clean(text: str, characters: int = 200) -> str:
    """Foreign text as one short line that a terminal can show."""
    shown = "".join(each if each.isprintable() else "?" for each in line(text, characters))
    return shown.encode("utf-8", "replace").decode()


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first of these names, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(clean(name, 120) for name in names[:most]) + more


async def configured(environment: Mapping[str, str], directory: str, names: str) -> Completed:
    """Values of the user's own configuration whose names match a pattern, as git resolves them.

    ``KEY\\nVALUE\\0`` for each value. Exit code 1 means that there is none.

    Raises:
        GitError: there is no git, or it took too long.
    """
    inherited = {name: environment[name] for name in USERS if name in environment}
    argv = (
        PROGRAM, "--no-pager", "-C", directory, "config", "--includes", "--null", "--get-regexp",
        names,
    )  # fmt: skip
    variables = {**inherited, "PATH": _search_path(environment), **READING}
    return await _start(argv, variables, CONFIGURED_SECONDS, CONFIGURED_BYTES)


async def _start(
    argv: tuple[str, ...],
    variables: Mapping[str, str],
    seconds: float,
    output_bytes: int,
    user: User | None = None,
) -> Completed:
    try:
        return await process.run(
            argv, env=variables, timeout=seconds, capture_bytes=output_bytes, user=user
        )
    except process.ProgramNotFound as error:
        raise _missing() from error
    except process.ProcessTimeout as error:
        raise _late(seconds) from error


@dataclass(slots=True)
class Git:
    """The host's git. ``environment`` is that of the user, of which git gets the search path.

    ``user`` is another one than ours, to whom what git writes will belong; see ``owner_of``.
    """

    environment: Mapping[str, str] = field(repr=False)
    user: User | None = None
    _version: tuple[int, int] | None = field(default=None, init=False)

    async def version(self) -> tuple[int, int]:
        """Major and minor version.

        Raises:
            GitNotFound: there is no git, or it is older than ``MINIMUM``.
        """
        if self._version is None:
            environment = variables(Place(), self.environment)
            done = await _start((PROGRAM, "--version"), environment, SECONDS, OUTPUT_BYTES)
            found = _VERSION.match(done.out)
            version = (int(found[1]), int(found[2])) if found else (0, 0)
            if version < MINIMUM:
                raise GitNotFound(
                    f"The git of this host is unusable ({clean(done.out) or 'no version'}).",
                    hint=f"Install git {MINIMUM[0]}.{MINIMUM[1]} or later.",
                )
            self._version = version
        return self._version

    async def run(
        self,
        place: Place,
        *arguments: str,
        seconds: float = SECONDS,
        output_bytes: int = OUTPUT_BYTES,
        accepted: Sequence[int] = (0,),
    ) -> Completed:
        """Run one command to its end, with an empty stdin.

        Raises:
            GitNotFound: there is no usable git.
            GitError: it failed, or took longer than ``seconds``.
            WorkRefused: it wrote ``output_bytes`` or more.
        """
        await self.version()
        environment = variables(place, self.environment)
        argv = command(place, *arguments)
        done = await _start(argv, environment, seconds, output_bytes, self.user)
        _check(done, arguments[0], accepted, output_bytes)
        return done

    async def feed(
        self, place: Place, worker: Callable[[BinaryIO], None], *arguments: str, seconds: float
    ) -> Completed:
        """Run one command whose stdin ``worker`` writes, in a thread; its output is dropped.

        Raises:
            GitNotFound: there is no usable git.
            GitError: it failed, or took longer than ``seconds``.
        """
        await self.version()
        try:
            with anyio.fail_after(seconds), ungrouped():
                done, failure = await process.run_with_pipe(
                    command(place, *arguments),
                    worker,
                    feeds=True,
                    env=variables(place, self.environment),
                    user=self.user,
                )
        except process.ProgramNotFound as error:
            raise _missing() from error
        except TimeoutError as error:
            raise _late(seconds) from error
        if failure is not None:
            raise failure
        _check(done, arguments[0], (0,), None)
        return done

    async def answer(
        self,
        place: Place,
        data: bytes,
        *arguments: str,
        seconds: float = SECONDS,
        output_bytes: int = OUTPUT_BYTES,
        accepted: Sequence[int] = (0,),
    ) -> Completed:
        """Like ``run``, with this stdin."""
        async with self.open(place, *arguments) as stream:
            capture = BoundedCapture(output_bytes)

            async def send() -> None:
                # A command that ends early says why with its exit code.
                with suppress(anyio.BrokenResourceError):
                    await stream.send(data)
                stream.close_stdin()

            try:
                with anyio.fail_after(seconds), ungrouped():
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(send)
                        while piece := await stream.receive():
                            capture.write(piece)
                    returncode = await stream.wait()
            except TimeoutError as error:
                raise _late(seconds) from error
            done = Completed(
                command(place, *arguments), returncode, capture.value(), stream.stderr_tail.encode()
            )
        _check(done, arguments[0], accepted, output_bytes)
        return done

    @asynccontextmanager
    async def open(self, place: Place, *arguments: str) -> AsyncIterator[process.Stream]:
        """Hold a running command with its pipes; it is killed when the block fails.

        Raises:
            GitNotFound: there is no usable git.
        """
        await self.version()
        argv, environment = command(place, *arguments), variables(place, self.environment)
        try:
            async with process.open_stream(argv, env=environment, user=self.user) as stream:
                yield stream
        except process.ProgramNotFound as error:
            raise _missing() from error


def _check(done: Completed, name: str, accepted: Sequence[int], output_bytes: int | None) -> None:
    if done.returncode not in accepted:
        reason = said(done.err) or f"exit code {done.returncode}"
        raise GitError(f"git {name} failed: {reason}")
    if output_bytes is not None and len(done.stdout) >= output_bytes // 2 * 2:
        raise WorkRefused(
            f"git {name} had more to say than {output_bytes} bytes.",
            hint="The session's work changes too much at once. Take it in parts.",
        )


def _missing() -> GitNotFound:
    return GitNotFound("There is no git on this host.", hint="Install git, and try again.")


def _late(seconds: float) -> GitError:
    return GitError(
        f"git did not end within {seconds:g} s, so it was stopped.",
        hint="Try again when the machine is less busy.",
    )


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of the host; all paths are absolute and real.

    ``git_dir`` is of the worktree that the project is in, ``common_dir`` of all worktrees.
    ``work_tree`` is None if the repository is bare.
    """

    git_dir: str
    common_dir: str
    objects: str
    object_format: str
    work_tree: str | None

    @property
    def place(self) -> Place:
        """For commands that look up names and move refs."""
        return Place(git_dir=self.git_dir)


async def repository(git: Git, project: str) -> Repository:
    """The repository that a project, a real path, is in.

    Raises:
        GitError: it is in none, or in one whose working tree is elsewhere.
    """
    here = Place(directory=project)
    questions = (
        "--path-format=absolute", "--git-dir", "--git-common-dir", "--git-path", "objects",
        "--show-object-format", "--is-inside-work-tree",
    )  # fmt: skip
    answers = (await git.run(here, "rev-parse", *questions)).stdout.split(b"\n")
    if len(answers) != 6:
        raise GitError(f"git cannot name the repository of {clean(project)}: line break in a path.")
    git_dir, common_dir, objects = map(_real, answers[:3])
    work_tree = None
    if answers[4] == b"true":
        top = (await git.run(here, "rev-parse", "--show-toplevel")).stdout.removesuffix(b"\n")
        work_tree = _real(top)
        if os.path.commonpath((project, work_tree)) != work_tree:
            raise GitError(f"The repository of {clean(project)} keeps its files elsewhere.")
    return Repository(git_dir, common_dir, objects, answers[3].decode(), work_tree)


def _real(path: bytes) -> str:
    return os.path.realpath(os.fsdecode(path))


def owner_of(repository: Repository) -> User | None:
    """Who owns a repository, if we are root and somebody else does.

    Git then runs as that user: what it writes belongs to the user as the rest does, and it can do
    no more than the user can.
    """
    status = os.stat(repository.common_dir)
    is_foreign = os.geteuid() == 0 and status.st_uid != 0
    return (status.st_uid, status.st_gid) if is_foreign else None


def may_enter(user: User, path: str) -> bool:
    """Whether a user who is in no further groups may enter a directory, judged by its mode."""
    while True:
        status = os.stat(path)
        shift = 6 if status.st_uid == user[0] else 3 if status.st_gid == user[1] else 0
        if not status.st_mode >> shift & 1:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def give(path: str, user: User | None) -> None:
    """Make a file or directory of ours that of the user as whom git runs."""
    if user is not None:
        os.chown(path, *user)
