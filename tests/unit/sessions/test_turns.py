"""Prompts: what is refused before, what is asked of the agent, and what it may answer."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.errors import SessionNotReady, UsageError
from claude_mcp.sessions.channel import AgentRefused
from claude_mcp.sessions.labels import CredentialSource, Session, Status
from claude_mcp.sessions.lifecycle import Sessions
from claude_mcp.sessions.turns import (
    PermissionDenial,
    TurnOptions,
    TurnResult,
    TurnStatus,
    parse_result,
    prompt,
)
from tests.unit.sessions.conftest import container

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine

TURN = "0b3d3b4e-0000-4000-8000-000000000000"
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
NOTHING = TurnResult(
    session=SESSION,
    turn_id=TURN,
    status=TurnStatus.FAILED,
    result=None,
    error=None,
    conversation_id=None,
    num_turns=0,
    duration_ms=0,
    cost_usd=0,
    usage={},
    permission_denials=(),
)
ANSWER = {
    "status": "completed",
    "result": "done with sk-of-the-server",
    "error": None,
    "conversationId": "c-1",
    "numTurns": 2,
    "durationMs": 5,
    "costUsd": 0.25,
    "usage": {"input_tokens": 3},
    "permissionDenials": [{"toolName": "Bash", "toolInput": {"command": "rm x"}}],
}


@pytest.fixture
def engine(scripted: ScriptedEngine, sessions: Sessions) -> ScriptedEngine:
    scripted.holds(container("abcd1", "fix"))
    return scripted


@pytest.mark.parametrize(
    ("text", "options", "turn_id", "message"),
    [
        ("", {}, None, "The prompt is empty."),
        (" \n", {}, None, "The prompt is empty."),
        ("a\ud800", {}, None, "The prompt must be valid Unicode."),
        (
            "x" * (8 * 1024 * 1024 + 1),
            {},
            None,
            "The prompt has 8388609 bytes; at most 8388608 are taken.",
        ),
        ("a", {"max_turns": 0}, None, "maxTurns must be at least 1."),
        ("a", {"max_budget_usd": 0}, None, "maxBudgetUsd must be more than 0."),
        ("a", {"max_budget_usd": float("nan")}, None, "maxBudgetUsd must be more than 0."),
        ("a", {}, "one", "turnId must be a UUID, and 'one' is not."),
        ("a", {}, "", "turnId must be a UUID, and '' is not."),
        ("a", {}, "x" * 99, f"turnId must be a UUID, and {'x' * 60!r} is not."),
    ],
)
async def test_a_prompt_that_cannot_be_sent_is_refused_without_a_call(
    engine: ScriptedEngine,
    sessions: Sessions,
    text: str,
    options: dict[str, Any],
    turn_id: str | None,
    message: str,
) -> None:
    with pytest.raises(UsageError) as caught:
        await prompt(sessions, "fix", text, options=TurnOptions(**options), turn_id=turn_id)
    assert str(caught.value) == message
    assert engine.calls == []


async def test_a_prompt_is_answered_with_its_result_and_its_progress_is_told(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(
        "number = request()['id']\n"
        "for line in ('Bash: echo sk-of-the-server', 3, None, 'Edit: x'):\n"
        "    answer(number, event={'progress': line})\n"
        "answer(number, event={})\n"
        f"answer(number, ok={ANSWER!r})\nrequest()"
    )
    told: list[str] = []

    async def progress(line: str) -> None:
        told.append(line)

    assert await prompt(
        sessions, "fix", "do it", turn_id=TURN.upper(), progress=progress
    ) == TurnResult(
        session=SESSION,
        turn_id=TURN,
        status=TurnStatus.COMPLETED,
        result="done with [redacted]",
        error=None,
        conversation_id="c-1",
        num_turns=2,
        duration_ms=5,
        cost_usd=0.25,
        usage={"input_tokens": 3},
        permission_denials=(PermissionDenial("Bash", {"command": "rm x"}),),
    )
    assert told == ["Bash: echo [redacted]", "Edit: x"]


async def test_the_agent_is_asked_with_every_option(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(
        "for line in sys.stdin:\n"
        "    one = json.loads(line); answer(one['id'], ok={'result': json.dumps(one['args'])})"
    )
    plain = await prompt(sessions, "fix", "--x")
    full = await prompt(
        sessions,
        "fix",
        "/clear",
        options=TurnOptions((), "big", 3, 0.5, new_conversation=True),
        turn_id=TURN,
    )
    assert json.loads(plain.result or "") == {
        "turnId": str(uuid.UUID(plain.turn_id)),
        "prompt": "--x",
        "tools": None,
        "model": None,
        "maxTurns": None,
        "maxBudgetUsd": None,
        "newConversation": False,
    }
    assert json.loads(full.result or "") == {
        "turnId": TURN,
        "prompt": "/clear",
        "tools": [],
        "model": "big",
        "maxTurns": 3,
        "maxBudgetUsd": 0.5,
        "newConversation": True,
    }


async def test_a_busy_session_names_the_turn_that_runs(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent("answer(request()['id'], error={'code': 'busy', 'message': 't-1'}); request()")
    with pytest.raises(SessionNotReady) as caught:
        await prompt(sessions, "fix", "do it")
    assert str(caught.value) == (
        "The session is busy with turn t-1. One prompt at a time: wait for it to end, or use "
        "another session."
    )


UNCONFIGURED = "answer(request()['id'], error={'code': 'unconfigured', 'message': 'x'})\n"


async def test_a_session_that_lost_its_credentials_gets_the_servers_again(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(
        UNCONFIGURED + "configure = request(); answer(configure['id'], ok={})\n"
        "answer(request()['id'], ok={'result': json.dumps(configure)})\nrequest()"
    )
    result = await prompt(sessions, "fix", "do it")
    assert result.result is not None
    assert '"op": "configure"' in result.result
    assert '{"kind": "apiKey", "value": "[redacted]"}' in result.result


async def test_a_session_that_lost_credentials_of_its_own_does_not_get_the_servers(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    own = container("abcd1", "fix")
    own["labels"]["claude-mcp.credentials"] = "session"
    engine.holds(own)
    engine.agent(UNCONFIGURED + "sys.exit(99 if sys.stdin.readline() else 0)")
    with pytest.raises(SessionNotReady, match="has lost its credentials"):
        await prompt(sessions, "fix", "do it")


async def test_another_refusal_of_the_agent_stays_one(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent("answer(request()['id'], error={'code': 'failed', 'message': 'x'}); request()")
    with pytest.raises(AgentRefused, match=r"^x$"):
        await prompt(sessions, "fix", "do it")


@pytest.mark.parametrize(
    ("answer", "parsed"),
    [
        ({}, {}),
        ({"status": "completed"}, {"status": TurnStatus.COMPLETED}),
        ({"status": "cancelled"}, {"status": TurnStatus.CANCELLED}),
        ({"status": "something else"}, {}),
        ({"status": ["completed"]}, {}),
        ({"result": 3, "error": {}, "conversationId": []}, {}),
        ({"numTurns": "3", "durationMs": None, "costUsd": "free"}, {}),
        ({"numTurns": True, "durationMs": -1, "costUsd": [0]}, {}),
        ({"numTurns": float("nan"), "durationMs": float("inf"), "costUsd": float("nan")}, {}),
        ({"numTurns": 10**400, "durationMs": 1e300, "costUsd": 10**400}, {}),
        ({"numTurns": 2.9, "costUsd": 1}, {"num_turns": 2, "cost_usd": 1.0}),
        ({"usage": []}, {}),
        ({"usage": {"a": "b", "c": None, "d": True, "e": -1, "f": 7}}, {"usage": {"f": 7}}),
        ({"usage": {"a": float("inf"), "b": 10**400}}, {}),
        ({"permissionDenials": {}}, {}),
        ({"permissionDenials": [3, None, [], {"toolInput": 3}, {"toolInput": [1]}]}, {}),
        (
            {"permissionDenials": [{}, {"toolName": 3, "toolInput": None}]},
            {"permission_denials": (PermissionDenial("", {}), PermissionDenial("3", {}))},
        ),
        ({"turnId": "another", "session": "another"}, {}),
    ],
)
def test_an_answer_may_be_forged(answer: dict[str, Any], parsed: dict[str, Any]) -> None:
    expected = {field: getattr(NOTHING, field) for field in NOTHING.__slots__}
    assert parse_result(SESSION, TURN, answer) == TurnResult(**{**expected, **parsed})
