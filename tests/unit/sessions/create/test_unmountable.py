"""A project that the engine does not see is cloned or copied, if nobody asked for a mount."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.engine.engine import SourceMissing
from claude_mcp.errors import UsageError
from claude_mcp.sessions.create import readiness, start
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create

if TYPE_CHECKING:
    from claude_mcp.sessions.create.plan import Plan
    from claude_mcp.sessions.registry import Sessions
    from tests.unit.sessions.conftest import ScriptedEngine

pytestmark = pytest.mark.anyio
FAILURES = (readiness.Elsewhere, lambda path: SourceMissing("It is missing.", path))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``start`` is asked for; ``failure`` is what becomes of a mounted project."""
    started: dict[str, Any] = {"plans": [], "failure": None}

    async def starting(sessions: Sessions, plan: Plan, progress: object) -> Plan:
        started["plans"].append(plan)
        if plan.session.workspace == "bind":
            raise started["failure"](plan.session.project_path)
        return plan

    monkeypatch.setattr(start, "start", starting)
    return started


def project(tmp_path: Path) -> str:
    path = tmp_path / "project"
    path.mkdir()
    (path / "a").write_text("a")
    return str(path)


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_copy_takes_the_place_of_a_mount(
    scripted: ScriptedEngine, sessions: Sessions, tmp_path: Path, started: Any, failure: Any
) -> None:
    started["failure"] = failure
    made: Any = await create(sessions, CreateRequest(path := project(tmp_path)))
    assert made.session.workspace == "copy"
    assert made.warnings[0] == "The session has a copy: Docker cannot mount the project."
    await create(sessions, CreateRequest(path))  # is not tried again
    assert [each.session.workspace for each in started["plans"]] == ["bind", "copy", "copy"]


@pytest.mark.parametrize("wanted", [{"workspace": "bind"}, {"trust_git": True}])
async def test_who_asks_for_a_mount_is_told(
    sessions: Sessions, tmp_path: Path, started: Any, wanted: dict[str, Any]
) -> None:
    started["failure"] = readiness.Elsewhere
    with pytest.raises(UsageError, match="The engine has other files at"):
        await create(sessions, CreateRequest(project(tmp_path), **wanted))
    assert sessions.unmountable == set()


async def test_another_path_than_the_project_is_an_error(
    sessions: Sessions, tmp_path: Path, started: Any
) -> None:
    started["failure"] = lambda path: SourceMissing("It is missing.", "/else")
    with pytest.raises(SourceMissing):
        await create(sessions, CreateRequest(project(tmp_path)))
