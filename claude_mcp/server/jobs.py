"""Calls that this process goes on with after it has answered them with a task.

They end with the process. Their results are kept for a while after their end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import TaskGroup
from mcp.types import CallToolResult

from claude_mcp.sessions.progress import Amount
from claude_mcp.views.figures import reported

KEPT_SECONDS: Final = 3600.0
"""How long the result of an ended job is kept."""
MAX_KEPT: Final = 100
"""How many ended jobs are kept."""


@dataclass
class Job:
    """One call. ``result`` is None until it has ended, and after it was cancelled."""

    progress: str
    """What it is doing, for a person."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)
    ended_at: float | None = None
    """On the event loop's clock."""
    result: CallToolResult | None = None

    async def report(self, message: str, amount: Amount | None = None, /) -> None:
        """A ``Progress``: remembers the latest report."""
        self.progress = reported(message, amount)


class Jobs:
    def __init__(self) -> None:
        self._tasks: TaskGroup | None = None
        self._jobs: dict[str, Job] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Jobs run inside this; what still runs at its end is cancelled."""
        async with anyio.create_task_group() as self._tasks:
            yield
            self._tasks.cancel_scope.cancel()

    def get(self, identifier: str) -> Job | None:
        self._forget_old()
        return self._jobs.get(identifier)

    def begin(
        self, identifier: str, progress: str, work: Callable[[Job], Awaitable[CallToolResult]]
    ) -> Job:
        """Start ``work``, which raises nothing but a cancellation."""
        assert self._tasks is not None
        self._forget_old()
        job = self._jobs[identifier] = Job(progress)
        self._tasks.start_soon(self._run, job, work)
        return job

    def forget(self, identifier: str) -> None:
        self._jobs.pop(identifier, None)

    async def _run(self, job: Job, work: Callable[[Job], Awaitable[CallToolResult]]) -> None:
        try:
            with job.scope:
                job.result = await work(job)
        finally:
            job.ended_at = anyio.current_time()
            job.ended.set()

    def _forget_old(self) -> None:
        now = anyio.current_time()
        ended = [
            (job.ended_at, identifier)
            for identifier, job in self._jobs.items()
            if job.ended_at is not None
        ]
        over = [each for at, each in ended if at < now - KEPT_SECONDS]
        oldest = [each for _, each in sorted(ended)[: max(0, len(ended) - MAX_KEPT)]]
        for identifier in {*over, *oldest}:
            del self._jobs[identifier]
