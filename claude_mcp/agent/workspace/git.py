"""Runs git in the session; output and time are bounded.

``Git`` reads no configuration but ours, so nothing that a repository names is run: no hook, filter,
fsmonitor, external diff, credential helper or transport. ``Git.of_user`` is for what the session's
user would do, with that user's configuration, but without hooks.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from claude_mcp.agent.processes import cgroup_events

READ_BYTES = 256 * 1024
MAX_ERROR_BYTES = 16 * 1024
MAX_REASON_CHARS = 300
SHORT_BYTES = 64 * 1024
USERS_OPTIONS = ("-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false")

SETTINGS = {
    "advice.addEmbeddedRepo": "false",
    "core.attributesFile": "/dev/null",
    "core.autocrlf": "false",
    "core.bare": "false",
    "core.checkStat": "default",
    "core.fileMode": "true",
    "core.fsmonitor": "false",
    "core.fsync": "none",  # a checkpoint that a crash of the machine damages is no great loss
    "core.hooksPath": "/dev/null",
    "core.ignoreCase": "false",
    "core.looseCompression": "1",
    "core.precomposeUnicode": "false",
    "core.protectHFS": "false",
    "core.protectNTFS": "false",
    "core.quotePath": "false",
    "core.safecrlf": "false",
    "core.sparseCheckout": "false",
    "core.splitIndex": "false",
    "core.symlinks": "true",
    "core.untrackedCache": "true",
    "diff.renameLimit": "1000",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.compression": "1",
    "protocol.allow": "never",
    "safe.directory": "*",
    "status.showUntrackedFiles": "all",  # as `status` is asked, or it ignores its cache
    "submodule.recurse": "false",
}

ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_AUTHOR_EMAIL": "claude-mcp@localhost",
    "GIT_AUTHOR_NAME": "claude-mcp",
    "GIT_COMMITTER_EMAIL": "claude-mcp@localhost",
    "GIT_COMMITTER_NAME": "claude-mcp",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_INDEX_VERSION": "4",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
}


class NoGit(Exception):
    """There is no git in the session."""


class GitFailed(Exception):
    """The message names the git command and has the first line of its stderr."""


class GitTimedOut(GitFailed):
    """The time for the whole operation is over; git was killed."""


class GitStopped(GitFailed):
    """Git was killed because something else is to be done first."""


class Deadline:
    """The moment at which an operation of several git processes must end.

    It also ends when the descriptor ``stop`` becomes readable.
    """

    def __init__(self, seconds: float, stop: int | None = None) -> None:
        self.seconds, self.stop = seconds, stop
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())


class Interruption:
    """Lets one thread stop an operation of another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipes: list[int] = []

    @contextmanager
    def possible(self) -> Iterator[int]:
        """Yields a descriptor that becomes readable at a request."""
        reading, writing = os.pipe()
        try:
            with self._lock:
                self._pipes.append(writing)
            yield reading
        finally:
            with self._lock:
                self._pipes.remove(writing)
            os.close(writing)
            os.close(reading)

    def request(self) -> None:
        with self._lock:
            for each in self._pipes:
                os.write(each, b"!")


class Output(NamedTuple):
    """``complete`` is False if git was stopped because it wrote more than the limit."""

    data: bytes
    complete: bool
    returncode: int


