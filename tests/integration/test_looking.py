"""What is told of a session by the engine and by itself: its consumption, its details."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import pytest

from claude_mcp.errors import EngineError
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.details import details
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.usage import usage
from tests.engine_fixtures import FAR, own_warnings

PATIENCE_SECONDS = 60


async def test_a_session_is_measured(sessions: Sessions, shared: Session) -> None:
    try:
        (found,) = (await usage(sessions, [shared.name])).found
    except EngineError as error:
        # Rootless engines read cgroups of version 2 only.
        if re.search("cgroups? v2", error.message) is None:
            raise
        pytest.skip(error.message)
    assert found.session.id == shared.id
    assert found.stats is not None
    assert found.stats.id == shared.container_id
    assert found.stats.memory_bytes
    assert found.stats.pids
    assert found.stats.network_in_bytes is not None


async def test_limits_are_told_as_they_were_given(
    sessions: Sessions, project: Path, name: str
) -> None:
    limits = {"memory": "512m", "pids": "200"}
    made = await create(sessions, CreateRequest(str(project), session_name=name, limits=limits))
    if warnings := own_warnings(made):
        pytest.skip(f"this host cannot set limits: {warnings[0]}")
    # A mounted directory without a repository has no changes to tell; a copy has.
    untold = [] if FAR else ["changes"]
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            found = await details(sessions, name)
            if found.listed.problem is None and list(found.problems) == untold:
                break  # else an answer came late
    session = found.listed.session
    assert (session.memory_bytes, session.pids, session.cpus) == (512 * 1024**2, 200, None)
    assert (found.turns and found.turns.turns, found.latest) == ((), None)
    await sessions.destroy(name)
