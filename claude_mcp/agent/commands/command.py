"""One shell command: its streams are separate and bounded, and it is killed as a whole.

One thread stays with a command from its start until nothing holds its output open any more: the
thread of the request that started it, which answers that request in between.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterable
from typing import Callable

from claude_mcp.agent.commands.output import ERR, OUT, Output
from claude_mcp.agent.processes import cgroup_events, killing
from claude_mcp.contract import operations
from claude_mcp.contract.capture import BoundedCapture
from claude_mcp.contract.redaction import redactor

READ_BYTES = 256 * 1024
INLINE_COMMAND_BYTES = 100_000
"""The kernel accepts no argument over 128 KiB; a longer command is passed as a file in memory,
which needs no directory and no disk."""
TERM_GRACE_SECONDS = 1.0
DRAIN_SECONDS = 0.2
"""How long output is read after the shell has ended while its children hold the pipe open."""
POLL_SECONDS = 0.01
"""How often to look whether the shell has ended, where the kernel does not tell."""
LONGEST_POLL_SECONDS = 3600.0
LAST_READS = 64
"""How often the pipes of a killed command are read, which something unkillable may still fill."""
TIMEOUT_EXIT_CODE = 124
"""The same as that of timeout(1)."""
END_OF_FILE = b"\4"
"""What a terminal takes for the end of its input."""
FREED = "The command's background processes were killed to free processes."
MAX_INPUT_BYTES = 16 * 1024 * 1024
HEADLINE_CHARS = 200
TERMINAL_TYPE = "xterm-256color"


class NoInput(Exception):
    """Nothing can be written to the command's stdin; the message says why."""


