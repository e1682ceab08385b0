"""Long prompts: waited for, followed, queued, cancelled; with both protocol eras."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client
from mcp.types import CallToolResult

from claude_mcp.config import Config
from claude_mcp.server.app import build
from tests.unit import fake_engine, wire
from tests.unit.server.answers import content, text
from tests.unit.wire import TURN

WAIT = (
    'get_turn with sessionId "{}" and turnId "{}" waits for the result; cancel_turn interrupts it.'
)

pytestmark = pytest.mark.anyio

CALL = wire.event(1, "tool_call", "Bash: ls")
OUTPUT = wire.event(2, "tool_result", "one\ntwo", 6)


@pytest.fixture(params=["legacy", "auto"])
async def client(config: Config, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    era: Literal["legacy", "auto"] = request.param
    async with Client(build(config), mode=era) as client:
        yield client


async def hang(client: Client, session: str, **more: Any) -> CallToolResult:
    """Start a prompt that is still running when the wait ends."""
    arguments = {"sessionId": session, "prompt": "hang", "waitSeconds": 0, "turnId": TURN, **more}
    return await client.call_tool("execute_in_session", arguments)


async def test_a_prompt_that_takes_longer_is_left_running_and_followed(
    client: Client, session: str
) -> None:
    left = await hang(client, session)
    assert content(left) == wire.turn(session)
    assert text(left).splitlines() == [
        f"[running for 0 s: turn {TURN}]",
        f"Next: {WAIT.format(session, TURN)}",
    ]
    arguments = {"sessionId": "fix-tests", "waitSeconds": 1}
    followed = await client.call_tool("get_turn", arguments)
    assert content(followed) == wire.turn(session, events=[CALL, OUTPUT])
    assert text(followed).splitlines()[1:-1] == [
        "",
        "1 2026-01-02T03:04:05Z tool_call: Bash: ls",
        "2 2026-01-02T03:04:05Z tool_result: one",
        "two [... 6 more characters: event 2]",
        "End of events; continue with cursor 2.",
    ]


async def test_a_cursor_returns_later_events_without_waiting_if_there_are_any(
    client: Client, session: str
) -> None:
    await hang(client, session)
    arguments = {"sessionId": session, "turnId": TURN, "cursor": 1}
    read = content(await client.call_tool("get_turn", arguments))
    assert read == wire.turn(session, events=[OUTPUT])
    arguments = {"sessionId": session, "turnId": TURN, "cursor": 2, "waitSeconds": 0}
    assert content(await client.call_tool("get_turn", arguments)) == wire.turn(session, events=[])


async def test_one_event_is_returned_in_full_without_waiting(client: Client, session: str) -> None:
    await hang(client, session)
    one = await client.call_tool("get_turn", {"sessionId": session, "event": 2})
    whole = {**OUTPUT, "text": "one\ntwo\nthree", "leftOut": 0}
    assert content(one) == wire.turn(session, events=[whole])
    gone = await client.call_tool("get_turn", {"sessionId": session, "event": 3})
    assert (gone.is_error, text(gone)) == (
        True,
        "Session 'fix-tests' has no event 3.\n"
        "Old events are removed when the journal is full; results are kept.",
    )


async def test_a_turn_is_cancelled_and_stays_so(
    client: Client, session: str, program: Path
) -> None:
    await hang(client, session)
    cancelled = await client.call_tool("cancel_turn", {"sessionId": "fix-tests"})
    assert content(cancelled) == {"sessionId": session, "turnId": TURN, "status": "cancelled"}
    assert text(cancelled).splitlines()[0] == f"Turn {TURN} is cancelled."
    again = await client.call_tool("cancel_turn", {"sessionId": session, "turnId": TURN})
    assert content(again) == content(cancelled)
    found = content(await client.call_tool("get_turn", {"sessionId": session, "turnId": TURN}))
    error = "The turn was cancelled."
    assert found == wire.turn(session, status="cancelled", error=error, events=[])
    assert fake_engine.calls(program).count("interrupted") == 1


async def test_an_ended_turn_is_not_cancelled(client: Client, session: str) -> None:
    arguments = {"sessionId": session, "prompt": "hello", "turnId": TURN}
    await client.call_tool("execute_in_session", arguments)
    late = await client.call_tool("cancel_turn", {"sessionId": session, "turnId": TURN})
    assert text(late).splitlines()[0] == f"Turn {TURN} had already ended: completed."
    nothing = await client.call_tool("cancel_turn", {"sessionId": session})
    assert content(nothing)["turnId"] is None
    assert text(nothing).splitlines()[0] == "No turn was interrupted."


async def test_a_busy_session_refuses_a_second_prompt_or_queues_it(
    client: Client, session: str
) -> None:
    await hang(client, session)
    arguments = {"sessionId": session, "prompt": "hello"}
    refused = await client.call_tool("execute_in_session", arguments)
    assert (refused.is_error, text(refused).splitlines()[0]) == (
        True,
        f"The session is busy with turn {TURN}.",
    )
    other = str(uuid.uuid4())
    waiting = await hang(client, session, turnId=other, whenBusy="wait")
    note = "1 prompt is ahead of this one."
    assert content(waiting) == wire.turn(session, turnId=other, status="queued", notes=[note])
    assert text(waiting).splitlines()[-2:] == [
        f"Note: {note}",
        f"Next: {WAIT.format(session, other)}",
    ]


async def test_the_same_turn_id_is_the_same_turn_and_never_another_prompt(
    client: Client, session: str
) -> None:
    assert content(await hang(client, session)) == content(await hang(client, session))
    other = await hang(client, session, prompt="something else")
    assert (other.is_error, text(other)) == (
        True,
        f"The id {TURN} was used for another prompt.\n"
        "Repeat a turn with its own prompt, or leave the id out.",
    )


async def test_a_session_without_a_turn_says_so(client: Client, session: str) -> None:
    nothing = await client.call_tool("get_turn", {"sessionId": "fix-tests"})
    unknown = await client.call_tool("get_turn", {"sessionId": "fix-tests", "turnId": TURN})
    assert (text(nothing), text(unknown)) == (
        "Session 'fix-tests' has no turn yet.",
        f"Session 'fix-tests' has no turn {TURN}.",
    )
    assert nothing.is_error
    assert unknown.is_error


async def test_a_note_of_the_session_reaches_the_caller(client: Client, session: str) -> None:
    arguments = {"sessionId": session, "prompt": "note"}
    noted = await client.call_tool("execute_in_session", arguments)
    note = "Claude Code was restarted: it was idle."
    assert content(noted)["notes"] == [note]
    assert text(noted).splitlines()[-1] == f"Note: {note}"


async def test_turns_are_listed_in_parts(config: Config, session: str) -> None:
    async with Client(build(config)) as client:
        for number in (1, 2):
            turn = f"6b0b0f3e-0000-4000-8000-00000000000{number}"
            arguments = {"sessionId": session, "prompt": "note", "turnId": turn}
            await client.call_tool("execute_in_session", arguments)
        first = await client.call_tool("list_turns", {"sessionId": session, "limit": 1})
        newest = {
            "turnId": turn, "status": "completed", "at": "2026-01-02T03:04:05Z", "prompt": "do it",
            "costUsd": 0.5, "durationMs": 0, "error": None,
        }  # fmt: skip
        assert content(first)["turns"] == [newest]
        cursor = content(first)["cursor"]
        rest = await client.call_tool("list_turns", {"sessionId": session, "cursor": cursor})
        assert [each["turnId"][-1] for each in content(rest)["turns"]] == ["1"]
        assert content(rest)["cursor"] is None
        assert text(rest).splitlines()[0] == (
            "6b0b0f3e-0000-4000-8000-000000000001 2026-01-02T03:04:05Z completed, $0.5000: do it"
        )
        refused = await client.call_tool("list_turns", {"sessionId": session, "cursor": "x"})
        assert "cursor must be the cursor of an earlier answer" in text(refused)
