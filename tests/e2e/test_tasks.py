"""MCP Tasks with a bare client of each kind, real Claude Code and real containers."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.types import CallToolResult, ElicitResult

from tests.peers import Peer, script
from tests.task_client import Task, Tasks, ask, call

pytestmark = pytest.mark.once

Call = Callable[..., Any]
PATIENCE_SECONDS = 60


async def user(context: Any, params: Any) -> ElicitResult:
    raise AssertionError("a task's questions are not asked during a call")


async def state_of(client: Client, task: Task, status: str) -> dict[str, Any]:
    """The task once it has the status."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while (state := await ask(client, "tasks/get", task.task_id))["status"] != status:
            assert state["status"] == "working", state
            await anyio.sleep(0.05)
    return state


async def begin(client: Client, tool: str, **arguments: Any) -> Task:
    task = await call(client, tool, **arguments)
    assert isinstance(task, Task), task
    return task


@asynccontextmanager
async def killed(start: Call) -> AsyncIterator[Client]:
    """A client that knows tasks, whose server is killed at the end."""
    with suppress(MCPError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        async with start(extensions=[Tasks()]) as peer:
            yield peer.client
            os.kill(peer.pid, signal.SIGKILL)


@pytest.mark.cluster
async def test_tasks_are_known_to_the_next_server_after_one_was_killed(
    start: Call, project: Path, name: str
) -> None:
    until = "until [ -e go ]; do sleep 0.1; done; echo ready"
    async with start() as peer:
        await peer("create_session", projectPath=str(project), sessionName=name)
    async with killed(start) as client:
        prompt = script({"tool": "Bash", "input": {"command": until}}, {"report": True})
        turn = await begin(client, "execute_in_session", sessionId=name, prompt=prompt)
        command = await begin(client, "execute_command", sessionId=name, command=until)
        for task in (turn, command):
            assert (await ask(client, "tasks/get", task.task_id))["status"] == "working"
    async with start(extensions=[Tasks()]) as peer:
        for task in (turn, command):
            state = await ask(peer.client, "tasks/get", task.task_id)
            assert (state["status"], state["createdAt"]) == ("working", task.created_at)
        await peer("execute_command", sessionId=name, command="touch go")
        ended = await state_of(peer.client, turn, "completed")
        assert ended["result"]["structuredContent"]["result"] == "ready"
        ended = await state_of(peer.client, command, "completed")
        assert ended["result"]["structuredContent"]["stdout"] == "ready\n"
        await peer("destroy_session", sessionId=name, discardChanges=True)


async def test_a_permission_is_given_and_a_turn_interrupted_through_the_task(
    start: Call, project: Path, name: str
) -> None:
    write = {"tool": "Bash", "input": {"command": "touch made; echo done"}}
    async with start(extensions=[Tasks()], elicitation_callback=user) as peer:
        client: Client = peer.client
        await peer(
            "create_session", projectPath=str(project), sessionName=name, strictPermissions=True
        )
        prompt = script(write, {"report": True})
        task = await begin(client, "execute_in_session", sessionId=name, prompt=prompt)
        state = await state_of(client, task, "input_required")
        [key] = state["inputRequests"]
        allow = {"action": "accept", "content": {"decision": "allow"}}
        await ask(client, "tasks/update", task.task_id, inputResponses={key: allow})
        ended = await state_of(client, task, "completed")
        assert ended["result"]["structuredContent"]["result"] == "done"
        assert (project / "made").exists()
        task = await begin(client, "execute_in_session", sessionId=name, prompt=prompt)
        await state_of(client, task, "input_required")
        await ask(client, "tasks/cancel", task.task_id)
        await state_of(client, task, "cancelled")
        recalled = await begin(
            client, "execute_in_session", sessionId=name, prompt=script({"say": "kept"})
        )
        ended = await state_of(client, recalled, "completed")
        assert ended["result"]["structuredContent"]["result"] == "kept"
        await peer("destroy_session", sessionId=name)


async def test_what_claude_asks_is_answered_through_the_task(
    start: Call, project: Path, name: str
) -> None:
    choices = [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "x"}]
    question = {
        "question": "Color?", "header": "Color", "multiSelect": False, "options": choices
    }  # fmt: skip
    choose = {"tool": "AskUserQuestion", "input": {"questions": [question]}}
    async with start(extensions=[Tasks()], elicitation_callback=user) as peer:
        client: Client = peer.client
        await peer("create_session", projectPath=str(project), sessionName=name)
        prompt = script(choose, {"report": True})
        task = await begin(client, "execute_in_session", sessionId=name, prompt=prompt)
        state = await state_of(client, task, "input_required")
        [(key, request)] = state["inputRequests"].items()
        assert "Blue" in str(request)
        blue = {"action": "accept", "content": {"answer1": "Blue"}}
        await ask(client, "tasks/update", task.task_id, inputResponses={key: blue})
        ended = await state_of(client, task, "completed")
        assert '"Color?"="Blue"' in ended["result"]["structuredContent"]["result"]
        await peer("destroy_session", sessionId=name)


@pytest.mark.parametrize(("era", "options"), [("legacy", {"extensions": [Tasks()]}), ("auto", {})])
async def test_others_wait_for_their_results(
    start: Call, project: Path, name: str, era: str, options: dict[str, Any]
) -> None:
    async with start(era, **options) as peer:
        assert isinstance(peer, Peer)
        await peer("create_session", projectPath=str(project), sessionName=name)
        result = await call(
            peer.client, "execute_in_session", sessionId=name, prompt=script({"say": "done"})
        )
        assert isinstance(result, CallToolResult)
        assert result.structured_content["result"] == "done"
        await peer("destroy_session", sessionId=name)
