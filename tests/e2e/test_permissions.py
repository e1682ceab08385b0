"""Questions for permission behind real clients of both eras, with real Claude Code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.types import ElicitRequestFormParams, ElicitResult
from messages_standin import Standin

from claude_mcp.engine.engine import Engine
from tests.peers import script

pytestmark = pytest.mark.once

Call = Callable[..., Any]
ERAS = ["legacy", "auto"]
PATIENCE_SECONDS = 60
WRITE = {"tool": "Write", "input": {"file_path": "/workspace/made", "content": "x"}}
BASH = {"tool": "Bash", "input": {"command": "touch other"}}
ASKED = {
    "kind": "permission",
    "toolName": "Write",
    "toolInput": {"file_path": "/workspace/made", "content": "x"},
    "description": "made",
}


class User:
    """Whom a client asks: allows what is written, denies commands."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        assert isinstance(params, ElicitRequestFormParams)
        self.asked.append(params.message.splitlines()[0])
        if "Write" in params.message:
            return ElicitResult(action="accept", content={"decision": "allow"})
        content: Any = {"decision": "deny", "message": "no commands"}
        return ElicitResult(action="accept", content=content)


async def create(call: Call, project: Path, name: str) -> str:
    created = await call(
        "create_session", projectPath=str(project), sessionName=name, strictPermissions=True
    )
    return str(created["sessionId"])


def sent(standin: Standin, prompt: str) -> int:
    """How often the prompt began a turn of the model."""
    return sum(
        request.prompts[-1:] == (prompt,) and not request.tool_results
        for request in standin.model_calls
    )


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_can_ask_is_asked_in_the_midst_of_one_call(
    start: Call, era: str, project: Path, name: str, standin: Standin
) -> None:
    user = User()
    async with start(era, elicitation_callback=user) as call:
        session = await create(call, project, name)
        prompt = f"For {name}.\n" + script(WRITE, BASH, {"report": True})
        done = await call("execute_in_session", sessionId=session, prompt=prompt)
        assert (done["status"], done["result"], done["questions"]) == (
            "completed", "no commands", []
        )  # fmt: skip
        assert [denial["toolName"] for denial in done["permissionDenials"]] == ["Bash"]
        assert user.asked == [
            "Claude asks for permission: Write", "Claude asks for permission: Bash"
        ]  # fmt: skip
        log = str(await call("get_session_logs", sessionId=session))
        assert "allowed (answered)" in log
        assert "denied (answered): no commands" in log
        await call("destroy_session", sessionId=session)
    assert (project / "made").read_text() == "x"
    assert not (project / "other").exists()
    assert sent(standin, prompt) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_cannot_ask_answers_by_a_tool(
    start: Call, era: str, project: Path, name: str, standin: Standin
) -> None:
    async with start(era) as call:
        session = await create(call, project, name)
        prompt = f"For {name}.\n" + script(WRITE, {"say": "done"})
        asked = await call("execute_in_session", sessionId=session, prompt=prompt)
        assert asked["status"] == "needs_permission"
        [question] = asked["questions"]
        request = question.pop("requestId")
        assert question == ASKED
        told = await call(
            "respond_permission", sessionId=session, requestId=request, decision="allow"
        )
        step = told.pop("next")
        assert "get_turn" in step
        assert told == {"sessionId": session, "turnId": asked["turnId"]}
        done = await call("get_turn", sessionId=session)
        assert (done["status"], done["result"]) == ("completed", "done")
        again = await call.refused(
            "respond_permission", sessionId=session, requestId=request, decision="deny"
        )
        assert "allowed (answered)" in again
        await call("destroy_session", sessionId=session)
    assert (project / "made").exists()
    assert sent(standin, prompt) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_question_outlives_its_killed_server(
    start: Call, era: str, project: Path, name: str, standin: Standin
) -> None:
    prompt = f"For {name}.\n" + script(WRITE, {"say": "done"})
    asking = anyio.Event()

    async def never(context: Any, params: Any) -> ElicitResult:
        asking.set()
        await anyio.sleep_forever()
        raise AssertionError

    async def prompted(call: Call) -> None:
        await call("execute_in_session", sessionId=name, prompt=prompt)

    with pytest.raises(BaseException):  # noqa: B017, PT011, PT012  however the client says so
        async with start(era, elicitation_callback=never) as call:
            await create(call, project, name)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(prompted, call)
                with anyio.fail_after(PATIENCE_SECONDS):
                    await asking.wait()
                os.kill(call.pid, signal.SIGKILL)
                await call("list_sessions")
    user = User()
    async with start(era, elicitation_callback=user) as call:
        found = await call("get_turn", sessionId=name, waitSeconds=0)
        assert found["status"] == "needs_permission"
        done = await call("get_turn", sessionId=name)
        assert (done["status"], done["result"]) == ("completed", "done")
        await call("destroy_session", sessionId=name)
    assert user.asked == ["Claude asks for permission: Write"]
    assert (project / "made").exists()
    assert sent(standin, prompt) == 1


async def test_a_prompt_that_is_cancelled_while_its_user_is_asked_is_interrupted(
    start: Call, project: Path, name: str
) -> None:
    asking = anyio.Event()

    async def never(context: Any, params: Any) -> ElicitResult:
        asking.set()
        await anyio.sleep_forever()
        raise AssertionError

    async with start("legacy", elicitation_callback=never) as call:
        session = await create(call, project, name)
        async with anyio.create_task_group() as tasks:

            async def prompted() -> None:
                await call("execute_in_session", sessionId=session, prompt=script(WRITE))

            tasks.start_soon(prompted)
            with anyio.fail_after(PATIENCE_SECONDS):
                await asking.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(PATIENCE_SECONDS):
            while (await call("get_turn", sessionId=session, waitSeconds=0))[
                "status"
            ] != "cancelled":
                await anyio.sleep(0.05)
        log = str(await call("get_session_logs", sessionId=session))
        assert "closed (the turn was interrupted)" in log
        await call("destroy_session", sessionId=session)
    assert not (project / "made").exists()


async def test_the_command_line_tells_what_is_asked_and_answers_it(
    engine: Engine, environ: dict[str, str], project: Path, name: str
) -> None:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "claude_mcp", f"--engine={engine.program}", *argv],
            env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    assert run("create", str(project), "--name", name, "--strict-permissions").returncode == 0
    asked = run("prompt", name, script(WRITE, {"say": "done"}), "--json")
    assert asked.returncode == 9
    [question] = json.loads(asked.stdout)["questions"]
    assert f"claude-mcp respond {name} {question['requestId']} --allow" in asked.stderr
    assert run("respond", name, question["requestId"], "--allow").returncode == 0
    done = run("turn", name)
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert run("destroy", name).returncode == 0
    assert (project / "made").exists()
