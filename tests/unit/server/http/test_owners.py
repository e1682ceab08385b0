"""Two teams share a server: neither learns anything of the other's sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import Client, MCPError

from claude_mcp.config import Config
from claude_mcp.server import tasks
from tests.task_client import Task, Tasks, ask, call
from tests.unit.server.answers import content, text
from tests.unit.server.http.conftest import BLUE, OPERATOR, RED, Era, served
from tests.unit.wire import TURN

pytestmark = pytest.mark.anyio


async def create(client: Client, project: Path, **options: Any) -> str:
    arguments = {"projectPath": str(project), "sessionName": "work", **options}
    created = content(await client.call_tool("create_session", arguments))
    identifier: str = created["sessionId"]
    return identifier


async def names(client: Client) -> list[str]:
    listed = content(await client.call_tool("list_sessions", {}))
    return sorted(each["sessionName"] for each in listed["sessions"])


async def test_each_token_has_its_own_sessions(shared: Config, project: Path, era: Era) -> None:
    async with (
        served(shared) as server,
        server.client(RED, era) as red,
        server.client(BLUE, era) as blue,
        server.client(OPERATOR, era) as operator,
    ):
        reds = await create(red, project)
        blues = await create(blue, project)
        assert reds != blues
        assert await names(red) == await names(blue) == ["work"]
        assert await names(operator) == ["work", "work"]
        ran = await red.call_tool("execute_command", {"sessionId": "work", "command": "echo red"})
        assert content(ran)["sessionId"] == reds
        answers = []
        for reference in (blues, "0123456789ab"):
            calls: list[tuple[str, dict[str, Any]]] = [
                ("execute_command", {"sessionId": reference, "command": "true"}),
                ("destroy_session", {"sessionId": reference}),
                ("destroy_session", {"sessionIds": [reference]}),
            ]
            told = [text(await red.call_tool(name, arguments)) for name, arguments in calls]
            answers.append([each.replace(reference, "IT") for each in told])
        assert answers[0] == answers[1]
        assert await names(operator) == ["work", "work"]
        resources = await red.list_resources()
        assert resources.resources == []
        uris = [each.uri for each in (await blue.list_resources()).resources]
        assert uris == [f"claude-session://{blues}/transcript", f"claude-session://{blues}/log"]
        for uri in uris:
            with pytest.raises(MCPError, match="There is no resource"):
                await red.read_resource(uri)
        content(await blue.call_tool("destroy_session", {"mine": True}))
        assert await names(operator) == ["work"]


async def test_a_token_s_tools_directories_and_limits_hold(
    shared: Config, project: Path, tmp_path: Path, era: Era
) -> None:
    async with served(shared) as server, server.client(RED, era) as red:
        listed = [each.name for each in (await red.list_tools()).tools]
        assert listed == ["create_session", "list_sessions", "destroy_session", "execute_command"]
        with pytest.raises(MCPError, match=r"Unknown tool: get_turn.*Available: create_session, "):
            await red.call_tool("get_turn", {"sessionId": "work"})
        refusals = {}
        wanted: dict[str, dict[str, Any]] = {
            "root": {"projectPath": str(tmp_path)},
            "limit": {"limits": {"memory": "2g"}},
        }
        for what, options in wanted.items():
            arguments = {"projectPath": str(project), **options}
            answer = await red.call_tool("create_session", arguments)
            assert answer.is_error
            refusals[what] = text(answer)
        assert "is outside the allowed roots" in refusals["root"]
        assert "limits.memory may be at most 1g with this token." in refusals["limit"]
        await create(red, project, sessionName="one")
        await create(red, project, sessionName="two")
        answer = await red.call_tool("create_session", {"projectPath": str(project)})
        assert "The limit of 2 running sessions of this token is reached" in text(answer)
        assert await names(red) == ["one", "two"]


async def test_a_task_of_another_token_does_not_exist(
    shared: Config, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "SHORT_SECONDS", 0.0)
    async with (
        served(shared) as server,
        server.client(BLUE, extensions=[Tasks()]) as blue,
        server.client(RED, extensions=[Tasks()]) as red,
    ):
        creation = await call(blue, "create_session", projectPath=str(project), sessionName="work")
        assert isinstance(creation, Task)
        with pytest.raises(MCPError, match="There is no session 'work'"):
            await ask(red, "tasks/get", creation.task_id)
        assert await ask(red, "tasks/cancel", creation.task_id) == {}
        while (state := await ask(blue, "tasks/get", creation.task_id))["status"] == "working":
            await anyio.lowlevel.checkpoint()
        assert state["status"] == "completed"
        session = state["result"]["structuredContent"]["sessionId"]
        turn = await call(blue, "execute_in_session", sessionId=session, prompt="hang")
        assert isinstance(turn, Task)
        assert (await ask(blue, "tasks/get", turn.task_id))["status"] == "working"
        for method in ("tasks/get", "tasks/cancel"):
            with pytest.raises(MCPError, match="this server gave out no such id"):
                await ask(red, method, turn.task_id)
            with pytest.raises(MCPError, match="There is no session"):
                await ask(red, method, f"command.{TURN}.0.{session}")
        assert (await ask(blue, "tasks/get", turn.task_id))["status"] == "working"
        assert await ask(blue, "tasks/cancel", turn.task_id) == {}
        assert (await ask(blue, "tasks/get", turn.task_id))["status"] == "cancelled"
