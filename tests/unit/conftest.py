"""What several unit tests need to watch real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from claude_mcp.contract.redaction import redactor

# How long an example takes, and making it up, the machine decides.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

PATIENCE_SECONDS = 60.0
"""After this a test fails instead of hanging."""


def open_files() -> set[str]:
    """What this process has open, each by its number and what it is.

    To be compared with ``<=``: something older may be closed at any time.
    """
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
    return found


class Lifeline:
    """A FIFO that processes under test hold open: its end says that all of them are gone.

    In a shell, ``hold`` opens it; from then on every child of that shell holds it too, also one
    that left the group, lost its parent or cleared its environment.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.hold = f"exec 9>'{path}'"
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._buffer = b""

    def _read(self) -> bytes:
        """The next bytes; empty when nobody holds it, also when nobody ever did."""
        while True:
            with contextlib.suppress(BlockingIOError):
                return os.read(self._reader, 4096)
            ready, _, _ = select.select([self._reader], [], [], PATIENCE_SECONDS)
            assert ready, "nothing was said, and somebody still holds the lifeline"

    def line(self) -> str:
        """Wait for the next line that is written to it."""
        while b"\n" not in self._buffer:
            # At first there may be nobody to wait for but one who is about to come.
            ready, _, _ = select.select([self._reader], [], [], PATIENCE_SECONDS)
            assert ready, "nothing was said"
            self._buffer += self._read()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def end(self) -> str:
        """Wait until nobody holds it any more; returns what was not read yet."""
        while data := self._read():
            self._buffer += data
        return self._buffer.decode()

    @property
    def held(self) -> bool:
        try:
            while data := os.read(self._reader, 4096):
                self._buffer += data
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        os.close(self._reader)


@pytest.fixture
def lifeline(tmp_path: Path) -> Iterator[Lifeline]:
    line = Lifeline(tmp_path / "lifeline")
    yield line
    line.close()


LIMITS = (
    "engine.detection.DETECT_TIMEOUT_SECONDS",
    "engine.docker_cli.DESCRIBE_SECONDS",
    "engine.kubernetes.watch.LOOK_SECONDS",
    "engine.process.PIPE_GRACE_SECONDS",
    "engine.pulse.QUIET_SECONDS",
    "sessions.activity.ANSWER_SECONDS",
    "sessions.activity.TOTAL_SECONDS",
    "sessions.channel.silence.BRIEF_SECONDS",
    "sessions.channel.channel.GREETING_SECONDS",
    "sessions.channel.channel.QUIET_SECONDS",
    "sessions.channel.channels.PING_SECONDS",
    "sessions.fleet.CONNECT_SECONDS",
    "sessions.git.guard.COMPARE_SECONDS",
    "sessions.git.guard.WALK_SECONDS",
    "sessions.git.program.CONFIGURED_SECONDS",
    "sessions.glance.PATIENCE_SECONDS",
    "sessions.mounted.LOOK_SECONDS",
)
"""After these times, a session or a program that is slow is asked again, killed or done without."""


@pytest.fixture
def patient() -> Iterator[None]:
    """Have a fake engine waited for, however long a busy machine keeps it from answering.

    A test that is about one of the limits sets it itself.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in LIMITS:
            patch.setattr(f"claude_mcp.{name}", PATIENCE_SECONDS)
        yield


@pytest.fixture
def forward(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Puts the event loop's clock forward: a time limit is over when a test wants it to be."""

    def put(seconds: float) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time
        monkeypatch.setattr(loop, "time", lambda: before() + seconds)

    return put


@pytest.fixture(autouse=True)
def secrets_of_this_test() -> Iterator[None]:
    """The redactor belongs to the process: a secret of one test must not redact another's text."""
    known = dict(vars(redactor))
    yield
    vars(redactor).update(known)
