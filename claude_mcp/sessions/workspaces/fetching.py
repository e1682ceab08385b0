"""Copies one file that a session made for us into a directory of ours."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

import anyio.to_thread

from claude_mcp.contract import operations
from claude_mcp.contract.messages import to_json
from claude_mcp.errors import TransferError
from claude_mcp.placing import descriptors
from claude_mcp.sessions.files.archive import Tally
from claude_mcp.sessions.files.reporting import reported
from claude_mcp.sessions.files.unpacking import Limits, read_archive
from claude_mcp.sessions.git import temporary
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.progress import Progress, no_progress


@asynccontextmanager
async def fetched(
    handle: SessionHandle, path: str, progress: Progress = no_progress
) -> AsyncIterator[str]:
    """The file's path here while the block runs; the session then no longer has it.

    Raises:
        TransferError, WorkRefused: it is something else than one file, or too large.
        EngineError, AgentError, SessionNotFound
    """
    tally, size = Tally(), handle.config.transfer_bytes
    with temporary.directory() as directory:
        async with reported(tally, progress, handle.engine, "fetching the work"):
            await handle.engine.copy_out(
                handle.session.container_id,
                path,
                lambda pipe: _unpack(pipe, directory, tally, size),
            )
        await handle.request(operations.DROP, to_json(operations.Drop(path)))
        names = await anyio.to_thread.run_sync(os.listdir, directory)
        if len(names) != 1:
            raise TransferError("The session sent something else than its work.")
        yield os.path.join(directory, names[0])


def _unpack(pipe: BinaryIO, directory: str, tally: Tally, size: int) -> None:
    opened = os.open(directory, descriptors.READ)
    try:
        unpacked = read_archive(pipe, opened, None, tally, Limits(size, 1))
    finally:
        os.close(opened)
    if not unpacked.complete:
        raise TransferError("The session's work did not arrive completely. Try again.")