def rfc3339(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _pipe(readers: list[int], writers: list[int]) -> tuple[int, int]:
    """A pipe whose ends are also added to those of their owners."""
    reader, writer = os.pipe()
    readers.append(reader)
    writers.append(writer)
    return reader, writer


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _in_memory(script: bytes) -> int:
    """The descriptor of a file that exists only in memory."""
    descriptor = os.memfd_create("command")
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(script)
    return descriptor


class Command:
    """``start`` and then ``attend`` are called by one thread, everything else by any."""

    def __init__(self, command_id: str, args: operations.Command, directory: str) -> None:
        self.id = command_id
        self.args = args
        self.changed = threading.Condition()
        self.output = Output(directory)
        self.status: str = operations.RUNNING
        self.attended = True
        """Whether the caller that started it still waits."""
        self.is_over = False
        """Nothing about it changes any more."""
        self.was_started = False
        self.notes: list[str] = []
        self.killed: str | None = None
        """Why and when, if it was."""
        self.activity = f"command-{command_id}"
        out, err = BoundedCapture(args.limit_bytes), BoundedCapture(args.limit_bytes)
        self._captures = {OUT: out, ERR: err}
        self._exit_code: int | None = None
        self._timed_out = False
        self.started_at = time.time()
        self._began = time.monotonic()
        self._seconds: float | None = None
        """How long the shell ran."""
        self._stop = False
        self._streams: dict[int, int] = {}
        """The open descriptors of its output, and which stream each one is."""
        self._stdin: int | None = None
        self._input = bytearray()
        self._end_input = not (args.background or args.tty)
        self._pidfd: int | None = None
        self._wake_write = -1
        self._open: set[int] = set()

    # What any thread may call.

    def stop(self) -> None:
        """Have it killed; ``is_over`` says when that is done."""
        self._stop = True
        self.wake()

    def wake(self) -> None:
        """Make its thread look around."""
        with self.changed:
            if self._wake_write in self._open:
                with contextlib.suppress(BlockingIOError):  # it is about to
                    os.write(self._wake_write, b"x")

    def notify(self) -> None:
        """Make those who wait for it look around."""
        with self.changed:
            self.changed.notify_all()

    def write_input(self, text: str, end: bool) -> None:
        """Write to its stdin, and perhaps end it.

        Raises:
            NoInput
        """
        data = text.encode("utf-8", "surrogateescape")
        with self.changed:
            if self.status != operations.RUNNING:
                raise NoInput("the command has ended")
            if self._stdin is None or self._end_input:
                raise NoInput("its stdin is closed")
            if len(self._input) + len(data) > MAX_INPUT_BYTES:
                raise NoInput("it has not read what was written before")
            self._input += data + (END_OF_FILE if end and self.args.tty else b"")
            self._end_input = end and not self.args.tty
        self.wake()

    @property
    def is_unattended(self) -> bool:
        """Whether it runs although nobody waits for it."""
        return not self.attended and not self.is_over

    def entry(self) -> operations.CommandEntry:
        ended = None if self._seconds is None else rfc3339(self.started_at + self._seconds)
        text = " ".join(self.args.command[: 4 * HEADLINE_CHARS].split())
        return operations.CommandEntry(
            self.id,
            redactor.redact(text)[:HEADLINE_CHARS],
            self.status,
            self.args.background,
            rfc3339(self.started_at),
            ended,
            self._exit_code,
        )

    def result(self) -> operations.CommandResult:
        """Its state, and the first and last part of its output. The caller holds ``changed``."""
        entry = self.entry()
        out, err = self._captures[OUT], self._captures[ERR]
        seconds = time.monotonic() - self._began if self._seconds is None else self._seconds
        return operations.CommandResult(
            exit_code=self._exit_code,
            stdout=out.text(),
            stderr=err.text(),
            stdout_bytes=out.total,
            stderr_bytes=err.total,
            duration_ms=round(seconds * 1000),
            timed_out=self._timed_out,
            notes=tuple(self.notes),
            command_id=self.id,
            status=entry.status,
            command=entry.command,
            background=entry.background,
            started_at=entry.started_at,
            ended_at=entry.ended_at,
            cursor=self.output.end,
        )

    # What only its own thread calls.

    def start(self, environment: dict[str, str]) -> None:
        """Start the shell.

        Raises:
            OSError: it cannot be started.
        """
        args = self.args
        environment = {**environment, **killing.marker_environment(self.activity)}
        encoded = args.command.encode("utf-8", "surrogateescape")
        argv = [b"/bin/sh", b"-c", b"--", encoded]
        ours: list[int] = []
        theirs: list[int] = []
        passed: tuple[int, ...] = ()
        try:
            if len(encoded) > INLINE_COMMAND_BYTES:
                passed = (_in_memory(encoded),)
                theirs += passed
                argv = [b"/bin/sh", b"/proc/self/fd/%d" % passed]
            source: int | None = None
            if args.tty:
                from claude_mcp.agent.commands import terminal

                source, stdin, path = terminal.opened(args.columns, args.rows)
                ours.append(source)
                theirs.append(stdin)
                argv = [b"/bin/sh", b"-c", terminal.ON_TERMINAL, path, *argv]
                environment.setdefault("TERM", TERMINAL_TYPE)
                stdout = stderr = stdin
                streams = {source: OUT}
            else:
                out, stdout = _pipe(ours, theirs)
                err, stderr = _pipe(ours, theirs)
                streams = {out: OUT, err: ERR}
                stdin = subprocess.DEVNULL
                if args.input is not None or args.background:
                    stdin, source = _pipe(theirs, ours)
            if source is not None:
                os.set_blocking(source, False)
            self._wake_read, wake_write = _pipe(ours, ours)
            os.set_blocking(wake_write, False)
            self._limits_before = cgroup_events.counts()
            self._began = time.monotonic()
            self._process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=args.workdir or None,
                env=environment,
                start_new_session=True,
                pass_fds=passed,
            )
        except BaseException:
            _close(ours)
            raise
        finally:
            _close(theirs)
        with contextlib.suppress(AttributeError, OSError):  # an old kernel has none
            self._pidfd = os.pidfd_open(self._process.pid)
            ours.append(self._pidfd)
        cgroup_events.prefer_for_oom_kill(self._process.pid)
        with self.changed:
            self.was_started = True
            self._open, self._wake_write = set(ours), wake_write
            self._streams, self._stdin = streams, source
            self._input += (args.input or "").encode("utf-8", "surrogateescape")
        self.args = args._replace(input=None)  # it may be large

    def attend(
        self,
        wait_seconds: float | None,
        is_abandoned: Callable[[], bool],
        end: Callable[[], None],
        release: Callable[[], None],
    ) -> None:
        """Stay with the command until nothing holds its output open any more.

        A command that ends by itself leaves its background children running, as in any shell. A
        command that is stopped takes all of its children with it, and so does one that used up
        the session's processes. ``end`` is called when the shell has ended, ``release`` when the
        caller that started the command need not wait any longer; each once.
        """
        limit = self.args.timeout_seconds
        deadline = None if limit is None else self._began + limit
        answer_at = None if wait_seconds is None else self._began + wait_seconds
        drain_until: float | None = None
        quiet = False
        try:
            while self._streams or self._process.returncode is None:
                now = time.monotonic()
                ended = self._process.returncode is not None
                self._timed_out = not ended and deadline is not None and now >= deadline
                if self._stop or self._timed_out:
                    self._kill()
                    self._settle(operations.STOPPED, end)
                    break
                if ended and self.status == operations.RUNNING:
                    if drain_until is None:
                        deadline, drain_until = None, now + DRAIN_SECONDS
                    elif quiet or now >= drain_until:
                        drain_until = None
                        self._settle(operations.LEFT_RUNNING, end)
                due = answer_at is not None and now >= answer_at
                if self.attended and (due or is_abandoned() or self.status != operations.RUNNING):
                    self.attended = False
                    release()
                moments = (deadline, drain_until, answer_at if self.attended else None)
                quiet = not self._look(min((each for each in moments if each), default=None))
            else:
                self._settle(operations.COMPLETED, end)
        finally:
            with self.changed:
                for stream in self._captures:
                    self.output.write(stream, b"", is_last=True)
                _close(self._open)
                self._open.clear()
                self.is_over = True
                self.changed.notify_all()
        if self.attended:
            self.attended = False
            release()

    def _look(self, until: float | None) -> bool:
        """Wait for something to happen, and deal with it; False if nothing did."""
        stdin, unseen = self._stdin, self._pidfd is None and self._process.returncode is None
        if stdin is not None and self._end_input and not self._input:
            self._drop(stdin)
            stdin = self._stdin = None
        events = {self._wake_read: select.POLLIN, **dict.fromkeys(self._streams, select.POLLIN)}
        if self._pidfd is not None:
            events[self._pidfd] = select.POLLIN
        if stdin is not None:
            events[stdin] = events.get(stdin, 0) | (select.POLLOUT if self._input else 0)
        poll = select.poll()
        for descriptor, mask in events.items():
            poll.register(descriptor, mask)
        pause = LONGEST_POLL_SECONDS if until is None else max(0.0, until - time.monotonic())
        ready = poll.poll(math.ceil(1000 * min(pause, POLL_SECONDS if unseen else pause)))
        if unseen:
            self._process.poll()
        for descriptor, event in ready:
            if descriptor == self._pidfd:
                self._process.wait()
                self._drop(descriptor)
                self._pidfd = None
            elif descriptor == self._wake_read:
                os.read(descriptor, READ_BYTES)
            if descriptor == stdin and event & (select.POLLOUT | select.POLLERR):
                self._feed(stdin)
            if descriptor in self._streams and event & ~select.POLLOUT:
                self._read(descriptor)
        return bool(ready)

    def _read(self, descriptor: int) -> None:
        stream = self._streams[descriptor]
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # nobody has the terminal open any more
            data = b""
        if not data:
            del self._streams[descriptor]
            if descriptor == self._stdin:
                self._stdin = None
            self._drop(descriptor)
            return
        with self.changed:
            self._captures[stream].write(data)
            self.output.write(stream, data)
            self.changed.notify_all()

    def _feed(self, stdin: int) -> None:
        with self.changed:
            try:
                del self._input[: os.write(stdin, self._input[:READ_BYTES])]
            except BlockingIOError:
                return
            except OSError:  # nobody reads it any more
                self._input.clear()
                self._end_input = stdin not in self._streams

    def _drop(self, descriptor: int) -> None:
        with self.changed:
            self._open.discard(descriptor)
            os.close(descriptor)

    def _kill(self) -> None:
        """Kill the command and all it started, and read what they still said."""
        # The shell may have replaced itself, and its environment with it.
        root = self._process.pid if self._process.returncode is None else 0
        exhausted = cgroup_events.pids_exhausted(self._limits_before)
        killing.kill(self.activity, TERM_GRACE_SECONDS, root=root, fork_bomb=exhausted)
        self._process.wait()
        for _ in range(LAST_READS):
            if not self._streams or not self._look(0.0):
                break

    def _settle(self, status: str, end: Callable[[], None]) -> None:
        """The shell has ended, or nothing holds the output open any more."""
        if self.status == operations.RUNNING:
            self._process.wait()
            self.notes += cgroup_events.notes(self._limits_before)
            if status != operations.STOPPED and cgroup_events.cannot_fork(self._limits_before):
                # Its background children would keep the session from running anything at all.
                killing.kill(self.activity, 0, fork_bomb=True)
                self.notes.append(FREED)
            self._seconds = time.monotonic() - self._began
            if status == operations.STOPPED:
                why = "time limit" if self._timed_out else "stopped"
                self.killed = f"{why}, after {round(self._seconds * 1000)} ms"
            end()
        with self.changed:
            code = killing.exit_code(self._process.returncode)
            self._exit_code = TIMEOUT_EXIT_CODE if self._timed_out else code
            self.status = status
            self.changed.notify_all()
