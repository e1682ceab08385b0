"""One live Claude Code: a process that accepts any number of prompts, one after the other.

The agent is the only writer to its stdin and writes whole lines, because a fragment would end it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import math
import os
import queue
import select
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any, Callable

from claude_mcp.agent.channel import threads
from claude_mcp.agent.processes import cgroup_events, killing
from claude_mcp.agent.store import files
from claude_mcp.agent.store.state import log
from claude_mcp.agent.turns.stderr import Stderr
from claude_mcp.claude import protocol, providers
from claude_mcp.contract import places
from claude_mcp.contract.framing import LineTooLong, Splitter

READ_BYTES = 256 * 1024
MAX_REMAINING_BYTES = 1024 * 1024
"""The largest pipe that an ordinary user may have (Linux's default for pipe-max-size)."""
MAX_FRAME_BYTES = 64 * 1024 * 1024
EOF_SECONDS = 0.5
"""How long it may take to end after its input; a background command delays that."""
TERM_SECONDS = 2.0
REAP_GRACE_SECONDS = 0.2
LAST_SECONDS = 0.5
"""How long its last output may take to arrive after it has ended."""
SECRETS_DIRECTORY = places.RUN_DIRECTORY

OnFrame = Callable[["Live", protocol.Frame], None]
OnEnd = Callable[["Live"], None]


class Live:
    """Calls ``on_frame`` for each frame and then ``on_end`` once, on a thread of its own."""

    def __init__(
        self,
        argv: tuple[str, ...],
        environment: dict[str, str],
        credentials: providers.Credentials,
        on_frame: OnFrame,
        on_end: OnEnd,
    ) -> None:
        self.activity = f"claude-{os.getpid()}-{time.monotonic_ns()}"
        environment = {**environment, **killing.marker_environment(self.activity)}
        self._process = _start(argv, environment, credentials)
        self._on_frame = on_frame
        self._on_end = on_end
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._awaited: dict[str, queue.SimpleQueue[protocol.ControlResponse | None]] = {}
        self._posting = threading.Lock()
        self._posted_bytes = 0
        self._read_bytes: float = math.inf
        """How many of the posted bytes it has read; known only after it has ended."""
        self._exited = threading.Event()
        self._cleared = threading.Event()
        """Set when what it left running has been killed."""
        self.ready = threading.Event()
        """Set when it has answered our first request or has ended."""
        self.ended = threading.Event()
        self.code: int | None = None
        self.stopping: str | None = None
        """Why we end it, if we do."""
        self.killed = False
        self.reports_lifecycle = False
        self.answering = ""
        """The id of the prompt that it works on, if it reports that."""
        self.replayed = ""
        self.background: set[str] = set()
        self.tools: set[str] = set()
        """The ids of the tool calls that have no result yet."""
        self._moved = time.monotonic()
        """When a line was last written by either side."""
        self.reported_usd = 0.0
        cgroup_events.prefer_for_oom_kill(self._process.pid)
        assert self._process.stderr is not None
        assert self._process.stdout is not None
        self._stderr = Stderr(self._process.stderr)
        exited, exiting = os.pipe()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._drainer = threading.Thread(target=self._stderr.drain, daemon=True)
        try:
            self._writer.start()
            self._drainer.start()
            threading.Thread(target=self._reap, args=(exiting,), daemon=True).start()
            threading.Thread(target=self._follow, args=(exited,), daemon=True).start()
        except RuntimeError as error:  # the session's process limit is reached
            self._outbox.put(None)
            killing.kill(self.activity, 0, root=self.pid)
            self._process.stdout.close()
            os.close(exited)
            raise OSError(errno.EAGAIN, str(error)) from error
        self._request({"subtype": "initialize"})

    @property
    def pid(self) -> int:
        return self._process.pid

    def _follow(self, exited: int) -> None:
        assert self._process.stdout is not None
        for line in _lines(self._process.stdout, exited):
            self._moved = time.monotonic()
            frame = protocol.parse_line(line)
            if isinstance(frame, protocol.ControlResponse):
                self.ready.set()
                self._pass_on(frame)
            elif isinstance(frame, protocol.ApiRetry):
                frame = replace(frame, words=self._stderr.words_about(frame.attempt))
            if frame is None:
                continue
            try:
                self._on_frame(self, frame)
            except Exception as error:  # whatever it is, the next frame may be the result
                log(f"could not process a frame: {type(error).__name__}: {error}")
        os.close(exited)
        self._exited.wait(LAST_SECONDS)
        self._outbox.put(None)
        self._writer.join(LAST_SECONDS)
        self._drainer.join(LAST_SECONDS)
        self.code = killing.exit_code(self._process.wait())
        self._cleared.wait()
        self._log_end()
        self._on_end(self)
        self.ended.set()
        self.ready.set()
        for waiting in list(self._awaited.values()):
            waiting.put(None)

    def _reap(self, exiting: int) -> None:
        """Kill what Claude Code leaves running; do not wait for others that hold its stdout."""
        self._process.wait()
        self._exited.set()
        try:
            killing.kill(self.activity, REAP_GRACE_SECONDS)
        finally:
            self._cleared.set()
            os.close(exiting)

    def _log_end(self) -> None:
        why = f" ({self.stopping})" if self.stopping else " unexpectedly"
        said = f": {self.last_words}" if self.last_words and not self.stopping else ""
        log(f"Claude Code {self.pid} ended{why}, exit code {self.code}{said}")

    @property
    def last_words(self) -> str:
        """The end of its stderr, without its debug log."""
        return self._stderr.last_words

    def post(self, line: bytes) -> int:
        """Queue a whole line, in the order of the calls.

        It does not wait until the line is written, because stdin may be full of a prompt that
        Claude Code does not read. Returns where the line ends, for ``may_have_read``.
        """
        with self._posting:
            self._posted_bytes += len(line)
            self._moved = time.monotonic()
            self._outbox.put(line)
            return self._posted_bytes

    def may_have_read(self, end: float) -> bool:
        """Whether it may have read the whole line that ends there; call this after it has ended."""
        return self._read_bytes >= end

    @property
    def quiet_seconds(self) -> float:
        """How long it has written nothing, since our last line if that was later."""
        return time.monotonic() - self._moved

    @property
    def has_unread_input(self) -> bool:
        assert self._process.stdin is not None
        try:
            return _pending_bytes(self._process.stdin) > 0
        except (OSError, ValueError):  # it is closed
            return False

    def _write(self) -> None:
        assert self._process.stdin is not None
        written = 0
        with self._process.stdin as pipe:
            try:
                while (line := self._outbox.get()) is not None:
                    left = memoryview(line)
                    while left:
                        count = os.write(pipe.fileno(), left)
                        written += count
                        left = left[count:]
            except OSError:  # it has closed its stdin; ``on_end`` reports it
                self._exited.wait(LAST_SECONDS)
            if self._exited.is_set():
                self._read_bytes = written - _pending_bytes(pipe)

    def _request(self, request: dict[str, Any]) -> None:
        self.post(protocol.control_request_line(self._request_id(), request))

    def _request_id(self) -> str:
        return f"agent-{next(self._numbers)}"

    def ask(self, request: dict[str, Any], seconds: float) -> protocol.ControlResponse | None:
        """The answer to a control request; None if it has ended or takes too long."""
        request_id = self._request_id()
        waiting = self._awaited[request_id] = queue.SimpleQueue()
        try:
            if self.ended.is_set():
                return None
            self.post(protocol.control_request_line(request_id, request))
            return waiting.get(timeout=seconds)
        except queue.Empty:
            return None
        finally:
            del self._awaited[request_id]

    def _pass_on(self, answer: protocol.ControlResponse) -> None:
        waiting = self._awaited.get(answer.request_id)
        if waiting is not None:
            waiting.put(answer)

    def interrupt(self) -> None:
        self._request({"subtype": "interrupt"})

    def set_permission_mode(self, mode: str) -> None:
        self._request({"subtype": "set_permission_mode", "mode": mode})

    def stop_task(self, task_id: str) -> None:
        """End a background command in a way that makes Claude start no turn about it."""
        self._request({"subtype": "stop_task", "task_id": task_id})

    def refuse(self, request_id: str) -> None:
        self.post(protocol.control_error_line(request_id, "not supported here"))

    def end(self, why: str) -> None:
        """Let it end by itself, which saves its cost, or else kill it, with all that it started."""
        self.stopping = self.stopping or why
        self._outbox.put(None)
        if not self.ended.wait(EOF_SECONDS):
            self._process.terminate()
            if not self.ended.wait(TERM_SECONDS):
                self.kill(why)
                self.ended.wait()

    def kill(self, why: str) -> None:
        self.stopping = self.stopping or why
        self.killed = True
        self._process.kill()
        killing.kill(self.activity, 0.0)


def _lines(stdout: IO[bytes], exited: int) -> Iterator[bytes]:
    """The lines up to MAX_FRAME_BYTES; longer ones are skipped.

    They end with the file. When the other end of ``exited`` is closed, at most the content of a
    full pipe is still read, because other processes that hold the pipe may go on writing.
    """
    descriptor = stdout.fileno()
    remaining = MAX_REMAINING_BYTES
    lines = Splitter(MAX_FRAME_BYTES)
    poll = select.poll()
    for each in (descriptor, exited):
        poll.register(each, select.POLLIN)
    with stdout:
        while True:
            ready = {each for each, _ in poll.poll()}
            data = os.read(descriptor, READ_BYTES) if descriptor in ready else b""
            if exited in ready:
                remaining -= len(data)
            if not data or remaining < 0:
                return
            try:
                yield from lines.feed(data)
            except LineTooLong:
                log(f"skipped a frame of more than {MAX_FRAME_BYTES} bytes")


def _pending_bytes(pipe: IO[bytes]) -> int:
    """The number of unread bytes in a pipe, even if it has no reader any more."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def _feed(pipe: int, secret: bytes) -> None:
    """Write a secret and close the pipe; a thread goes on with what does not fit into it.

    A pipe takes 64 KiB, and much less when the user has many.
    """
    os.set_blocking(pipe, False)
    left = secret[os.write(pipe, secret) :] if secret else b""
    os.set_blocking(pipe, True)
    file = os.fdopen(pipe, "wb")

    def finish() -> None:
        with contextlib.suppress(OSError), file:  # it has ended without reading everything
            file.write(left)

    if not left:
        file.close()
    elif not threads.start(finish):
        file.close()
        raise OSError(errno.EAGAIN, "the session's process limit is reached")


def write_files(credentials: providers.Credentials) -> None:
    """Write the secrets that Claude Code reads from files."""
    for file in credentials.files:
        files.replace(os.path.join(SECRETS_DIRECTORY, file.name), file.text.encode())


def _start(
    argv: tuple[str, ...], environment: dict[str, str], credentials: providers.Credentials
) -> subprocess.Popen[bytes]:
    """Start Claude Code with its secrets in files and in pipes that end after the secret."""
    descriptors = []
    try:
        for variable, secret in credentials.descriptors.items():
            reading, writing = os.pipe()
            descriptors.append(reading)
            environment[variable] = str(reading)
            _feed(writing, secret.encode())
        if credentials.files:
            directory = os.open(SECRETS_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
            descriptors.append(directory)
            write_files(credentials)
            for file in credentials.files:
                if file.variable is not None:
                    environment[file.variable] = f"/proc/self/fd/{directory}/{file.name}"
        environment.update(credentials.environment)
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=descriptors,
            start_new_session=True,
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
