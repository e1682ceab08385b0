"""MCP Tasks in memory: which calls become tasks, and what the three methods answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.types import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolResult,
    ElicitResult,
)

from claude_mcp.config import Config
from claude_mcp.server import jobs, tasks
from claude_mcp.server.app import build
from claude_mcp.server.task_states import TaskId
from tests.task_client import IDENTIFIER, Task, Tasks, ask, call
from tests.unit import fake_engine
from tests.unit.server.answers import text
from tests.unit.wire import TURN

pytestmark = pytest.mark.anyio


async def user(context: Any, params: Any) -> ElicitResult:
    raise AssertionError("a task's questions are not asked during a call")


@pytest.fixture
async def client(config: Config) -> AsyncIterator[Client]:
    async with Client(build(config), extensions=[Tasks()], elicitation_callback=user) as client:
        yield client


async def begin(client: Client, session: str, prompt: str, **more: Any) -> Task:
    arguments = {"sessionId": session, "prompt": prompt, "turnId": TURN, **more}
    task = await call(client, "execute_in_session", **arguments)
    assert isinstance(task, Task), task
    return task


async def test_a_prompt_becomes_a_task_with_the_turn_s_id(client: Client, session: str) -> None:
    task = await begin(client, session, "hang")
    assert (task.status, task.poll_interval_ms, task.ttl_ms) == ("working", 1000, None)
    assert task.status_message == f"Claude works on turn {TURN} in session {session}."
    kind, work, _, where = task.task_id.split(".")
    assert (kind, work, where) == ("turn", TURN, session)
    state = await ask(client, "tasks/get", task.task_id)
    assert state["createdAt"] == task.created_at
    assert state["lastUpdatedAt"] >= task.created_at
    assert (state["status"], state["statusMessage"]) == (
        "working",
        "Claude has been working for 0 s.",
    )


async def test_a_cancelled_task_interrupts_its_turn(
    client: Client, session: str, program: Path
) -> None:
    task = await begin(client, session, "hang")
    assert await ask(client, "tasks/cancel", task.task_id) == {}
    assert "interrupted" in fake_engine.calls(program)
    state = await ask(client, "tasks/get", task.task_id)
    assert (state["status"], "result" in state) == ("cancelled", False)
    found = await client.call_tool("get_turn", {"sessionId": session, "turnId": TURN})
    assert found.structured_content["status"] == "cancelled"


async def test_a_turn_that_is_over_at_once_is_a_result(client: Client, session: str) -> None:
    result = await call(client, "execute_in_session", sessionId=session, prompt="hello")
    assert isinstance(result, CallToolResult)
    assert result.structured_content["status"] == "completed"


@pytest.mark.parametrize("prompt", ["hang", "ask 1"])
async def test_a_caller_that_does_not_want_to_wait_gets_no_task(
    client: Client, session: str, prompt: str
) -> None:
    arguments = {"sessionId": session, "prompt": prompt, "waitSeconds": 0}
    result = await call(client, "execute_in_session", **arguments)
    assert isinstance(result, CallToolResult)


async def test_a_refused_prompt_is_an_error_not_a_task(client: Client, session: str) -> None:
    await begin(client, session, "hang")
    for arguments, message in (
        ({"sessionId": session, "prompt": "x"}, "The session is busy"),
        ({"sessionId": session}, "Nothing was done: prompt is missing."),
    ):
        refused = await call(client, "execute_in_session", **arguments)
        assert isinstance(refused, CallToolResult)
        assert refused.is_error
        assert text(refused).startswith(message)


async def test_a_question_is_an_input_request_and_its_answer_an_update(
    client: Client, session: str
) -> None:
    task = await begin(client, session, "ask 2")
    state = await ask(client, "tasks/get", task.task_id)
    assert state["status"] == "input_required"
    assert list(state["inputRequests"]) == ["q1", "q2"]
    first = state["inputRequests"]["q1"]
    assert first["method"] == "elicitation/create"
    assert first["params"]["message"] == "Claude asks for permission: Bash\n  command: rm 1"
    assert first["params"]["requestedSchema"]["required"] == ["decision"]

    allow = {"action": "accept", "content": {"decision": "allow"}}
    answers = {"q1": allow, "unknown": allow}
    assert await ask(client, "tasks/update", task.task_id, inputResponses=answers) == {}
    state = await ask(client, "tasks/get", task.task_id)
    assert list(state["inputRequests"]) == ["q2"]
    # Who dismisses the form shall not leave Claude waiting.
    answers = {"q1": allow, "q2": {"action": "cancel"}}
    assert await ask(client, "tasks/update", task.task_id, inputResponses=answers) == {}
    state = await ask(client, "tasks/get", task.task_id)
    assert state["status"] == "completed"
    told = state["result"]["structuredContent"]
    assert told["result"] == (
        '[["q1", "allow", null], ["q2", "deny", "The user dismissed the question."]]'
    )
    turn = await client.call_tool("get_turn", {"sessionId": session, "turnId": TURN})
    assert {**told, "events": []} == turn.structured_content


async def test_a_question_of_claude_s_is_a_form_with_choices(client: Client, session: str) -> None:
    task = await begin(client, session, "choose")
    state = await ask(client, "tasks/get", task.task_id)
    schema = state["inputRequests"]["q1"]["params"]["requestedSchema"]
    assert schema["properties"]["answer1"]["enum"] == ["Red", "Blue"]
    chosen = {"action": "accept", "content": {"answer1": "Blue", "answer2": ["Apple", "Pear"]}}
    await ask(client, "tasks/update", task.task_id, inputResponses={"q1": chosen})
    state = await ask(client, "tasks/get", task.task_id)
    assert '["Blue", "Apple, Pear"]' in state["result"]["structuredContent"]["result"]


async def test_a_client_that_cannot_ask_gets_the_question_as_the_result(
    config: Config, session: str
) -> None:
    async with Client(build(config), extensions=[Tasks()]) as client:
        task = await begin(client, session, "ask 1")
        state = await ask(client, "tasks/get", task.task_id)
    assert state["status"] == "completed"
    told = state["result"]["structuredContent"]
    assert told["status"] == "needs_permission"
    assert told["next"].startswith("respond_permission with sessionId")


async def test_another_server_knows_the_task_of_a_turn(config: Config, session: str) -> None:
    async with Client(build(config), extensions=[Tasks()]) as client:
        task = await begin(client, session, "hang")
    async with Client(build(config), extensions=[Tasks()]) as client:
        assert (await ask(client, "tasks/get", task.task_id))["status"] == "working"
        await ask(client, "tasks/cancel", task.task_id)
        assert (await ask(client, "tasks/get", task.task_id))["status"] == "cancelled"


async def test_answers_that_are_no_forms_are_refused(client: Client, session: str) -> None:
    task = await begin(client, session, "ask 1")
    with pytest.raises(MCPError, match=r"inputResponses\['q1'\] is not the result of a form\."):
        await ask(client, "tasks/update", task.task_id, inputResponses={"q1": "yes"})


SOMEONE = "6b0b0f3e-0000-4000-8000-00000000000e"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel"])
@pytest.mark.parametrize(
    "task_id",
    [
        "x",
        "",
        "turn.a.b.c",
        f"turn.{SOMEONE}.0.fix-tests",
        f"turn.{SOMEONE}.0.nobody",
        f"turn.{SOMEONE}.0.",
        f"turn.{SOMEONE}.{'f' * 400}.fix-tests",
        f"other.{SOMEONE}.0.fix-tests",
    ],
)
async def test_an_unknown_task_is_a_protocol_error(
    client: Client, session: str, method: str, task_id: str
) -> None:
    with pytest.raises(MCPError, match="There is no task") as caught:
        await ask(client, method, task_id)
    assert caught.value.error.code == INVALID_PARAMS


async def test_who_does_not_declare_the_extension_has_no_tasks(
    config: Config, session: str
) -> None:
    async with Client(build(config)) as client:
        result = await client.call_tool(
            "execute_in_session", {"sessionId": session, "prompt": "hello"}
        )
        assert not result.is_error
        for method in ("tasks/get", "tasks/cancel"):
            with pytest.raises(MCPError) as caught:
                await ask(client, method, str(TaskId.begin("turn", session)))
            assert caught.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY
            assert caught.value.error.data == {
                "requiredCapabilities": {"extensions": {IDENTIFIER: {}}}
            }


async def test_a_client_of_the_older_protocol_has_no_tasks(config: Config, session: str) -> None:
    async with Client(build(config), mode="legacy", extensions=[Tasks()]) as client:
        result = await client.call_tool(
            "execute_in_session", {"sessionId": session, "prompt": "hello"}
        )
        assert result.structured_content["status"] == "completed"
        with pytest.raises(MCPError) as caught:
            await ask(client, "tasks/get", str(TaskId.begin("turn", session)))
        assert caught.value.error.code in (METHOD_NOT_FOUND, MISSING_REQUIRED_CLIENT_CAPABILITY)


class TestJobs:
    """Creations: work of the server itself."""

    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tasks, "SHORT_SECONDS", 0.0)

    async def created(self, client: Client, project: Path, **more: Any) -> Task:
        task = await call(client, "create_session", projectPath=str(project), **more)
        assert isinstance(task, Task), task
        return task

    async def ended(self, client: Client, task: Task) -> dict[str, Any]:
        while (state := await ask(client, "tasks/get", task.task_id))["status"] == "working":
            await anyio.lowlevel.checkpoint()
        return state

    async def test_a_session_is_created_as_a_task(self, client: Client, project: Path) -> None:
        task = await self.created(client, project, sessionName="fix-tests")
        assert task.status_message == "creating session fix-tests"
        state = await self.ended(client, task)
        assert (state["status"], state["result"]["isError"]) == ("completed", False)
        assert state["result"]["structuredContent"]["sessionName"] == "fix-tests"
        assert 3_600_000 <= state["ttlMs"] < 3_700_000

    async def test_a_session_without_a_name_is_found_by_the_one_it_gets(
        self, client: Client, project: Path
    ) -> None:
        task = await self.created(client, project)
        name = task.task_id.split(".", 3)[3]
        state = await self.ended(client, task)
        assert state["result"]["structuredContent"]["sessionName"] == name

    async def test_a_failed_creation_is_a_completed_task_with_the_error(
        self, client: Client, tmp_path: Path
    ) -> None:
        state = await self.ended(client, await self.created(client, tmp_path / "missing"))
        assert (state["status"], state["result"]["isError"]) == ("completed", True)

    async def test_another_server_finds_the_session_that_was_created(
        self, config: Config, project: Path
    ) -> None:
        async with Client(build(config), extensions=[Tasks()]) as client:
            task = await self.created(client, project, sessionName="fix-tests")
            await self.ended(client, task)
        async with Client(build(config), extensions=[Tasks()]) as client:
            state = await ask(client, "tasks/get", task.task_id)
            assert state["status"] == "completed"
            told = state["result"]["structuredContent"]
            assert (told["sessionName"], told["status"]) == ("fix-tests", "running")
            [warning] = told["warnings"]
            assert warning.startswith("The status of its MCP servers is not known")
            later = TaskId("create", SOMEONE, 4_000_000_000_000, "fix-tests")
            with pytest.raises(MCPError, match="is an older one"):
                await ask(client, "tasks/get", str(later))
            never = TaskId.begin("create", "never")
            with pytest.raises(MCPError, match="There is no session 'never'"):
                await ask(client, "tasks/get", str(never))

    async def test_a_cancelled_creation_leaves_nothing(
        self, client: Client, project: Path, program: Path
    ) -> None:
        task = await self.created(client, project, sessionName="fix-tests")
        await ask(client, "tasks/cancel", task.task_id)
        state = await self.ended(client, task)
        assert state["status"] == "cancelled"
        listed = await client.call_tool("list_sessions", {})
        assert listed.structured_content["sessions"] == []

    async def test_old_results_are_forgotten(
        self, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jobs, "MAX_KEPT", 1)
        ids = []
        for name in ("missing-1", "missing-2"):
            task = await self.created(client, tmp_path / name)
            await self.ended(client, task)
            ids.append(task.task_id)
        assert (await ask(client, "tasks/get", ids[1]))["status"] == "completed"
        with pytest.raises(MCPError, match="There is no task"):
            await ask(client, "tasks/get", ids[0])


class TestCommands:
    async def begin(self, client: Client, session: str) -> Task:
        arguments = {"sessionId": session, "command": "long", "commandId": TURN}
        task = await call(client, "execute_command", **arguments)
        assert isinstance(task, Task), task
        return task

    async def test_a_long_command_is_a_task_of_every_server(
        self, config: Config, session: str, program: Path
    ) -> None:
        async with Client(build(config), extensions=[Tasks()]) as client:
            task = await self.begin(client, session)
            kind, work, _, where = task.task_id.split(".")
            assert (kind, work, where) == ("command", TURN, session)
        async with Client(build(config), extensions=[Tasks()]) as client:
            state = await ask(client, "tasks/get", task.task_id)
            assert (state["status"], state["createdAt"]) == ("working", task.created_at)
            assert state["statusMessage"].startswith(f"Command {TURN} has been running for ")
            (program.parent / "command").write_text("completed")
            state = await ask(client, "tasks/get", task.task_id)
            assert state["status"] == "completed"
            told = state["result"]["structuredContent"]
            assert (told["stdout"], told["exitCode"]) == ("out\n", 0)
            followed = await client.call_tool(
                "get_command", {"sessionId": session, "commandId": TURN}
            )
            assert followed.structured_content == told

    async def test_a_cancelled_task_stops_its_command(self, client: Client, session: str) -> None:
        task = await self.begin(client, session)
        assert await ask(client, "tasks/update", task.task_id, inputResponses={}) == {}
        assert await ask(client, "tasks/cancel", task.task_id) == {}
        assert (await ask(client, "tasks/get", task.task_id))["status"] == "cancelled"

    @pytest.mark.parametrize("more", [{"waitSeconds": 0}, {"background": True}])
    async def test_a_caller_that_does_not_want_to_wait_gets_no_task(
        self, client: Client, session: str, more: dict[str, Any]
    ) -> None:
        arguments = {"sessionId": session, "command": "long", **more}
        result = await call(client, "execute_command", **arguments)
        assert isinstance(result, CallToolResult)
        assert result.structured_content["status"] == "running"


async def test_short_work_is_answered_without_a_task(
    client: Client, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "SHORT_SECONDS", 60.0)
    result = await call(client, "execute_command", sessionId=session, command="exit 3")
    assert isinstance(result, CallToolResult)
    assert result.structured_content["exitCode"] == 3
