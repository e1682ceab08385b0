"""The only place on the host that starts a process, but for what ``ahead`` begins early.

``run`` waits for a process and captures its output, with a bound. ``run_with_pipe`` connects a
process to blocking code in a thread. ``open_stream`` holds a running process with its pipes. Each
process gets its own process group, and the whole group is killed on timeout, on cancellation and
at the end of the block.

Processes start with ``asyncio.create_subprocess_exec``, because pytest-subprocess can fake it. It
cannot fake what anyio calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import io
import logging
import os
import resource
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import anyio
import anyio.to_thread

from claude_mcp.contract.capture import BoundedCapture
from claude_mcp.engine import ahead

logger = logging.getLogger(__name__)

CAPTURE_BYTES: Final = 16 * 1024 * 1024
"""What ``run`` keeps of each stream by default: half for the head, half for the tail."""
STDERR_BYTES: Final = 64 * 1024
"""What a stream keeps of stderr."""
READ_BYTES: Final = 256 * 1024
PIPE_BYTES: Final = 1024 * 1024
PIPE_GRACE_SECONDS: Final = 2.0
"""How long a program may run after its pipe was closed, before it is killed."""
EXIT_GRACE_SECONDS: Final = 5.0
"""How long a process may run after its stdin was closed, before it is killed."""
KEY_GRACE_SECONDS: Final = 0.5
"""How long a program on our terminal may take to end by the key that has ended us."""
NO_PROGRAM: Final = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC)
"""The kernel's errors for a path that is missing, not a program or not executable."""


DESCRIPTORS_PER_RUN: Final = 16
"""Far more than one ``run`` holds, so that most descriptors remain for channels."""
MOST_AT_ONCE: Final = 64


def runs_at_once() -> int:
    """How many programs may run at a time without exhausting the descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_AT_ONCE
    return max(1, min(MOST_AT_ONCE, soft // DESCRIPTORS_PER_RUN))


User = tuple[int, int]
"""The uid and gid that a program runs as, without further groups; needs root."""


class ProgramNotFound(Exception):
    """The program is missing or not executable."""


class ProcessTimeout(Exception):
    """The process did not end in time. Its group was killed."""

    def __init__(self, argv: Sequence[str], seconds: float, stderr: str) -> None:
        super().__init__(f"{argv[0]} did not end within {seconds:g} s")
        self.stderr = stderr


@dataclass(frozen=True, slots=True)
class Completed:
    """A process that has ended. Long streams lack their middle."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode("utf-8", "replace")

    @property
    def err(self) -> str:
        return self.stderr.decode("utf-8", "replace")


async def _drain(stream: asyncio.StreamReader | None, capture: BoundedCapture) -> None:
    """Read a stream to its end; one that is merged into another is none."""
    while stream is not None and (data := await stream.read(READ_BYTES)):
        capture.write(data)


def _pipes(process: asyncio.subprocess.Process) -> list[asyncio.BaseTransport]:
    # asyncio has no public way to the pipes of a process.
    transport = process._transport  # type: ignore[attr-defined]
    return [pipe for fd in range(3) if (pipe := transport.get_pipe_transport(fd)) is not None]


def _kill_group(process: asyncio.subprocess.Process, *, is_held: bool = False) -> None:
    """Kill the process and its group, even if only others of its group are left.

    They hold its pipes then (``is_held``: one that asyncio does not know), and the kernel does not
    reuse the group's number while they exist.
    """
    is_held = is_held or not all(pipe.is_closing() for pipe in _pipes(process))
    if process.returncode is None or is_held:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal to a process that asyncio does not yet know to have ended.

    Not by asyncio's own methods: they collect the exit code of one that has just ended, and who
    waits for it then gets 255, and a warning about an unknown child process.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


async def _kill(process: asyncio.subprocess.Process) -> None:
    _kill_group(process)
    # Python 3.11 also waits for the pipes. They stay open while output is unread, or while a
    # grandchild outside of the group holds them.
    for pipe in _pipes(process):
        if isinstance(pipe, asyncio.WriteTransport) and pipe.get_write_buffer_size():
            pipe.abort()
        else:
            pipe.close()
    with anyio.CancelScope(shield=True):
        await process.wait()


