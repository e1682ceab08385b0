"""Thirty sessions at once on a cluster of one node, and what they cost this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from claude_mcp.engine.kubernetes import manifest
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.turns import commands, prompts
from claude_mcp.sessions.turns.results import TurnStatus

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

pytestmark = [pytest.mark.kubernetes, pytest.mark.stress, pytest.mark.timeout(900)]

SESSIONS: Final = 30
AT_ONCE: Final = 4
"""Creations and prompts at a time, so that the machine is left to others too."""
PROMPTS: Final = 6
"""A Claude Code takes about 230 MB, so only some of the sessions are given a prompt."""


async def _each(work: Callable[[int], Awaitable[None]], count: int = SESSIONS) -> float:
    """Do some work for each session, ``AT_ONCE`` at a time: how many seconds it took."""
    began = time.monotonic()
    limiter = anyio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with limiter:
            await work(number)

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
    return time.monotonic() - began


def _clients() -> tuple[int, float]:
    """How many processes of kubectl hold a channel, and their own memory in MB."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            words = (each / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"kubectl") and b"exec" in words:
                rollup = (each / "smaps_rollup").read_text().splitlines()
                found.append(sum(int(x.split()[1]) for x in rollup if x.startswith("Private_")))
        except (OSError, IndexError):  # it has ended
            continue
    return len(found), sum(found) / 1000


async def test_thirty_sessions_at_once(
    sessions: Sessions,
    project: Path,
    name: str,
    bare: Bare,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Two processors are not enough for thirty times what a session requests.
    monkeypatch.setattr(manifest, "REQUESTED_MILLICPUS", 50)
    measured: dict[str, object] = {}
    names = [f"{name}-{number}" for number in range(SESSIONS)]
    try:

        async def begin(number: int) -> None:
            await create(sessions, CreateRequest(str(project), session_name=names[number]))

        async def command(number: int) -> None:
            done = await commands.run(await sessions.open(names[number]), f"echo {number}")
            assert done.stdout == f"{number}\n"

        async def prompt(number: int) -> None:
            text = "standin: " + json.dumps([{"say": str(number)}])
            turn = await prompts.prompt(await sessions.open(names[number]), text)
            assert (turn.status, turn.result) == (TurnStatus.COMPLETED, str(number))

        measured["create"] = await _each(begin)
        measured["first command"] = await _each(command)
        measured["kubectl processes, MB of their own"] = _clients()
        measured["second command"] = await _each(command)
        measured["prompts"] = await _each(prompt, PROMPTS)
        began = time.monotonic()
        listed = {each.session.name: each.activity for each in await sessions.list()}
        measured["list"] = time.monotonic() - began
        assert [each for each in names if listed.get(each) is None] == []

        async def destroy(number: int) -> None:
            assert (await sessions.destroy(names[number])).existed

        measured["destroy"] = await _each(destroy)
        assert [each for each in names if bare.containers(each)] == []
    finally:
        print(measured)  # noqa: T201  what this test is for
        for each in names:
            bare.remove_all(each)
