"""Hands a session its own clone or copy of the project, between ``READY`` and ``COMMIT``.

``contract.workspaces`` describes the exchange. The files travel in one archive of the engine.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any, Final

import anyio

from claude_mcp.contract.messages import to_json
from claude_mcp.contract.places import SEED
from claude_mcp.contract.workspaces import FILES, PACKS, SEEDED, STAGING, UNSEEDED
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.process import Stream
from claude_mcp.errors import AgentError, ImageUnfit
from claude_mcp.sessions.channel.answers import line
from claude_mcp.sessions.files.archive import Tally, write_selection
from claude_mcp.sessions.files.transfer import staging_of
from claude_mcp.sessions.git.program import Git
from claude_mcp.sessions.git.seed import SeedPlan, packed
from claude_mcp.sessions.progress import Progress

SEED_SECONDS: Final = 900.0
SAID_CHARS: Final = 300


async def hand_in(
    engine: Engine, git: Git, container_id: str, stream: Stream, plan: SeedPlan, progress: Progress
) -> Tally:
    """Let the agent make the workspace.

    Raises:
        ImageUnfit: the image lacks git, or nobody may write to its /workspace.
        AgentError: the agent failed, or took longer than ``SEED_SECONDS``.
        GitError, TransferError, EngineError
    """
    tally = Tally()
    try:
        with anyio.fail_after(SEED_SECONDS):
            await _send(stream, SEED)
            directory, owner = staging_of(await _answer(stream, STAGING))
            await progress("packing the project")
            async with packed(git, plan) as packs:
                await progress("copying the project into the session")
                await engine.copy_in(
                    container_id,
                    directory,
                    lambda pipe: write_selection(
                        [
                            (
                                PACKS,
                                os.path.realpath(os.path.dirname(packs[0])),
                                [*map(os.path.basename, packs)],
                            )
                            if packs
                            else (PACKS, "/", ()),
                            (FILES, plan.project, plan.files),
                        ],
                        owner,
                        pipe,
                        tally,
                    ),
                )
            await progress("making the workspace")
            await _send(stream, json.dumps(to_json(plan.seed), separators=(",", ":")))
            await _answer(stream, SEEDED)
    except TimeoutError:
        raise AgentError(f"The workspace was not ready within {SEED_SECONDS:g} s.") from None
    return tally


async def _send(stream: Stream, line: str) -> None:
    # An agent that has ended no longer reads; ``_answer`` notices that.
    with suppress(anyio.BrokenResourceError):
        await stream.send(line.encode() + b"\n")


async def _answer(stream: Stream, start: str) -> Any:
    """The value that follows the next line which begins with ``start``."""
    async for said in stream.lines():
        for each in (start, UNSEEDED):
            if said.startswith(each):
                try:
                    value = json.loads(said[len(each) :])
                except (ValueError, RecursionError):
                    value = None
                if each == UNSEEDED:
                    raise ImageUnfit(
                        f"The workspace could not be made: {line(str(value), SAID_CHARS)}.",
                        hint="It needs an image with git, and a /workspace that any user may "
                        "write to.",
                    )
                return value
    raise AgentError("The session ended while its workspace was made.")
