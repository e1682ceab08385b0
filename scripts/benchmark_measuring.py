"""What the rows of scripts/benchmark share: samples taken in turns, an engine, a session.

The rule: both sides do the same to the same kind of container and alternate within one run, so
that whatever else happens on the machine hits both.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from claude_mcp.config import Config
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import container_name

# Notes each call's arguments: NUL behind each one, and a second NUL behind the call.
SHIM: Final = """\
#!/bin/sh
{ printf '%s\\0' "$@"; printf '\\0'; } >>'@LOG@'
exec '@PROGRAM@' "$@"
"""

Samples = dict[str, list[float]]
"""Seconds, by what took them."""
Side = Callable[[Samples], Awaitable[None]]
"""Does its thing once and adds how long each part of it took."""


class BenchmarkError(Exception):
    """Something went wrong that is no matter of speed."""


@dataclass(frozen=True, slots=True)
class Row:
    """Samples in seconds, in the order taken; ``limit`` is the ratio of medians to reach."""

    what: str
    by_hand: str
    bare: Sequence[float]
    ours: Sequence[float]
    limit: float | None = None
    unmet: str = ""
    """What else had to hold, and does not."""

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.bare)

    @property
    def best_ratio(self) -> float:
        """Of the fastest samples: what a busy machine disturbs least."""
        return min(self.ours) / min(self.bare)

    @property
    def reached(self) -> bool | None:
        if self.unmet:
            return False
        return None if self.limit is None else self.ratio <= self.limit


@dataclass(frozen=True, slots=True)
class Calls:
    """The engine calls of one operation, by their verbs; ``limit`` is their number to reach."""

    what: str
    verbs: tuple[str, ...]
    limit: int | None = None

    @property
    def reached(self) -> bool | None:
        return None if self.limit is None else len(self.verbs) <= self.limit


@dataclass(frozen=True, slots=True)
class Difference:
    """As ``Row``; ``limit`` is what the medians may differ by, in seconds."""

    what: str
    by_hand: str
    bare: Sequence[float]
    ours: Sequence[float]
    limit: float | None

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.bare)

    @property
    def more(self) -> float:
        return statistics.median(self.ours) - statistics.median(self.bare)

    @property
    def reached(self) -> bool | None:
        return None if self.limit is None else self.more <= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One value of which there is no bare counterpart; ``limit`` is what it may be at most."""

    what: str
    value: float
    unit: str
    limit: float

    @property
    def reached(self) -> bool:
        return self.value <= self.limit


Rows = list[Row | Difference | Figure | Calls]


@contextmanager
def timed(samples: Samples, what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    samples.setdefault(what, []).append(time.perf_counter() - started)


async def alternate(
    repetitions: int, bare: Side, ours: Side, *, warm_up: bool = True
) -> tuple[Samples, Samples]:
    """Samples of both; a round that warms up does not count."""
    bare_samples: Samples = {}
    our_samples: Samples = {}
    if warm_up:
        await bare({})
        await ours({})
    for number in range(repetitions):
        sides = [(bare, bare_samples), (ours, our_samples)]
        # What one side leaves to the other (caches, write-back) hits both in turn.
        for side, samples in sides if number % 2 == 0 else reversed(sides):
            await side(samples)
    return bare_samples, our_samples


class Bench:
    """An engine, our sessions on it, one session to work in, and a directory for what it takes."""

    def __init__(
        self,
        sessions: Sessions,
        engine: DockerCliEngine,
        directory: Path,
        prefix: str,
        repetitions: int | None,
    ) -> None:
        self.sessions = sessions
        self.engine = engine
        self.directory = directory
        self.session = f"{prefix}-main"
        self._prefix = prefix
        self._repetitions = repetitions
        self._project = directory / "project"
        self._project.mkdir()
        self._names = 0
        self._log = directory / "engine-calls"
        self._shim = directory / "engine"
        self._create_flags: list[str] = []
        self.container = ""
        program = shutil.which(engine.program, path=engine.environment.get("PATH"))
        assert program is not None
        self.program = program
        """The engine's program as a path."""

    @property
    def config(self) -> Config:
        return self.sessions.config

    def repetitions(self, usual: int) -> int:
        return self._repetitions or usual

    def fresh_name(self) -> str:
        self._names += 1
        return f"{self._prefix}-{self._names}"

    def request(self, name: str) -> CreateRequest:
        return CreateRequest(project_path=str(self._project), session_name=name)

    async def prepare(self) -> None:
        """Create the session, and learn from the calls which flags its container has."""
        self._shim.write_text(
            SHIM.replace("@LOG@", str(self._log)).replace("@PROGRAM@", self.program)
        )
        self._shim.chmod(0o755)
        async with self.watched() as watched:
            created = await create(watched, self.request(self.session))
        self.container = created.session.container_id
        call = next(call for call in self.calls_made() if call[0] == "create")
        self._create_flags = call[: call.index(created.session.image) + 1]

    def watched(self) -> AbstractAsyncContextManager[Sessions]:
        """Sessions whose engine calls ``calls_made`` tells; each takes a process more."""
        return open_sessions(replace(self.config, engine=str(self._shim)))

    def calls_made(self) -> list[list[str]]:
        """The arguments of each watched engine call since this was last asked."""
        calls = self._log.read_text().split("\0\0")[:-1] if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return [call.split("\0") for call in calls]

    def bare(
        self, *arguments: str, environment: dict[str, str] | None = None, must_work: bool = True
    ) -> str:
        """Run the engine's program to its end; returns what it printed."""
        completed = subprocess.run(
            [self.engine.program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**self.engine.environment, **(environment or {})},
            start_new_session=True,  # a Ctrl-C must not leave it half done
        )
        if must_work and completed.returncode != 0:
            words = " ".join(arguments)[:60]
            raise BenchmarkError(f"'{self.engine.program} {words}': {completed.stderr.strip()}")
        return completed.stdout

    def bare_create(self, name: str) -> None:
        """`create` and `start` with the flags of our sessions; the command does nothing."""
        flags = [flag.replace(self.session, name) for flag in self._create_flags]
        code = payload.variables(payload.archive())
        self.bare(*flags, "sleep", "1000", environment=code)
        self.bare("start", container_name(name))

    def remove_inside(self, path: str) -> None:
        """Remove a path in the session's container, whoever owns it."""
        # Root has no capabilities there: it cannot remove what is the session's user's, who
        # cannot remove what is root's.
        as_root = ("exec", "--user=0", self.container, "sh", "-c", 'rm -rf "$0" 2>/dev/null; true')
        self.bare(*as_root, path)
        self.bare("exec", self.container, "rm", "-rf", path)

    def remove_all(self) -> None:
        """Remove every container of this run, also those of a row that did not end well."""
        found = self.bare("ps", "--all", "--quiet", f"--filter=name=claude-mcp-{self._prefix}")
        if ids := found.split():
            self.bare("rm", "--force", "--volumes", *ids)
