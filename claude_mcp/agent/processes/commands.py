"""Runs one shell command: streams apart, bounded at the source, killed whole."""

from __future__ import annotations

import os
import selectors
import subprocess
import threading
import time
from typing import Any

from claude_mcp.agent.processes import cgroup_events
from claude_mcp.agent.processes import killing as processes
from claude_mcp.contract.capture import BoundedCapture

READ_BYTES = 256 * 1024
INLINE_COMMAND_BYTES = 100_000
"""The kernel takes no single argument over 128 KiB; longer commands go through a file."""
TERM_GRACE_SECONDS = 1.0
DRAIN_SECONDS = 0.2
"""How long output is still read after the shell ended while its children hold the pipe."""
TIMEOUT_EXIT_CODE = 124
"""As timeout(1) has it."""


def exit_code(returncode: int) -> int:
    """As a shell reports it: 128 + n for signal n."""
    return 128 - returncode if returncode < 0 else returncode


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
        self._script: str | None = None
        encoded = command.encode("utf-8", "surrogateescape")
        if len(encoded) > INLINE_COMMAND_BYTES:
            import tempfile  # takes long, and a first command would wait for it

            handle, self._script = tempfile.mkstemp(prefix="command-", suffix=".sh")
            with os.fdopen(handle, "wb") as file:
                file.write(encoded)
            argv = [b"/bin/sh", os.fsencode(self._script)]
        else:
            argv = [b"/bin/sh", b"-c", b"--", encoded]
        self._started = time.monotonic()
        self._exhausted = cgroup_events.counts()
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = threading.Event()
        self._waiter = threading.Thread(target=self._wait_process, daemon=True)
        try:
            # Before the command: it may leave no room for another thread.
            self._waiter.start()
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=workdir,
                env={**environment, **processes.marker_environment(activity)},
                start_new_session=True,
            )
        except BaseException:
            self._begun.set()
            self._close()
            raise
        self._begun.set()
        cgroup_events.be_chosen_first(self._process.pid)

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
        if self._script is not None:
            os.unlink(self._script)

    def wait(self, timeout_seconds: float | None) -> dict[str, Any]:
        """Run to the end, the time limit or the cancellation; call once.

        A command that ends by itself leaves its background children running, as in any
        shell; one that is stopped takes all of them with it, and so does one that used up the
        session's processes.
        """
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        captures = {
            process.stdout.fileno(): BoundedCapture(self._limit_bytes),
            process.stderr.fileno(): BoundedCapture(self._limit_bytes),
        }
        out, err = captures.values()
        deadline = None if timeout_seconds is None else self._started + timeout_seconds
        drain_until: float | None = None
        timed_out = False
        with selectors.DefaultSelector() as selector:
            for descriptor in captures:
                selector.register(descriptor, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            open_streams = set(captures)
            while open_streams or process.returncode is None:
                limits = [moment for moment in (deadline, drain_until) if moment is not None]
                pause = max(0.0, min(limits) - time.monotonic()) if limits else None
                ready = selector.select(pause)
                now = time.monotonic()
                for key, _ in ready:
                    if key.fd == self._wake_read:
                        os.read(self._wake_read, READ_BYTES)
                        continue
                    data = os.read(key.fd, READ_BYTES)
                    if data:
                        captures[key.fd].write(data)
                    else:
                        selector.unregister(key.fd)
                        open_streams.discard(key.fd)
                if self._cancelled.is_set():
                    break
                if process.returncode is not None:
                    if drain_until is None:
                        drain_until = now + DRAIN_SECONDS
                        deadline = None
                    elif not ready or now >= drain_until:
                        break
                elif deadline is not None and now >= deadline:
                    timed_out = True
                    break
        stopped = timed_out or self._cancelled.is_set()
        if stopped:
            # The shell may have replaced itself, and its environment with it.
            root = process.pid if process.returncode is None else 0
            bomb = cgroup_events.grown(self._exhausted)
            processes.kill(self._activity, TERM_GRACE_SECONDS, root=root, bomb=bomb)
        self._waiter.join()
        notes = cgroup_events.notes(self._exhausted)
        if not stopped and cgroup_events.no_room(self._exhausted):
            # What it left behind would keep the session from running anything at all.
            processes.kill(self._activity, 0, bomb=True)
            notes.append("What the command had left running was killed, to make room again.")
        process.stdout.close()
        process.stderr.close()
        self._close()
        return {
            "exitCode": TIMEOUT_EXIT_CODE if timed_out else exit_code(process.returncode),
            "stdout": out.text(),
            "stderr": err.text(),
            "stdoutBytes": out.total,
            "stderrBytes": err.total,
            "durationMs": round((time.monotonic() - self._started) * 1000),
            "timedOut": timed_out,
            "cancelled": self._cancelled.is_set(),
            "notes": notes,
        }

    def _wait_process(self) -> None:
        self._begun.wait()
        if self._process is not None:
            self._process.wait()
            self._wake()