async def _start(
    argv: Sequence[str],
    *,
    stdin: int | None,
    stderr: int | None,
    env: Mapping[str, str] | None,
    stdout: int | None = PIPE,
    group: bool = True,
    user: User | None = None,
) -> asyncio.subprocess.Process:
    who: dict[str, Any] = {}
    if user is not None:
        who = {"user": user[0], "group": user[1], "extra_groups": ()}
    try:
        # Shielded: on cancellation, asyncio would kill the process but not its group.
        with anyio.CancelScope(shield=True):
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=dict(env) if env is not None else None,
                start_new_session=group,
                limit=READ_BYTES,
                **who,
            )
    except OSError as error:
        if error.errno not in NO_PROGRAM:
            raise
        raise ProgramNotFound(str(error)) from error
    return process


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    capture_bytes: int = CAPTURE_BYTES,
    user: User | None = None,
) -> Completed:
    """Run one program to its end, with an empty stdin.

    ``env`` replaces the whole environment. ``timeout`` is in seconds. One that has begun already
    (see ``ahead``) is taken over.

    Raises:
        ProgramNotFound: the program cannot be started.
        ProcessTimeout: it took longer than ``timeout``. Its whole group was killed.
    """
    started = time.monotonic()
    if user is None and (begun := ahead.take(argv, env)) is not None:
        return await _finish(begun, timeout)
    process = await _start(argv, stdin=DEVNULL, stderr=PIPE, env=env, user=user)
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = BoundedCapture(capture_bytes), BoundedCapture(capture_bytes)
    try:
        with anyio.fail_after(timeout):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_drain, process.stdout, out)
                tasks.start_soon(_drain, process.stderr, err)
            returncode = await process.wait()
    except TimeoutError as error:
        await _kill(process)
        assert timeout is not None
        raise ProcessTimeout(argv, timeout, err.value().decode("utf-8", "replace")) from error
    except BaseException:
        await _kill(process)
        raise
    logger.debug("%s -> %d in %.3f s", argv, returncode, time.monotonic() - started)
    return Completed(
        argv=tuple(argv),
        returncode=returncode,
        stdout=out.value(),
        stderr=err.value(),
    )


async def _finish(begun: ahead.Begun, timeout: float | None) -> Completed:
    """``run`` for a program that has begun already."""
    codes: list[int] = []
    over = anyio.Event()

    async def wait_in_thread() -> None:
        with contextlib.suppress(ahead.Late):
            codes.append(await anyio.to_thread.run_sync(begun.finish, timeout))
        over.set()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_in_thread)
            try:
                await over.wait()
            except BaseException:
                begun.kill()  # otherwise the thread would not end, nor the task group
                raise
    finally:
        if not codes:
            begun.discard()
    if not codes:
        seconds = ahead.MOST_SECONDS if timeout is None else timeout
        raise ProcessTimeout(begun.argv, seconds, begun.err.value().decode("utf-8", "replace"))
    logger.debug("%s -> %d, begun ahead", begun.argv, codes[0])
    return Completed(begun.argv, codes[0], begun.out.value(), begun.err.value())


async def run_attached(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], Awaitable[None]] | None = None,
) -> int:
    """Run a program on this process's own terminal or streams; returns its exit code.

    With ``on_line``, what it writes goes there instead, line by line. It stays in our process
    group, so the terminal's keys reach it too. If this is cancelled, it is asked to end, and killed
    after ``EXIT_GRACE_SECONDS``.

    Raises:
        ProgramNotFound: the program cannot be started.
    """
    out, err = (None, None) if on_line is None else (PIPE, STDOUT)
    process = await _start(argv, stdin=None, stdout=out, stderr=err, env=env, group=False)
    try:
        if on_line is not None:
            assert process.stdout is not None
            await _pass_lines(process.stdout, on_line)
        code = await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(KEY_GRACE_SECONDS):
                await process.wait()
            if process.returncode is None:
                _signal(process, signal.SIGTERM)
                with anyio.move_on_after(EXIT_GRACE_SECONDS):
                    await process.wait()
            if process.returncode is None:
                _signal(process, signal.SIGKILL)
                await process.wait()
    return 128 - code if code < 0 else code


