"""How a copy reports its progress while it runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
import anyio.to_thread

from claude_mcp.engine.engine import Engine
from claude_mcp.errors import ungrouped
from claude_mcp.sessions.files.archive import Selection, Tally
from claude_mcp.sessions.progress import Amount, Progress, no_progress

PROGRESS_SECONDS: Final = 1.0
STILL_REPORTS: Final = 6
"""After so many reports without a difference, the engine is asked whether it is still there."""


@asynccontextmanager
async def reported(
    tally: Tally,
    progress: Progress,
    engine: Engine,
    doing: str,
    measure: Callable[[], int | None] = lambda: None,
) -> AsyncIterator[None]:
    """Report the progress of a copy every second while the block runs.

    ``measure`` blocks and returns how many bytes there are; it runs in a thread meanwhile. A copy
    that stands still is given up if the engine does not answer either.
    """
    totals: list[int | None] = []

    async def measured() -> None:
        totals.append(await anyio.to_thread.run_sync(measure, abandon_on_cancel=True))

    async def report() -> None:
        copied, still = (0, 0), 0
        while True:
            await anyio.sleep(PROGRESS_SECONDS)
            total = totals[0] if totals else None
            await progress(doing, Amount(tally.size, total and max(total, tally.size)))
            before, copied = copied, (tally.files, tally.size)
            still = still + 1 if copied == before else 0
            if still == STILL_REPORTS:
                still = 0
                await engine.check()

    with ungrouped():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(report)
            if progress is not no_progress:
                tasks.start_soon(measured)
            yield
            tasks.cancel_scope.cancel()


def size_of(selections: Sequence[Selection]) -> int | None:
    """How many bytes the files have that were selected; None if that cannot be told."""
    try:
        return sum(
            size for _, root, paths in selections for path in paths for size in _sizes(root, path)
        )
    except OSError:  # the copy itself tells what cannot be read
        return None


def _sizes(root: str, path: str) -> Iterator[int]:
    whole = os.path.join(root, path) if path else root
    if not os.path.isdir(whole) or os.path.islink(whole.rstrip("/")):
        yield os.lstat(whole).st_size
        return
    pending = [whole]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.stat(follow_symlinks=False).st_size
