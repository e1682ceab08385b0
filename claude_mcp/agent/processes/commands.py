"""Runs one shell command: its streams are separate and bounded, and it is killed as a whole."""

from __future__ import annotations

import os
import selectors
import subprocess
import threading
import time

from claude_mcp.agent.processes import cgroup_events, killing
from claude_mcp.contract.capture import BoundedCapture
from claude_mcp.contract.operations import CommandResult

READ_BYTES = 256 * 1024
INLINE_COMMAND_BYTES = 100_000
"""The kernel accepts no argument over 128 KiB; a longer command is passed as a file in memory,
which needs no directory and no disk."""
TERM_GRACE_SECONDS = 1.0
DRAIN_SECONDS = 0.2
"""How long output is read after the shell has ended while its children hold the pipe open."""
TIMEOUT_EXIT_CODE = 124
"""The same as that of timeout(1)."""


def exit_code(returncode: int) -> int:
    """The exit code as a shell reports it: 128 + n for signal n."""
    return 128 - returncode if returncode < 0 else returncode


def _in_memory(script: bytes) -> int:
    """The descriptor of a file that exists only in memory."""
    descriptor = os.memfd_create("command")
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(script)
    return descriptor


class Command:
    """One running command. ``cancel`` may be called from any thread."""

    def __init__(
        self,
        activity: str,
        command: str,
        workdir: str | None,
        environment: dict[str, str],
        limit_bytes: int,
    ) -> None:
        self._activity = activity
        self._limit_bytes = limit_bytes
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._closed = False
        self._wake_read, self._wake_write = os.pipe()
        encoded = command.encode("utf-8", "surrogateescape")
        script = _in_memory(encoded) if len(encoded) > INLINE_COMMAND_BYTES else None
        if script is None:
            argv = [b"/bin/sh", b"-c", b"--", encoded]
        else:
            argv = [b"/bin/sh", f"/proc/self/fd/{script}".encode()]
        self._started = time.monotonic()
        self._limits_before = cgroup_events.counts()
        self._process: subprocess.Popen[bytes] | None = None
        self._launched = threading.Event()
        self._waiter = threading.Thread(target=self._wait_process, daemon=True)
        try:
            # Before the command, which may use up the session's processes.
            self._waiter.start()
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=workdir,
                env={**environment, **killing.marker_environment(activity)},
                start_new_session=True,
                pass_fds=() if script is None else (script,),
            )
        except BaseException:
            self._launched.set()
            self._close()
            raise
        finally:
            if script is not None:
                os.close(script)
        self._launched.set()
        cgroup_events.prefer_for_oom_kill(self._process.pid)

    def cancel(self) -> None:
        self._cancelled.set()
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            if not self._closed:
                os.write(self._wake_write, b"x")

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self._wake_read)
            os.close(self._wake_write)

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def wait(self, timeout_seconds: float | None) -> CommandResult:
        """Wait for the end, the time limit or a cancellation; call it once.

        A command that ends by itself leaves its background children running, as in any shell. A
        command that is stopped takes all of its children with it, and so does one that used up
        the session's processes.
        """
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = BoundedCapture(self._limit_bytes), BoundedCapture(self._limit_bytes)
        captures = {process.stdout.fileno(): out, process.stderr.fileno(): err}
        timed_out = self._read_output(process, captures, timeout_seconds)
        notes = self._clean_up(process, stopped=timed_out or self.cancelled)
        process.stdout.close()
        process.stderr.close()
        self._close()
        return CommandResult(
            exit_code=TIMEOUT_EXIT_CODE if timed_out else exit_code(process.returncode),
            stdout=out.text(),
            stderr=err.text(),
            stdout_bytes=out.total,
            stderr_bytes=err.total,
            duration_ms=round((time.monotonic() - self._started) * 1000),
            timed_out=timed_out,
            notes=tuple(notes),
        )

    def _read_output(
        self,
        process: subprocess.Popen[bytes],
        captures: dict[int, BoundedCapture],
        timeout_seconds: float | None,
    ) -> bool:
        """Fill ``captures``, keyed by descriptor, until the command has ended or must be stopped;
        returns whether the time limit was reached."""
        deadline = None if timeout_seconds is None else self._started + timeout_seconds
        drain_until: float | None = None
        with selectors.PollSelector() as selector:  # unlike epoll, it needs no descriptor
            for descriptor in (*captures, self._wake_read):
                selector.register(descriptor, selectors.EVENT_READ)
            open_streams = set(captures)
            while open_streams or process.returncode is None:
                limits = [moment for moment in (deadline, drain_until) if moment is not None]
                pause = max(0.0, min(limits) - time.monotonic()) if limits else None
                ready = selector.select(pause)
                now = time.monotonic()
                for key, _ in ready:
                    data = os.read(key.fd, READ_BYTES)
                    if key.fd == self._wake_read:
                        continue
                    if data:
                        captures[key.fd].write(data)
                    else:
                        selector.unregister(key.fd)
                        open_streams.discard(key.fd)
                if self.cancelled:
                    return False
                if process.returncode is not None and drain_until is None:
                    deadline, drain_until = None, now + DRAIN_SECONDS
                elif drain_until is not None and (not ready or now >= drain_until):
                    return False
                elif deadline is not None and now >= deadline:
                    return True
        return False

    def _clean_up(self, process: subprocess.Popen[bytes], stopped: bool) -> list[str]:
        """Kill what must not go on, and reap the command; returns notes about limits."""
        if stopped:
            # The shell may have replaced itself, and its environment with it.
            root = process.pid if process.returncode is None else 0
            exhausted = cgroup_events.pids_exhausted(self._limits_before)
            killing.kill(self._activity, TERM_GRACE_SECONDS, root=root, fork_bomb=exhausted)
        self._waiter.join()
        notes = cgroup_events.notes(self._limits_before)
        if not stopped and cgroup_events.cannot_fork(self._limits_before):
            # Its background children would keep the session from running anything at all.
            killing.kill(self._activity, 0, fork_bomb=True)
            notes.append("The command's background processes were killed to free processes.")
        return notes

    def _wait_process(self) -> None:
        self._launched.wait()
        if self._process is not None:
            self._process.wait()
            self._wake()
