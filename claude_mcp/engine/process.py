"""The only place on the host that starts a process.

``run`` waits for one process and captures its output, bounded. ``open_stream`` gives a
running process with pipes. Both put the process into a group of its own and kill that whole
group when the time is up, the caller is cancelled or the block is left.

Processes are started with ``asyncio.create_subprocess_exec``: pytest-subprocess fakes that,
and not what anyio calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import io
import logging
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import anyio
import anyio.to_thread

from claude_mcp.contract.capture import BoundedCapture

logger = logging.getLogger(__name__)

CAPTURE_BYTES: Final = 16 * 1024 * 1024
"""What ``run`` keeps of each stream by default: the head and, from half of it on, the tail."""
READ_BYTES: Final = 256 * 1024
PIPE_BYTES: Final = 1024 * 1024
PIPE_GRACE_SECONDS: Final = 2.0
"""How long a program may take to notice that its pipe was closed, before it is killed."""
EXIT_GRACE_SECONDS: Final = 5.0
"""How long a process may take to end after its input was closed, before it is killed."""
NO_PROGRAM: Final = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC)
"""What the kernel says of a path that is no program, or none that we may start."""


class ProgramNotFound(Exception):
    """The program to be started is not there or may not be executed."""


class ProcessTimeout(Exception):
    """The process did not end in time and was killed, with its group."""

    def __init__(self, argv: Sequence[str], seconds: float, stderr: str) -> None:
        super().__init__(f"{argv[0]} did not end within {seconds:g} s")
        self.stderr = stderr


@dataclass(frozen=True, slots=True)
class Completed:
    """A process that ended. Of a long stream, the middle is missing."""

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


async def _drain(stream: asyncio.StreamReader, capture: BoundedCapture) -> None:
    while data := await stream.read(READ_BYTES):
        capture.write(data)


def _kill_group(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _kill(process: asyncio.subprocess.Process) -> None:
    _kill_group(process)
    # Python 3.11 waits for the pipes too, and they stay open while output is unread or while a
    # grandchild that left the group holds them; asyncio has no public way to close them.
    transport = process._transport  # type: ignore[attr-defined]
    for pipe in map(transport.get_pipe_transport, range(3)):
        if isinstance(pipe, asyncio.WriteTransport) and pipe.get_write_buffer_size():
            pipe.abort()
        elif pipe is not None:
            pipe.close()
    with anyio.CancelScope(shield=True):
        await process.wait()


async def _start(
    argv: Sequence[str],
    *,
    stdin: int,
    stderr: int,
    env: Mapping[str, str] | None,
    stdout: int = PIPE,
) -> asyncio.subprocess.Process:
    try:
        # Not interrupted: asyncio would kill the process, but not its group.
        with anyio.CancelScope(shield=True):
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=dict(env) if env is not None else None,
                start_new_session=True,
                limit=READ_BYTES,
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
) -> Completed:
    """Run one program to its end, with an empty stdin.

    ``env`` replaces the whole environment. ``timeout`` is in seconds.

    Raises:
        ProgramNotFound: the program cannot be started.
        ProcessTimeout: it took longer than ``timeout``; its whole group was killed.
    """
    started = time.monotonic()
    process = await _start(argv, stdin=DEVNULL, stderr=PIPE, env=env)
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


class _Pipe(io.FileIO):
    """Once ``broken``, it takes no more data, whether or not somebody still reads."""

    broken = False

    def write(self, data: Any, /) -> int:
        if self.broken:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return super().write(data)


async def run_with_pipe(
    argv: Sequence[str],
    worker: Callable[[BinaryIO], None],
    *,
    feeds: bool,
    env: Mapping[str, str] | None = None,
    ends_by_itself: bool = False,
) -> tuple[Completed, Exception | None]:
    """Run a program whose stdin (``feeds``) or stdout is handled by blocking code in a thread.

    ``worker`` writes to, or reads from, the pipe that it is given, and is done when it returns.
    Its exception is the second part of the result: the program's own failure may be the cause
    of it. A cancelled call kills the program, whose pipe then ends the worker. With
    ``ends_by_itself``, its input ends first, and it has ``PIPE_GRACE_SECONDS`` to end.

    Raises:
        ProgramNotFound: the program cannot be started.
    """
    reading, writing = os.pipe()
    theirs, ours = (reading, writing) if feeds else (writing, reading)
    _enlarge(ours)
    pipe = _Pipe(ours, "wb" if feeds else "rb")
    try:
        try:
            process = await _start(
                argv,
                stdin=theirs if feeds else DEVNULL,
                stdout=DEVNULL if feeds else theirs,
                stderr=PIPE,
                env=env,
            )
        finally:
            os.close(theirs)
    except BaseException:
        pipe.close()
        raise
    assert process.stderr is not None
    err = BoundedCapture(CAPTURE_BYTES)
    failures: list[Exception] = []

    def work() -> None:
        try:
            with pipe:
                worker(pipe)
        except BrokenPipeError:
            pass  # the program ended early; its exit code and stderr say why
        except Exception as error:
            failures.append(error)
            deadline = time.monotonic() + PIPE_GRACE_SECONDS
            while process.returncode is None and time.monotonic() < deadline:
                time.sleep(0.01)
            _kill_group(process)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, work)
            tasks.start_soon(_drain, process.stderr, err)
            try:
                returncode = await process.wait()
            except BaseException:
                if ends_by_itself:
                    pipe.broken = True
                    with anyio.move_on_after(PIPE_GRACE_SECONDS, shield=True):
                        await process.wait()
                _kill_group(process)  # else the thread, and so the group, would not end
                raise
    finally:
        pipe.close()  # a call that is cancelled at once never comes to its worker
        await _kill(process)
    completed = Completed(tuple(argv), returncode, b"", err.value())
    return completed, failures[0] if failures else None


def _enlarge(pipe: int) -> None:
    """A pipe of 1 MiB where the kernel offers it: fewer switches between the two sides."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class Stream:
    """A running process whose stdin and stdout are open; stderr's ends are kept for errors."""

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
        """Let the process see the end of its input, after what it has not read yet."""
        self._stdin.close()

    async def receive(self, max_bytes: int = READ_BYTES) -> bytes:
        """The next bytes of stdout; empty at its end."""
        return await self._stdout.read(max_bytes)

    async def lines(self) -> AsyncIterator[str]:
        """Lines of stdout, without their ends; one of more than ``READ_BYTES`` ends the stream."""
        # The reader raises ValueError for a line that does not fit into its buffer.
        with contextlib.suppress(ValueError):
            while line := await self._stdout.readline():
                yield line.decode("utf-8", "replace").rstrip("\r\n")

    async def wait(self) -> int:
        """Wait for the process and for the end of its stderr, which a grandchild may hold."""
        returncode = await self._process.wait()
        await asyncio.wait([self._drain])
        return returncode

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def stderr_tail(self) -> str:
        return self._stderr.value().decode("utf-8", "replace").strip()


@contextlib.asynccontextmanager
async def open_stream(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    exit_grace: float = EXIT_GRACE_SECONDS,
) -> AsyncIterator[Stream]:
    """Start a program and hold its pipes while the block runs.

    Leaving the block closes stdin, waits ``exit_grace`` seconds for the program to end by
    itself, and then kills its group. A cancelled or failing block does not wait.

    Raises:
        ProgramNotFound: the program cannot be started.
    """
    process = await _start(argv, stdin=PIPE, stderr=PIPE, env=env)
    assert process.stderr is not None
    capture = BoundedCapture(64 * 1024)
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
