"""The tools for what a session changed, against scripted answers of the library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp import Client

from claude_mcp.config import Config
from claude_mcp.server.app import build
from claude_mcp.sessions.workspaces import applying, changes
from tests.unit.server.answers import content, text

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(config: Config) -> AsyncIterator[Client]:
    async with Client(build(config)) as client:
        yield client


async def test_changes_are_told(
    client: Client, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    async def get(handle: Any, **options: Any) -> changes.Changes:
        asked.update(options)
        return changes.Changes(
            handle.session, (), 0, (), None, None, None, None,
            diff="+\udcff\n", next_offset=9, until="ab",
        )  # fmt: skip

    monkeypatch.setattr(changes, "get_changes", get)
    arguments = {"sessionId": session, "turnId": "t", "paths": ["a"], "full": True, "offset": 4}
    told = await client.call_tool("get_changes", arguments)
    assert content(told)["diff"] == "+?\n"
    assert text(told).splitlines() == [
        "+?",
        f'Next: get_changes with sessionId "{session}", full true, offset 9 and until "ab" returns '
        "the next part.",
    ]
    assert asked == {"turn_id": "t", "paths": ["a"], "diff": True, "offset": 4, "until": None}


async def test_changes_are_undone(
    client: Client, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    async def undo(handle: Any, **options: Any) -> changes.Discarded:
        asked.update(options)
        return changes.Discarded(handle.session, ("a",), (), ("b: why",), None)

    monkeypatch.setattr(changes, "discard_changes", undo)
    told = await client.call_tool("discard_changes", {"sessionId": session})
    assert text(told) == "Restored 1 file, removed 0 files.\nLeft as it is: b: why"
    assert asked == {"turn_id": None, "paths": ()}


async def test_work_is_taken(client: Client, session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    async def take(handle: Any, mode: str, **options: Any) -> applying.Applied:
        asked.update(options, mode=mode)
        return applying.Applied(
            handle.session, mode, "forwarded", "main", "1" * 40, 1, ("S",), ("a",)
        )

    monkeypatch.setattr(applying, "apply_changes", take)
    arguments = {"sessionId": session, "mode": "merge", "commit": "m", "overwrite": True}
    told = await client.call_tool("apply_changes", arguments)
    assert content(told)["outcome"] == "forwarded"
    assert text(told) == "Branch main was forwarded, 1111111111: 1 commit, 1 file.\n  S"
    assert (asked["mode"], asked["commit"], asked["overwrite"]) == ("merge", "m", True)


async def test_a_mounted_project_has_nothing_to_apply(client: Client, session: str) -> None:
    told = await client.call_tool("apply_changes", {"sessionId": session})
    assert told.is_error
    assert "The project is mounted" in text(told)
