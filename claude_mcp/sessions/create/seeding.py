"""Hands a session its own clone or copy of the project, between ``READY`` and ``COMMIT``.

``contract.workspaces`` describes the exchange. The files travel in one archive of the engine.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import anyio

from claude_mcp.contract.messages import to_json
from claude_mcp.contract.places import SEED
from claude_mcp.contract.workspaces import FILES, LFS, PACKS, SEEDED, STAGING, UNSEEDED
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.process import Stream
from claude_mcp.errors import AgentError, ImageUnfit
from claude_mcp.sessions.channel.answers import line
from claude_mcp.sessions.files.archive import Selection, Tally, write_selection
from claude_mcp.sessions.files.reporting import reported, size_of
from claude_mcp.sessions.files.transfer import staging_of
from claude_mcp.sessions.git import sealing
from claude_mcp.sessions.git.program import Git
from claude_mcp.sessions.git.seed import SeedPlan, packed
from claude_mcp.sessions.progress import Progress

SEED_SECONDS: Final = 900.0
SAID_CHARS: Final = 300
COPYING: Final = "copying the project into the session"


async def hand_in(
    engine: Engine,
    git: Git,
    container_id: str,
    stream: Stream,
    plan: SeedPlan,
    seal_key: str,
    progress: Progress,
) -> tuple[str, ...]:
    """Let the agent make the workspace; returns warnings about what was left out.

    The tree that it begins with is sealed with ``seal_key``, unless it is that of a commit.

    Raises:
        ImageUnfit: the image lacks git, or nobody may write to its /workspace.
        AgentError: the agent failed, or took longer than ``SEED_SECONDS``.
        GitError, TransferError, EngineError
    """
    tally = Tally()
    try:
        with anyio.fail_after(SEED_SECONDS):
            await _send(stream, SEED)
            directory, owner = staging_of(_value(await _said(stream, STAGING)))
            await progress("packing the project")
            async with packed(git, plan) as packs:
                await progress(COPYING)
                selections = _selections(plan, packs)
                if any(paths for _, _, paths in selections):  # Podman takes no empty archive
                    sizes = functools.partial(size_of, selections)
                    async with reported(tally, progress, engine, COPYING, sizes):
                        await engine.copy_in(
                            container_id,
                            directory,
                            lambda pipe: write_selection(selections, owner, pipe, tally),
                        )
            await progress("making the workspace")
            await _send(stream, json.dumps(to_json(plan.seed), separators=(",", ":")))
            tree = _value(await _said(stream, SEEDED))
            if plan.seed.base is None:
                await _send(stream, sealing.seal(seal_key, str(tree)))
    except TimeoutError:
        raise AgentError(f"The workspace was not ready within {SEED_SECONDS:g} s.") from None
    return tuple(tally.warnings)


async def _send(stream: Stream, line: str) -> None:
    # An agent that has ended no longer reads; ``_said`` notices that.
    with suppress(anyio.BrokenResourceError):
        await stream.send(line.encode() + b"\n")


def _selections(plan: SeedPlan, packs: Sequence[str]) -> list[Selection]:
    chosen: list[Selection] = [(FILES, plan.project, plan.files)]
    if plan.lfs is not None and plan.seed.lfs:
        chosen.insert(0, (LFS, plan.lfs.directory, plan.lfs.objects))
    if packs:
        directory = os.path.realpath(os.path.dirname(packs[0]))
        chosen.insert(0, (PACKS, directory, [*map(os.path.basename, packs)]))
    return chosen


async def _said(stream: Stream, start: str) -> str:
    """The rest of the next line that begins with ``start``; other lines are ignored."""
    async for said in stream.lines():
        if said.startswith(start):
            return said[len(start) :]
        if said.startswith(UNSEEDED):
            why = line(str(_value(said[len(UNSEEDED) :])), SAID_CHARS)
            raise ImageUnfit(
                f"The workspace could not be made: {why}.",
                hint="It needs an image with git, and a /workspace that any user may write to.",
            )
    raise AgentError("The session ended while its workspace was made.")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