class Git:
    """Runs git with one environment. Paths of the repository are given in ``variables``.

    ``descriptor`` stays open in every git process, so a lock on it outlives this process as long
    as one of them runs.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        settings: Mapping[str, str],
        descriptor: int | None = None,
    ) -> None:
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            **ENVIRONMENT,
            **_as_variables({**SETTINGS, **settings}),
            **variables,
        }
        self._descriptors = () if descriptor is None else (descriptor,)
        self._options: tuple[str, ...] = ()
        self._directory = "/"

    @classmethod
    def of_user(cls, directory: str, environment: Mapping[str, str], *options: str) -> Git:
        """Git as the session's user runs it in a directory, but without hooks."""
        git = cls({}, {})
        git._environment = {**environment, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
        git._options, git._directory = (*USERS_OPTIONS, *options), directory
        return git

    def run(
        self,
        arguments: Sequence[str],
        deadline: Deadline,
        *,
        limit_bytes: int,
        stdin: bytes = b"",
        accepted: Collection[int] = (0,),
    ) -> Output:
        """Run git and return its stdout, up to about ``limit_bytes``.

        Raises:
            NoGit, GitFailed, GitTimedOut
        """
        data = bytearray()
        process = Process(self._start(arguments, stdin), arguments[0], accepted)
        with process:
            for chunk in process.read(deadline):
                data += chunk
                if len(data) > limit_bytes:
                    return Output(bytes(data[:limit_bytes]), False, 0)
        return Output(bytes(data), True, process.returncode)

    def short(self, deadline: Deadline, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run git for an answer of at most ``SHORT_BYTES``; raises as ``run`` does."""
        return self.run(arguments, deadline, limit_bytes=SHORT_BYTES, stdin=stdin).data

    def stream(
        self, arguments: Sequence[str], deadline: Deadline, *, stdin: bytes = b""
    ) -> Generator[bytes, None, None]:
        """Run git and yield its stdout in pieces; it is killed when the iterator is closed.

        Raises:
            NoGit, GitFailed, GitTimedOut
        """
        with Process(self._start(arguments, stdin), arguments[0], (0,)) as process:
            yield from process.read(deadline)

    def _start(self, arguments: Sequence[str], stdin: bytes) -> subprocess.Popen[bytes]:
        source = _file_of(stdin) if stdin else subprocess.DEVNULL
        try:
            process = subprocess.Popen(
                ["git", *self._options, *arguments],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._directory,
                env=self._environment,
                pass_fds=self._descriptors,
                start_new_session=True,
            )
        except ValueError as error:  # a null character
            raise GitFailed(f"git {arguments[0]} cannot be started: {error}") from error
        except (FileNotFoundError, PermissionError) as error:
            raise NoGit("git is not installed in the session's image") from error
        except OSError as error:
            raise GitFailed(f"git {arguments[0]} cannot be started: {error.strerror}") from error
        finally:
            if source != subprocess.DEVNULL:
                os.close(source)
        cgroup_events.prefer_for_oom_kill(process.pid)
        return process


class Process:
    """One git process; what is left of it and its children is killed on exit."""

    def __init__(
        self, process: subprocess.Popen[bytes], command: str, accepted: Collection[int]
    ) -> None:
        self._process, self._command, self._accepted = process, command, accepted
        self.returncode = 0

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.returncode is None:
            # Not yet waited for, so no other group can have this number.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def read(self, deadline: Deadline) -> Iterator[bytes]:
        """Yield stdout until git has ended.

        Raises:
            GitFailed, GitTimedOut
        """
        process, errors = self._process, bytearray()
        assert process.stdout is not None
        assert process.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            if deadline.stop is not None:
                selector.register(deadline.stop, selectors.EVENT_READ)
            pipes = 2
            while pipes:
                ready = selector.select(deadline.left())
                if not ready and not deadline.left():
                    raise self._timed_out(deadline)
                for key, _ in ready:
                    if key.fd == deadline.stop:
                        raise GitStopped(f"git {self._command} was stopped")
                    data = os.read(key.fd, READ_BYTES)
                    if not data:
                        selector.unregister(key.fileobj)
                        pipes -= 1
                    elif key.fileobj is process.stdout:
                        yield data
                    elif len(errors) < MAX_ERROR_BYTES:
                        errors += data
        try:
            # With both pipes closed it is about to end, so a deadline just over is no reason.
            self.returncode = process.wait(deadline.left() + 1)
        except subprocess.TimeoutExpired:
            raise self._timed_out(deadline) from None
        if self.returncode not in self._accepted:
            raise GitFailed(
                f"git {self._command} failed: {_reason(bytes(errors), self.returncode)}"
            )

    def _timed_out(self, deadline: Deadline) -> GitTimedOut:
        return GitTimedOut(
            f"git {self._command} was stopped: the time limit of {deadline.seconds:g} s is over"
        )


def _reason(errors: bytes, returncode: int) -> str:
    lines = errors.decode("utf-8", "replace").splitlines()
    told = [line for line in lines if not line.startswith(("warning:", "hint:"))] or lines
    for line in told:
        if line.strip():
            return line.strip()[:MAX_REASON_CHARS]
    return f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"


def _as_variables(settings: Mapping[str, str]) -> dict[str, str]:
    """As variables, settings override those of a repository and are in no list of processes."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = name
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


def _file_of(content: bytes) -> int:
    """An open file in memory with this content, at its beginning."""
    descriptor = os.memfd_create("stdin")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
