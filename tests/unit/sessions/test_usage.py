"""Sessions are measured although others end meanwhile."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_mcp.errors import EngineError, EngineUnavailable
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.usage import usage
from tests.unit.sessions.conftest import ScriptedEngine, container

FIRST, SECOND, THIRD = "a1" * 6, "b2" * 6, "c3" * 6
MEASURE = """\
import json, os, sys

running = sorted(os.listdir("containers"))
if len(running) > {left}:
    os.unlink("containers/" + running[0])
    sys.exit({words!r})
for each in running:
    print(json.dumps({{**{stats!r}, "ID": each.partition("=")[0]}}))
"""
"""Until ``left`` of them are left, one of the containers ends whenever they are measured."""
STATS = {
    "CPUPerc": "1.50%", "MemUsage": "1MiB / 2MiB", "PIDs": "3", "BlockIO": "0B / 0B",
    "NetIO": "0B / 0B",
}  # fmt: skip


@pytest.fixture
def scripted(tmp_path: Path) -> ScriptedEngine:
    engine = ScriptedEngine(tmp_path)
    engine.holds(container(FIRST, "first"), container(SECOND, "second"), container(THIRD, "third"))
    return engine


@pytest.fixture
async def sessions(scripted: ScriptedEngine) -> AsyncIterator[Sessions]:
    async with open_sessions(scripted.config) as opened:
        yield opened


@pytest.mark.parametrize("words", ["EOF", "Error response from daemon: No such container: x"])
@pytest.mark.parametrize(("left", "measured"), [(1, [("third", 3)]), (0, [])])
async def test_the_others_are_measured_when_one_after_the_other_ends(
    scripted: ScriptedEngine,
    sessions: Sessions,
    words: str,
    left: int,
    measured: list[tuple[str, int]],
) -> None:
    scripted.on("stats", MEASURE.format(left=left, words=words, stats=STATS))
    found = (await usage(sessions)).found
    assert [(each.session.name, each.stats and each.stats.pids) for each in found] == measured
    assert scripted.calls.count("stats") == 3


@pytest.mark.parametrize(
    ("words", "calls", "error"),
    [
        ("Error response from daemon: stats are broken", 1, EngineError),
        ("Error response from daemon: No such container: x", 2, EngineError),
        ("Cannot connect to the Docker daemon at tcp://x:1.", 1, EngineUnavailable),
    ],
)
async def test_a_failure_that_is_none_of_the_sessions_is_told(
    scripted: ScriptedEngine, sessions: Sessions, words: str, calls: int, error: type[EngineError]
) -> None:
    scripted.on("stats", f"import sys; sys.exit({json.dumps(words)})")
    with pytest.raises(error, match=words.rpartition(": ")[2]):
        await usage(sessions)
    assert scripted.calls.count("stats") == calls