async def _pass_lines(
    stream: asyncio.StreamReader, on_line: Callable[[str], Awaitable[None]]
) -> None:
    while not stream.at_eof():
        try:
            line = await stream.readline()
        except ValueError:  # it is longer than the reader's buffer
            continue
        if line:
            await on_line(line.decode("utf-8", "replace").rstrip("\r\n"))


class _Pipe(io.FileIO):
    """Our end of a pipe. Once ``refuses_data`` is set, a write fails as if nobody read."""

    refuses_data = False

    def write(self, data: Any, /) -> int:
        if self.refuses_data:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return super().write(data)


async def run_with_pipe(
    argv: Sequence[str],
    worker: Callable[[BinaryIO], None],
    *,
    feeds: bool,
    env: Mapping[str, str] | None = None,
    end_input_first: bool = False,
    user: User | None = None,
) -> tuple[Completed, Exception | None]:
    """Run a program while blocking code in a thread feeds its stdin or reads its stdout.

    ``worker`` gets our end of the pipe: it writes if it ``feeds``, else it reads. Its exception
    is the second part of the result, because the program's own failure may have caused it.

    A cancelled call kills the program, which ends the pipe and so the worker. With
    ``end_input_first``, the program first sees the end of its input and has
    ``PIPE_GRACE_SECONDS`` to end by itself.

    Raises:
        ProgramNotFound: the program cannot be started.
    """
    process, pipe = await _start_with_pipe(argv, feeds, env, user)
    assert process.stderr is not None
    err = BoundedCapture(CAPTURE_BYTES)
    failures: list[Exception] = []
    finished = anyio.Event()

    async def work_in_thread() -> None:
        await anyio.to_thread.run_sync(_work, process, pipe, worker, failures)
        finished.set()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work_in_thread)
            tasks.start_soon(_drain, process.stderr, err)
            try:
                returncode = await process.wait()
                await finished.wait()
            except BaseException:
                if end_input_first:
                    await _end_input(process, pipe)
                # Otherwise the thread would not end, nor the task group.
                _kill_group(process, is_held=not finished.is_set())
                raise
    finally:
        pipe.close()  # the worker never starts if the call was cancelled before
        await _kill(process)
    completed = Completed(tuple(argv), returncode, b"", err.value())
    return completed, failures[0] if failures else None


async def _end_input(process: asyncio.subprocess.Process, pipe: _Pipe) -> None:
    """Let a program see the end of its input, and give it time to end by itself."""
    pipe.refuses_data = True
    with anyio.move_on_after(PIPE_GRACE_SECONDS, shield=True):
        await process.wait()


def _work(
    process: asyncio.subprocess.Process,
    pipe: _Pipe,
    worker: Callable[[BinaryIO], None],
    failures: list[Exception],
) -> None:
    """Run ``worker``; if it fails, give the program a moment to end by itself."""
    try:
        with pipe:
            worker(pipe)
    except BrokenPipeError:
        pass  # the program ended early; its exit code and stderr say why
    except Exception as error:
        failures.append(error)
        _await_end(process, PIPE_GRACE_SECONDS)
        _kill_group(process)


async def _start_with_pipe(
    argv: Sequence[str], feeds: bool, env: Mapping[str, str] | None, user: User | None
) -> tuple[asyncio.subprocess.Process, _Pipe]:
    """A process with one end of a pipe as its stdin (``feeds``) or stdout, and the other end."""
    reading, writing = os.pipe()
    theirs, ours = (reading, writing) if feeds else (writing, reading)
    _enlarge(ours)
    pipe = _Pipe(ours, "wb" if feeds else "rb")
    try:
        process = await _start(
            argv,
            stdin=theirs if feeds else DEVNULL,
            stdout=DEVNULL if feeds else theirs,
            stderr=PIPE,
            env=env,
            user=user,
        )
    except BaseException:
        pipe.close()
        raise
    finally:
        os.close(theirs)
    return process, pipe


