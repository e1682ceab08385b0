"""A real MCP client over stdio, in both protocol eras, with real Claude Code in real containers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from messages_standin import Standin

from claude_mcp.config_names import Toolset
from claude_mcp.engine.engine import Engine
from claude_mcp.server.tools import DECLARATIONS
from tests.engine_fixtures import ON_KUBERNETES
from tests.peers import Wire, children_of, processes, script

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

Call = Callable[..., Any]
ERAS = [pytest.param("legacy", marks=pytest.mark.once), "auto"]
PATIENCE_SECONDS = 60


@pytest.mark.cluster
@pytest.mark.parametrize("era", ERAS)
async def test_the_seven_tools_do_the_main_job(
    start: Call, era: str, project: Path, name: str, tmp_path: Path, bare: Bare
) -> None:
    (project / "greet.py").write_text("print('hello')\n")
    async with start(era) as call:
        tools = {tool.name for tool in (await call.client.list_tools()).tools}
        assert tools == {each.name for each in DECLARATIONS if each.toolset is Toolset.CORE}
        created = await call("create_session", projectPath=str(project), sessionName=name)
        assert (created["sessionName"], created["status"]) == (name, "running")
        session = created["sessionId"]

        edit = {
            "file_path": "/workspace/greet.py",
            "old_string": "hello",
            "new_string": "goodbye",
        }
        first = await call(
            "execute_in_session",
            sessionId=session,
            prompt="The word is quokka.\n"
            + script(
                {"tool": "Read", "input": {"file_path": "/workspace/greet.py"}},
                {"tool": "Edit", "input": edit},
                {"say": "done"},
            ),
        )
        assert (first["status"], first["result"]) == ("completed", "done")
        ran = await call("execute_command", sessionId=session, command="cat greet.py")
        assert ran["stdout"] == "print('goodbye')\n"
        if not ON_KUBERNETES and "CLAUDE_MCP_TEST_FAR" not in os.environ:  # it is mounted
            assert (project / "greet.py").read_text() == ran["stdout"]
        second = await call("execute_in_session", sessionId=name, prompt=script({"recall": True}))
        assert "The word is quokka." in second["result"]
        assert second["conversationId"] == first["conversationId"]

        ran = await call(
            "execute_command", sessionId=session, command="echo out; echo err >&2; exit 3"
        )
        assert (ran["exitCode"], ran["stdout"], ran["stderr"]) == (3, "out\n", "err\n")

        (tmp_path / "in").write_text("both ways")
        sent = await call(
            "transfer_files",
            sessionId=session,
            direction="to_container",
            sourcePath=str(tmp_path / "in"),
            destPath="/tmp/in",
        )
        assert (sent["files"], sent["path"]) == (1, "/tmp/in")
        await call(
            "transfer_files",
            sessionId=session,
            direction="from_container",
            sourcePath="/tmp/in",
            destPath=str(tmp_path / "out"),
        )
        assert (tmp_path / "out").read_text() == "both ways"

        listed = {each["sessionId"]: each for each in (await call("list_sessions"))["sessions"]}
        assert listed[session]["sessionName"] == name
        assert listed[session]["turnRunning"] is False
        logs = await call("get_session_logs", sessionId=session)
        assert "session started" in str(logs)
        gone = await call("destroy_session", sessionId=session, discardChanges=True)
        again = await call("destroy_session", sessionId=session)
        assert (gone["existed"], again["existed"]) == (True, False)
    assert bare.containers(name) == []


@pytest.mark.once
@pytest.mark.parametrize("era", ERAS)
async def test_progress_tells_what_claude_is_doing(
    start: Call, era: str, project: Path, name: str
) -> None:
    told: list[tuple[float, str]] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        told.append((value, message or ""))

    async with start(era) as call:
        await call("create_session", projectPath=str(project), sessionName=name)
        steps = script(
            {"tool": "Write", "input": {"file_path": "/workspace/made", "content": "x"}},
            {"tool": "Bash", "input": {"command": "cat made"}},
            {"say": "finished"},
        )
        await call.client.call_tool(
            "execute_in_session",
            {"sessionId": name, "prompt": steps},
            progress_callback=progress,
        )
        await call("destroy_session", sessionId=name)
    messages = [message for _, message in told]
    assert "Write: made" in messages
    assert "Bash: cat made" in messages
    assert [value for value, _ in told] == sorted({value for value, _ in told})


@pytest.mark.once
@pytest.mark.parametrize("era", ERAS)
async def test_bad_input_gets_one_clear_sentence(
    start: Call, era: str, project: Path, name: str
) -> None:
    async with start(era) as call:
        await call("create_session", projectPath=str(project), sessionName=name)
        cases: list[tuple[str, dict[str, Any], str]] = [
            ("create_session", {"projectPath": "/nosuch"}, "The project directory "),
            ("create_session", {"projectPath": "relative"}, "must be an absolute path"),
            (
                "create_session",
                {"projectPath": str(project), "sessionName": name},
                "already exists",
            ),
            (
                "create_session",
                {"projectPath": str(project), "image": "nosuch:1"},
                "has no image nosuch:1",
            ),
            ("create_session", {"projectPath": str(project), "useBedrock": True}, "Bedrock"),
            ("create_session", {"projectPth": str(project)}, "projectPath"),
            ("execute_command", {"sessionId": "nosuch", "command": "true"}, "no session 'nosuch'"),
            ("execute_command", {"sessionId": name, "command": ""}, "command is empty"),
            ("execute_in_session", {"sessionId": name, "prompt": " "}, "prompt is empty"),
            ("get_session_logs", {"sessionId": name, "tail": 0}, "tail"),
            ("destroy_session", {"sessionId": ""}, "A session is named by"),
        ]
        for tool, arguments, expected in cases:
            said = await call.refused(tool, **arguments)
            assert expected in said
            assert said.count("\n") < 4
            assert "Traceback" not in said
        await call("destroy_session", sessionId=name)


@pytest.mark.per_engine
async def test_cancelled_call_kills_the_command_and_the_server_holds_nothing_but_its_channel(
    start: Call, project: Path, name: str, bare: Bare
) -> None:
    async with start() as call:
        created = await call("create_session", projectPath=str(project), sessionName=name)
        container = bare.containers(name)[0]

        async def run() -> None:
            command = "setsid sleep 5555 & sleep 5555"
            await call("execute_command", sessionId=created["sessionId"], command=command)

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                while "5555" not in bare.processes(container):
                    await anyio.sleep(0.05)
                tasks.cancel_scope.cancel()
            while "5555" in bare.processes(container):
                await anyio.sleep(0.05)
            while len(children_of(call.pid)) > 1:
                await anyio.sleep(0.05)
        again = await call("execute_command", sessionId=name, command="echo fine")
        assert again["stdout"] == "fine\n"
        await call("destroy_session", sessionId=name)
        with anyio.fail_after(PATIENCE_SECONDS):
            while children_of(call.pid):
                await anyio.sleep(0.05)


def clients_of(container: str) -> list[str]:
    """The engine's clients that run something in it.

    Not the monitor of what has ended, which Podman's service keeps for five minutes.
    """
    return [line for _, line in processes().values() if " exec " in line and container in line]


@pytest.mark.per_engine
async def test_killed_server_loses_no_session_and_leaves_nothing_open(
    start: Call, project: Path, name: str, bare: Bare, standin: Standin
) -> None:
    container = ""
    with pytest.raises(BaseException):  # noqa: B017, PT011, PT012  however the client says so
        async with start() as call:
            await call("create_session", projectPath=str(project), sessionName=name)
            container = bare.containers(name)[0]
            await call("execute_in_session", sessionId=name, prompt="The word is quokka.")
            os.kill(call.pid, signal.SIGKILL)
            await call("list_sessions")
    with anyio.fail_after(PATIENCE_SECONDS):
        while clients_of(container):
            await anyio.sleep(0.05)
        while "_socket" in bare.processes(container):  # the channel's end in the container
            await anyio.sleep(0.05)
    async with start() as one, start("legacy") as other:
        for call in (one, other):
            listed = {each["sessionName"] for each in (await call("list_sessions"))["sessions"]}
            assert name in listed
        answer = await one("execute_in_session", sessionId=name, prompt=script({"recall": True}))
        while answer["status"] == "running":
            answer = await one("get_turn", sessionId=name, turnId=answer["turnId"])
        assert "The word is quokka." in answer["result"]
        ran = await other("execute_command", sessionId=name, command="echo both")
        assert ran["stdout"] == "both\n"
        await one("destroy_session", sessionId=name)
        assert (await other("destroy_session", sessionId=name))["existed"] is False


@pytest.mark.per_engine
@pytest.mark.parametrize(
    "how",
    [
        None,
        *(pytest.param(each, marks=pytest.mark.once) for each in (signal.SIGTERM, signal.SIGINT)),
    ],
)
async def test_server_ends_cleanly_and_takes_its_channels_along(
    engine: Engine, environ: dict[str, str], project: Path, name: str, how: Any, bare: Bare
) -> None:
    argv = [sys.executable, "-m", "claude_mcp", f"--engine={engine.dialect.name}", "serve"]
    create = {"projectPath": str(project), "sessionName": name}
    command = {"sessionId": name, "command": "echo up"}
    with anyio.fail_after(PATIENCE_SECONDS):
        async with Wire.open(argv, environ) as wire:
            await wire.request("tools/call", name="create_session", arguments=create)
            await wire.request("tools/call", name="execute_command", arguments=command)
            await wire.until("up")
            await wire.end(how)
            assert wire.server.returncode == 0
    container = bare.containers(name)[0]
    with anyio.fail_after(PATIENCE_SECONDS):
        while clients_of(container):
            await anyio.sleep(0.05)
