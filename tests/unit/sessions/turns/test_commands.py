"""Shell commands and logs: what is refused before, and what an answer may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.errors import AgentError, UsageError
from claude_mcp.sessions.channel import channels
from claude_mcp.sessions.channel.silence import StoppedMeanwhile
from claude_mcp.sessions.command_state import CommandResult, parse_result
from claude_mcp.sessions.handle import RESTARTED
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns.commands import logs, run
from tests.unit.sessions.conftest import PRELUDE, container

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine

SESSION = Session(
    id="abcd10000000",
    container_id=f"{'abcd1':0<64}",
    name="fix",
    container_name="claude-mcp-fix",
    project_path="/projects/fix",
    image="image:1",
    provider="anthropic",
    credentials=CredentialSource.SERVER,
    status=Status.RUNNING,
    created_at="2026-11-23T06:26:12Z",
)
UUID = "6b0b0f3e-0000-4000-8000-00000000000a"
HONEST = {
    "exitCode": 3,
    "stdout": "out",
    "stderr": "key sk-of-the-server",
    "stdoutBytes": 3,
    "stderrBytes": 3,
    "durationMs": 12,
    "timedOut": False,
    "cancelled": False,
}


@pytest.fixture
def engine(scripted: ScriptedEngine, sessions: Sessions) -> ScriptedEngine:
    scripted.holds(container("abcd1", "fix"))
    return scripted


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("", {}, "The command is empty."),
        (" \n", {}, "The command is empty."),
        ("a\0b", {}, "A command cannot contain a NUL character."),
        ("a", {"workdir": "/\0"}, "A command cannot contain a NUL character."),
        ("a\ud800", {}, "The command must be valid Unicode."),
        ("a", {"timeout_seconds": 0}, "The time limit must be more than 0."),
        ("a", {"timeout_seconds": -1}, "The time limit must be more than 0."),
        ("a", {"timeout_seconds": float("nan")}, "The time limit must be more than 0."),
        ("x" * (8 * 1024 * 1024 + 1), {}, "The command exceeds 8388608 bytes; put it in a file."),
    ],
)
async def test_a_command_that_cannot_be_run_does_not_reach_the_session(
    engine: ScriptedEngine,
    sessions: Sessions,
    command: str,
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(UsageError) as caught:
        await run(await sessions.open("fix"), command, **options)
    assert str(caught.value) == message
    assert not {"exec", "logs"} & {*engine.calls}


async def test_a_command_is_answered_without_secrets(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(f"answer(request()['id'], ok={HONEST!r}); request()")
    assert await run(await sessions.open("fix"), "make") == CommandResult(
        session=SESSION,
        exit_code=3,
        stdout="out",
        stderr="key [redacted]",
        truncated="",
        duration_ms=12,
        timed_out=False,
    )


def test_missing_output_is_reported_for_each_stream() -> None:
    answer = {**HONEST, "stdoutBytes": 500, "stderrBytes": 101}
    assert parse_result(SESSION, answer, 100).truncated == (
        "stdout: 400 of 500 bytes left out; stderr: 1 of 101 bytes left out"
    )


async def test_the_agent_is_asked_with_every_option(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(
        "one = request()\n"
        f"answer(one['id'], ok={{**{HONEST!r}, 'stdout': json.dumps(one['args'], sort_keys=True)}})"
        "\nrequest()"
    )
    result = await run(
        await sessions.open("fix"),
        "--x\n'é'",
        timeout_seconds=None,
        workdir="sub",
        output_bytes=10_000,
        command_id=UUID.upper(),
    )
    assert result.stdout == (
        '{"command": "--x\\n\'\\u00e9\'", "commandId": "' + UUID + '", "durable": true, '
        '"limitBytes": 10000, "workdir": "sub"}'
    )


async def test_an_unusable_workdir_is_a_usage_error(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    refusal = {"code": "bad-workdir", "message": "there is no directory 'x'"}
    engine.agent(f"answer(request()['id'], error={refusal!r}); request()")
    with pytest.raises(UsageError) as caught:
        await run(await sessions.open("fix"), "make", workdir="x")
    assert str(caught.value) == ("The session cannot use this workdir: there is no directory 'x'.")


async def test_another_refusal_of_the_agent_is_an_error_of_its_own(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent("answer(request()['id'], error={'code': 'failed', 'message': 'x'}); request()")
    with pytest.raises(AgentError, match=r"^The session's agent failed: x\."):
        await run(await sessions.open("fix"), "make")


@pytest.mark.parametrize(
    "changes",
    [
        {"exitCode": None},
        {"exitCode": "x"},
        {"exitCode": []},
        {"exitCode": float("nan")},
        {"exitCode": float("inf")},
        {"durationMs": {}},
        {"stdoutBytes": "many"},
        {"stderrBytes": None},
    ],
)
def test_a_forged_answer_is_an_error_of_the_agent(changes: dict[str, Any]) -> None:
    with pytest.raises(AgentError, match="sent an unusable answer"):
        parse_result(SESSION, {**HONEST, **changes}, 100)


@pytest.mark.parametrize("missing", sorted(HONEST.keys() - {"cancelled"}))
def test_an_answer_that_lacks_something_is_an_error_of_the_agent(missing: str) -> None:
    answer = {key: value for key, value in HONEST.items() if key != missing}
    with pytest.raises(AgentError, match="sent an unusable answer"):
        parse_result(SESSION, answer, 100)


async def test_logs_are_joined_by_time_and_have_no_secrets(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.on(
        "logs",
        "import sys\n"
        "sys.stdout.write('2026-01-01T00:00:01Z one\\n2026-01-01T00:00:03Z sk-of-the-server\\n')\n"
        "sys.stderr.write('2026-01-01T00:00:02Z two ' + ' '.join(sys.argv[1:]) + '\\n')",
    )
    session, lines = await logs(await sessions.open("fix"), tail=7)
    assert session.name == "fix"
    assert lines == [
        "2026-01-01T00:00:01Z one",
        f"2026-01-01T00:00:02Z two logs --timestamps --tail=7 {'abcd1':0<64}",
        "2026-01-01T00:00:03Z [redacted]",
    ]
    assert (await logs(await sessions.open("fix"), tail=1))[1] == [
        "2026-01-01T00:00:03Z [redacted]"
    ]


@pytest.mark.parametrize("tail", [0, -1, 10_001])
async def test_only_so_many_lines_can_be_asked_for(
    engine: ScriptedEngine, sessions: Sessions, tail: int
) -> None:
    with pytest.raises(UsageError, match=r"^tail must be between 1 and 10000\.$"):
        await logs(await sessions.open("fix"), tail)
    assert not {"exec", "logs"} & {*engine.calls}


def test_the_output_in_an_answer_is_bounded() -> None:
    forged = {
        "exitCode": 0,
        "stdout": "o" * 10_000_000,
        "stderr": "e" * 10_000_000,
        "stdoutBytes": 1,
        "stderrBytes": 1,
        "durationMs": 1,
        "timedOut": False,
    }
    result = parse_result(SESSION, forged, 1000)
    assert len(result.stdout) < 3000
    assert len(result.stderr) < 3000


async def test_a_command_that_started_a_stopped_session_again_says_so(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("abcd1", "fix", "exited"))
    scripted.agent(f"for line in sys.stdin: answer(json.loads(line)['id'], ok={HONEST!r})")
    handle = await sessions.open("fix")
    assert RESTARTED in (await run(handle, "true")).notes
    assert RESTARTED not in (await run(await sessions.open("fix"), "true")).notes


async def test_a_command_whose_session_is_found_stopped_only_later_is_told_so(
    engine: ScriptedEngine, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy engine describes a container as running for a while after its end."""
    monkeypatch.setattr(channels, "SETTLE_SECONDS", 0.0)
    engine.on(
        "exec",
        "import os, sys\n"
        "if open('calls').read().count('exec') > 1:\n"
        "    for name in os.listdir('containers'):\n"
        "        with open(f'containers/{name}') as file:\n"
        "            text = file.read().replace('\"running\"', '\"exited\"')\n"
        "        with open(f'containers/{name}', 'w') as file: file.write(text)\n"
        "    sys.exit('Error response from daemon: Container abcd1 is not running')\n"
        f"{PRELUDE}request()",
    )
    with pytest.raises(StoppedMeanwhile, match=r"^The session stopped before it answered\."):
        await run(await sessions.open("fix"), "true")
    assert "start" not in engine.calls