def _await_end(process: asyncio.subprocess.Process, seconds: float) -> None:
    """Give a process time to end, from a thread: the event loop notices the end."""
    deadline = time.monotonic() + seconds
    while process.returncode is None and time.monotonic() < deadline:
        time.sleep(0.01)


def _enlarge(pipe: int) -> None:
    """Give a pipe 1 MiB where the kernel allows it, for fewer switches between its two sides."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class Stream:
    """A running process with open stdin and stdout. The ends of its stderr are kept for errors."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        stderr: BoundedCapture,
        drain: asyncio.Future[None],
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stderr = stderr
        self._drain = drain
        self._stdin = process.stdin
        self._stdout = process.stdout

    async def send(self, data: bytes | memoryview) -> None:
        """Write all of ``data``, waiting while the pipe is full.

        Raises:
            anyio.BrokenResourceError: the process no longer reads.
        """
        try:
            self._stdin.write(data)
            await self._stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise anyio.BrokenResourceError from error

    def close_stdin(self) -> None:
        """End the input. The process can still read what was sent before."""
        self._stdin.close()

    async def stdin_closed(self) -> None:
        """Wait until the input has ended. Raises OSError if it broke."""
        await self._stdin.wait_closed()

    async def receive(self, max_bytes: int = READ_BYTES) -> bytes:
        """The next bytes of stdout. Empty bytes mean its end."""
        return await self._stdout.read(max_bytes)

    async def lines(self) -> AsyncIterator[str]:
        """Lines of stdout, without line breaks. A line over ``READ_BYTES`` ends the iteration."""
        # The reader raises ValueError for a line that exceeds its buffer.
        with contextlib.suppress(ValueError):
            while line := await self._stdout.readline():
                yield line.decode("utf-8", "replace").rstrip("\r\n")

    async def wait(self) -> int:
        """Wait for the process and for the end of its stderr. A grandchild may hold the latter."""
        returncode = await self._process.wait()
        await asyncio.wait([self._drain])
        return returncode

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def stderr_tail(self) -> str:
        """What was kept of stderr so far."""
        return self._stderr.value().decode("utf-8", "replace").strip()


@contextlib.asynccontextmanager
async def open_stream(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    exit_grace: float = EXIT_GRACE_SECONDS,
    user: User | None = None,
    merged: bool = False,
) -> AsyncIterator[Stream]:
    """Start a program and hold its pipes while the block runs.

    With ``merged``, what it writes to stderr comes with its stdout, and nothing is kept for errors.

    At the end of the block, stdin closes, the program has ``exit_grace`` seconds to end by itself,
    and its group is killed. A cancelled or failing block kills at once.

    Raises:
        ProgramNotFound: the program cannot be started.
    """
    errors = STDOUT if merged else PIPE
    process = await _start(argv, stdin=PIPE, stderr=errors, env=env, user=user)
    capture = BoundedCapture(STDERR_BYTES)
    drain = asyncio.ensure_future(_drain(process.stderr, capture))
    stream = Stream(process, capture, drain)
    logger.debug("%s started as %d", argv, process.pid)
    try:
        yield stream
        stream.close_stdin()
        if process.returncode is None:
            with anyio.move_on_after(exit_grace):
                await process.wait()
    finally:
        _kill_group(process)
        with anyio.move_on_after(exit_grace, shield=True):
            await asyncio.wait([drain])
        drain.cancel()
        await _kill(process)
        with anyio.move_on_after(EXIT_GRACE_SECONDS, shield=True), contextlib.suppress(OSError):
            # Python 3.11.2, which is Debian's, logs the error of a broken pipe that nobody awaits.
            stream.close_stdin()
            await stream.stdin_closed()
