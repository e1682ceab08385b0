"""Commands behind a real client that gives up, cancels, or loses its server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

Call = Callable[..., Any]
PATIENCE_SECONDS = 60.0
LONG = [
    pytest.param(0, 20, {"waitSeconds": 1}, marks=pytest.mark.once),
    pytest.param(90, 60, {}, marks=pytest.mark.stress),
]
"""How long the command takes at least, the client's time limit, and what it asks for."""


@pytest.fixture
async def session(start: Call, project: Path, name: str) -> Any:
    async with start() as call:
        await call("create_session", projectPath=str(project), sessionName=name)
    yield name
    async with start() as call:
        await call("destroy_session", sessionId=name)


@pytest.mark.parametrize(("seconds", "limit", "asked"), LONG)
async def test_a_command_is_followed_by_a_client_that_gives_up_before_its_end(
    start: Call, session: str, seconds: int, limit: float, asked: dict[str, float]
) -> None:
    async with start() as call:
        await call("execute_command", sessionId=session, command="true")
        words = (
            f"echo begun; sleep {seconds}; until [ -e go ]; do sleep 0.1; done; echo ended; exit 3"
        )

        async def look() -> Any:
            with anyio.fail_after(limit):
                return await call(
                    "get_command", sessionId=session, commandId=ran["commandId"], **asked
                )

        with anyio.fail_after(limit):
            ran = await call("execute_command", sessionId=session, command=words, **asked)
        assert ran["next"].startswith(
            f'get_command with sessionId "{ran["sessionId"]}", commandId '
        )
        while not ran["stdout"]:
            ran = await look()
        assert (ran["status"], ran["exitCode"], ran["stdout"]) == ("running", None, "begun\n")
        await call("execute_command", sessionId=session, command="touch go")
        while ran["status"] == "running":
            ran = await look()
        assert (ran["exitCode"], ran["stdout"]) == (3, "begun\nended\n")


@pytest.mark.once
async def test_a_command_outlives_its_killed_server_and_one_that_is_cancelled_ends(
    start: Call, session: str, bare: Bare
) -> None:
    container = bare.containers(session)[0]
    # Only the process that sleeps has these words, not the shell, which may not have begun.
    words = {"sessionId": session, "command": "echo begun; sleep 11''11"}

    async def until(*, runs: bool) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while ("sleep 1111" in bare.processes(container)) is not runs:
                await anyio.sleep(0.05)

    with pytest.raises(BaseExceptionGroup):  # noqa: PT012 - the connection ends in the block
        async with start() as call, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: call("execute_command", **words))
            await until(runs=True)
            os.kill(call.pid, signal.SIGKILL)
    async with start() as call:
        found = await call("get_command", sessionId=session, cursor=0)  # waits for output
        assert (found["status"], found["stdout"]) == ("running", "begun\n")
        [entry] = [
            each
            for each in (await call("list_sessions"))["sessions"]
            if each["sessionName"] == session
        ]
        assert [each["commandId"] for each in entry["commands"]] == [found["commandId"]]
        stopped = await call("stop_command", sessionId=session, commandId=found["commandId"])
        assert stopped["status"] == "stopped"
        await until(runs=False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: call("execute_command", **words))
            await until(runs=True)
            tasks.cancel_scope.cancel()
        await until(runs=False)
