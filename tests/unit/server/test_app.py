"""The server in memory, with both kinds of client, on a fake engine."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp import Client, MCPError

from claude_mcp.config import Config
from claude_mcp.config_names import Toolset
from claude_mcp.server import app
from claude_mcp.server.app import build
from claude_mcp.server.progress import Reporter
from claude_mcp.server.tools import BY_NAME, INSTRUCTIONS
from tests.unit import fake_engine
from tests.unit.server.answers import content, text

pytestmark = pytest.mark.anyio

ERAS: list[Literal["legacy", "auto"]] = ["legacy", "auto"]


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> Literal["legacy", "auto"]:
    era: Literal["legacy", "auto"] = request.param
    return era


async def test_a_session_s_life(
    config: Config, project: Path, era: Literal["legacy", "auto"]
) -> None:
    async with Client(build(config), mode=era) as client:
        assert client.instructions == INSTRUCTIONS
        created = content(
            await client.call_tool(
                "create_session",
                {
                    "projectPath": str(project),
                    "sessionName": "fix-tests",
                    "mcpConfig": {"mcpServers": {"files": {"command": "npx"}}},
                },
            )
        )
        identifier, moment = created["sessionId"], created["createdAt"]
        assert created == {
            "sessionId": identifier,
            "sessionName": "fix-tests",
            "containerName": "claude-mcp-fix-tests",
            "projectPath": str(project),
            "image": "claude-code-custom:latest",
            "engine": "docker",
            "provider": "anthropic",
            "status": "running",
            "createdAt": moment,
            "expiresAt": None,
            "network": "open",
            "ports": [],
            "mcpServers": [{"name": "files", "status": "connected", "error": None}],
            "warnings": [],
            "engineReason": None,
        }
        arguments = {"sessionId": identifier, "command": "echo out; echo err >&2; exit 3"}
        ran = await client.call_tool("execute_command", arguments)
        assert text(ran) == "Exit code 3 after 12 ms.\nstdout:\nout\nstderr:\nerr"
        assert content(ran) == {
            "sessionId": identifier,
            "exitCode": 3,
            "stdout": "out\n",
            "stderr": "err\n",
            "truncated": None,
            "durationMs": 12,
            "timedOut": False,
            "notes": [],
            "commandId": "",
            "command": "",
            "status": "completed",
            "background": False,
            "startedAt": "",
            "endedAt": None,
            "cursor": 0,
            "more": False,
            "output": None,
        }
        turn_id = "6b0b0f3e-0000-4000-8000-000000000000"
        answered = await client.call_tool(
            "execute_in_session",
            {
                "sessionId": "fix-tests",
                "prompt": "/compact --help",
                "tools": ["Read", "Bash"],
                "turnId": turn_id,
                "maxTurns": 4,
                "newConversation": True,
            },
        )
        assert content(answered) == {
            "sessionId": identifier,
            "turnId": turn_id,
            "status": "completed",
            "result": json.dumps(
                {
                    "prompt": "/compact --help",
                    "tools": ["Read", "Bash"],
                    "maxTurns": 4,
                    "newConversation": True,
                    "waitSeconds": 45.0,
                    "answerable": True,
                }
            ),
            "error": None,
            "conversationId": "c-1",
            "numTurns": 1,
            "durationMs": 1500,
            "costUsd": 0.0123,
            "usage": {"inputTokens": 3, "outputTokens": 2},
            "permissionDenials": [],
            "questions": [],
            "notes": [],
            "cursor": 2,
            "model": None,
            "lastStep": None,
            "retryAt": None,
            "needsNewConversation": False,
            "nextOffset": None,
        }
        again = await client.call_tool("get_turn", {"sessionId": identifier, "turnId": turn_id})
        assert content(again) == {**content(answered), "events": []}
        assert text(again) == text(answered)
        listed = content(await client.call_tool("list_sessions", {}))
        assert listed == {
            "cursor": None,
            "unreachable": {},
            "sessions": [
                {
                    "sessionId": identifier,
                    "sessionName": "fix-tests",
                    "containerName": "claude-mcp-fix-tests",
                    "projectPath": str(project),
                    "status": "running",
                    "provider": "anthropic",
                    "image": "claude-code-custom:latest",
                    "engine": "docker",
                    "createdAt": listed["sessions"][0]["createdAt"],
                    "expiresAt": None,
                    "unsaved": None,
                    "network": "open",
                    "ports": [],
                    "createdBy": "mcp",
                    "turnRunning": False,
                    "lastActivityAt": "2026-01-02T03:04:05Z",
                    "costUsd": 0.5,
                    "turnId": None,
                    "turnMs": None,
                    "lastStep": None,
                    "model": None,
                    "openQuestions": 0,
                    "backgroundCommands": 0,
                    "commands": [],
                    "problem": None,
                }
            ],
        }
        logs = content(await client.call_tool("get_session_logs", {"sessionId": identifier[:6]}))
        assert logs == {
            "sessionId": identifier,
            "sessionName": "fix-tests",
            "status": "running",
            "lines": ["2026-01-02T03:04:05.000000000Z session started"],
            "before": None,
        }
        for existed in (True, False):
            gone = await client.call_tool("destroy_session", {"sessionId": "fix-tests"})
            assert content(gone) == {
                "sessionId": identifier if existed else "fix-tests",
                "sessionName": "fix-tests" if existed else None,
                "existed": existed,
                "warnings": [],
                "sessions": [
                    {
                        "sessionId": identifier if existed else "fix-tests",
                        "sessionName": "fix-tests" if existed else None,
                        "existed": existed,
                        "error": None,
                    }
                ],
            }


async def test_a_restricted_session_is_created_and_listed_as_one(
    config: Config, project: Path
) -> None:
    async with Client(build(config), mode="auto") as client:
        arguments = {"projectPath": str(project), "sessionName": "fix", "network": "restricted"}
        wrong = await client.call_tool("create_session", {**arguments, "allowedHosts": ["*.org"]})
        assert wrong.is_error
        assert text(wrong).startswith("allowedHosts: '*.org' is not a valid host.")
        created = await client.call_tool(
            "create_session", {**arguments, "allowedHosts": ["pypi.org"]}
        )
        assert content(created)["network"] == "restricted"
        assert "Its network reaches only its provider and the allowed" in text(created)
        (listed,) = content(await client.call_tool("list_sessions", {}))["sessions"]
        assert listed["network"] == "restricted"


async def test_a_failed_turn_is_a_result_and_not_a_tool_error(config: Config, session: str) -> None:
    async with Client(build(config)) as client:
        arguments = {"sessionId": session, "prompt": "fail"}
        failed = await client.call_tool("execute_in_session", arguments)
    found = content(failed)
    assert (found["status"], found["result"], found["error"]) == ("failed", None, "401 invalid key")


async def test_a_denied_tool_is_reported_with_what_it_wanted(config: Config, session: str) -> None:
    async with Client(build(config)) as client:
        arguments = {"sessionId": session, "prompt": "deny"}
        denied = await client.call_tool("execute_in_session", arguments)
    assert content(denied)["permissionDenials"] == [
        {"toolName": "Bash", "toolInput": {"command": "rm x"}, "reason": None}
    ]


async def test_truncated_output_is_reported(config: Config, session: str) -> None:
    async with Client(build(config)) as client:
        arguments = {"sessionId": session, "command": "much"}
        ran = await client.call_tool("execute_command", arguments)
    assert content(ran)["truncated"] == "stdout: 1000 of 66536 bytes left out"


async def test_forged_output_cannot_break_the_connection(config: Config, session: str) -> None:
    async with Client(build(config)) as client:
        forged = await client.call_tool(
            "execute_command", {"sessionId": session, "command": "forge"}
        )
        assert content(forged)["stdout"] == "?\x1b]0;title\x07"
        assert not (await client.call_tool("list_sessions", {})).is_error


async def test_a_secret_in_a_command_s_output_is_redacted(config: Config, session: str) -> None:
    async with Client(build(config)) as client:
        command = "echo sk-ant-of-the-server-0123"
        ran = await client.call_tool("execute_command", {"sessionId": session, "command": command})
    assert content(ran)["stdout"] == "[redacted]\n"
    assert text(ran) == "Exit code 0 after 12 ms.\nstdout:\n[redacted]"


async def test_progress_reaches_a_client_that_asked(
    config: Config, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A slow machine would put heartbeats between the reports.
    monkeypatch.setattr(app, "Reporter", partial(Reporter, heartbeat_seconds=60.0))
    heard: list[tuple[float, float | None, str | None]] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async with Client(build(config)) as client:
        arguments = {"projectPath": str(project), "sessionName": "fix-tests"}
        await client.call_tool("create_session", arguments, progress_callback=listen)
        prompt = {"sessionId": "fix-tests", "prompt": "hello"}
        await client.call_tool("execute_in_session", prompt, progress_callback=listen)
    assert heard == [
        (
            1.0,
            None,
            "creating container claude-mcp-fix-tests from image claude-code-custom:latest",
        ),
        (2.0, None, "starting the session"),
        (1.0, None, "Bash: ls"),
    ]


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        (
            "create_session",
            {"projectPath": "relative"},
            "projectPath must be an absolute path, not 'relative'.",
        ),
        (
            "create_session",
            {"projectPath": "/srv", "useBedrock": True, "awsSecretAccessKey": "wJalrXUtnFEMI"},
            "awsAccessKeyId is missing: with awsSecretAccessKey, the session needs a complete key "
            "of its own; it is not combined with the server's. Bedrock needs a region: pass "
            "awsRegion or set AWS_REGION.",
        ),
        (
            "execute_command",
            {"sessionId": "nope", "command": "ls"},
            "There is no session 'nope'.\nThere are no "
            "sessions. Use create_session with projectPath.",
        ),
        (
            "execute_command",
            {"sessionId": "nope", "comand": "ls"},
            "Nothing was done: command is missing; there is no argument 'comand', did you mean "
            "command.\nIt takes sessionId (required), command (required), timeoutSeconds, workdir, "
            "waitSeconds, background, commandId, input, tty, columns, rows.",
        ),
        (
            "execute_in_session",
            {"sessionId": "nope", "prompt": "hello", "turnId": "first"},
            "The turn's id must be a UUID, and 'first' is not.",
        ),
        (
            "get_turn",
            {"sessionId": "nope", "cursor": -1},
            "Nothing was done: cursor: input should be greater than or equal to 0.\nIt takes "
            "sessionId (required), turnId, cursor, waitSeconds, event, "
            "offset.",
        ),
        (
            "cancel_turn",
            {"sessionId": "nope"},
            "There is no session 'nope'.\nThere are no "
            "sessions. Use create_session with projectPath.",
        ),
        (
            "get_session_logs",
            {"sessionId": "nope", "tail": 0},
            "Nothing was done: tail: input should be greater than or equal to 1.\nIt takes "
            "sessionId (required), tail, "
            "before.",
        ),
    ],
)
async def test_bad_input_is_a_tool_error_that_says_what_to_do(
    config: Config, program: Path, tool: str, arguments: dict[str, Any], expected: str
) -> None:
    async with Client(build(config)) as client:
        result = await client.call_tool(tool, arguments)
    assert (result.is_error, result.structured_content, text(result)) == (True, None, expected)
    assert not {"create", "start", "rm"} & set(fake_engine.calls(program))


async def test_a_tool_that_is_not_listed_can_be_called(config: Config) -> None:
    async with Client(build(config)) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool("list_turns", {"sessionId": "nobody"})
    assert "list_turns" not in listed
    assert text(result).startswith("There is no session 'nobody'.")


async def test_every_tool_is_listed_if_that_is_configured(config: Config) -> None:
    config = replace(config, toolsets=frozenset(Toolset))
    async with Client(build(config)) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}
    assert listed == set(BY_NAME)


async def test_an_unknown_tool_is_a_protocol_error_with_a_suggestion(config: Config) -> None:
    async with Client(build(config)) as client:
        with pytest.raises(MCPError, match=r"^Unknown tool: destroy_sesion\."):
            await client.call_tool("destroy_sesion", {})


async def test_the_server_starts_and_lists_its_tools_without_an_engine(
    config: Config, program: Path
) -> None:
    program.unlink()
    async with Client(build(config)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {
            each.name for each in BY_NAME.values() if each.toolset is Toolset.CORE
        }
        result = await client.call_tool("list_sessions", {})
    assert text(result) == (
        f"'{program}' is not installed or not on PATH.\n"
        "Install it, or choose another engine with CLAUDE_MCP_ENGINE."
    )


async def test_an_internal_error_is_named_to_the_caller_and_its_traceback_logged(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = replace(config, environment={"PATH": "\0"})
    with caplog.at_level(logging.ERROR):
        async with Client(build(faulty)) as client:
            result = await client.call_tool("get_session_logs", {"sessionId": "fix-tests"})
    assert (result.is_error, text(result)) == (
        True,
        "Internal error: ValueError: embedded null byte; see the server's log.",
    )
    assert [record.getMessage() for record in caplog.records] == [
        "get_session_logs failed unexpectedly"
    ]


async def until(condition: Callable[[], bool]) -> None:
    """Watches another process through the file that it writes."""
    with anyio.fail_after(60):
        while not condition():
            await anyio.sleep(0.005)


async def cancel_when_hanging(
    call: Callable[[], Coroutine[Any, Any, object]], program: Path
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await until(lambda: "hanging" in fake_engine.calls(program))
        tasks.cancel_scope.cancel()


async def test_a_cancelled_creation_leaves_no_container(
    config: Config, program: Path, project: Path
) -> None:
    async with Client(build(config)) as client:
        arguments = {"projectPath": str(project), "image": "hang:latest"}
        await cancel_when_hanging(lambda: client.call_tool("create_session", arguments), program)
        await until(lambda: not fake_engine.Engine(program.parent).containers())
        assert content(await client.call_tool("list_sessions", {}))["sessions"] == []


async def test_several_sessions_are_destroyed_each_with_its_outcome(
    config: Config, project: Path, session: str, era: Literal["legacy", "auto"]
) -> None:
    async with Client(build(config), mode=era) as client:
        created = {"projectPath": str(project), "sessionName": "own"}
        own = content(await client.call_tool("create_session", created))["sessionId"]
        arguments: dict[str, Any] = {"sessionIds": [session, "", "gone"]}
        outcomes = content(await client.call_tool("destroy_session", arguments))["sessions"]
        assert [(each["sessionId"], each["existed"]) for each in outcomes] == [
            (session, True), ("", None), ("gone", False),
        ]  # fmt: skip
        assert outcomes[1]["error"].startswith("A session is named by its id")
        mine = content(await client.call_tool("destroy_session", {"mine": True}))["sessions"]
        assert [each["sessionId"] for each in mine] == [own]
        for wrong in ({}, {"sessionId": own, "mine": True}, {"sessionIds": [own], "mine": True}):
            refused = await client.call_tool("destroy_session", wrong)
            assert text(refused) == (
                "Nothing was destroyed: pass one of sessionId, sessionIds and mine."
            )
