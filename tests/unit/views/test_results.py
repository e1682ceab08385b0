"""A turn's JSON form; test_app covers that of the other results."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_mcp.credentials import Secret
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns.results import (
    Event,
    PermissionDenial,
    Question,
    TurnResult,
    TurnStatus,
)
from claude_mcp.views.turns import CancelResult, EventEntry, PromptResult, TurnView
from tests.unit import wire
from tests.unit.wire import TURN

SESSION = Session(
    id="0123456789ab",
    container_id="0123456789ab" * 5 + "0123",
    name="fix-tests",
    container_name="claude-mcp-fix-tests",
    project_path="/src/project",
    image="image:1",
    provider="anthropic",
    credentials=CredentialSource.SERVER,
    status=Status.RUNNING,
    created_at="2026-01-02T03:04:05Z",
)
RUNNING = TurnResult(session=SESSION, turn_id=TURN, status=TurnStatus.RUNNING)
EMPTY = wire.turn("0123456789ab", cursor=0)


def test_a_running_turn_has_every_field_all_empty() -> None:
    assert PromptResult.of(RUNNING).wire() == EMPTY
    assert TurnView.of(RUNNING).wire() == {**EMPTY, "events": []}


def test_an_ended_turn_is_shown_in_full() -> None:
    Secret("sk-ant-in-a-result-0123")
    turn = TurnResult(
        session=SESSION,
        turn_id=TURN,
        status=TurnStatus.COMPLETED,
        result="It is sk-ant-in-a-result-0123.",
        error="none \ud800",
        conversation_id="c-1",
        num_turns=2,
        duration_ms=1500,
        cost_usd=0.01234567,
        usage={"input_tokens": 3, "cache_read_input_tokens": 4},
        permission_denials=(
            PermissionDenial("Bash", {"command": ["cat", "sk-ant-in-a-result-0123"]}),
        ),
        questions=(Question("q1", "Bash", {"command": "sk-ant-in-a-result-0123"}, "why"),),
        notes=("It has sk-ant-in-a-result-0123.",),
        events=(Event(7, "then", "message", "x\udfff sk-ant-in-a-result-0123", 3),),
        cursor=9,
        model="claude-opus-4-5",
    )
    told = {
        "sessionId": "0123456789ab",
        "turnId": TURN,
        "status": "completed",
        "result": "It is [redacted].",
        "error": "none ?",
        "conversationId": "c-1",
        "numTurns": 2,
        "durationMs": 1500,
        "costUsd": 0.012346,
        "usage": {"inputTokens": 3, "cacheReadInputTokens": 4},
        "permissionDenials": [
            {
                "toolName": "Bash",
                "toolInput": {"command": ["cat", "[redacted]"]},
                "reason": None,
            }
        ],
        "questions": [
            {
                "requestId": "q1",
                "kind": "permission",
                "toolName": "Bash",
                "toolInput": {"command": "[redacted]"},
                "description": "why",
            }
        ],
        "notes": ["It has [redacted]."],
        "cursor": 9,
        "model": "claude-opus-4-5",
        "lastStep": None,
        "retryAt": None,
        "needsNewConversation": False,
        "nextOffset": None,
    }
    event = {
        "number": 7, "time": "then", "kind": "message", "text": "x? [redacted]", "leftOut": 3
    }  # fmt: skip
    assert PromptResult.of(turn).wire() == told
    assert TurnView.of(turn).wire() == {**told, "events": [event]}
    assert EventEntry.of(turn.events[0]).wire() == event


def test_a_queued_turn_notes_how_many_are_ahead() -> None:
    waiting = replace(RUNNING, ahead=2, notes=("It was started again.",))
    assert PromptResult.of(waiting).notes == [
        "It was started again.",
        "2 prompts are ahead of this one.",
    ]


@pytest.mark.parametrize("status", TurnStatus)
def test_a_cancellation_is_the_turn_s_id_and_status(status: TurnStatus) -> None:
    assert CancelResult.of("0123456789ab", replace(RUNNING, status=status)).wire() == {
        "sessionId": "0123456789ab",
        "turnId": TURN,
        "status": status.value,
    }


def test_a_cancellation_of_nothing_names_no_turn() -> None:
    assert CancelResult.of("0123456789ab", None).wire() == {
        "sessionId": "0123456789ab",
        "turnId": None,
        "status": None,
    }
