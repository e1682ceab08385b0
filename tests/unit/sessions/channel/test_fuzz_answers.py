"""Whatever a session's agent, or who forges it, answers: a value of ours or an error of ours.

Some inputs each; with CLAUDE_MCP_STRESS, 100,000.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import pytest

from claude_mcp.contract import operations
from claude_mcp.errors import ClaudeMcpError
from claude_mcp.sessions import command_state
from claude_mcp.sessions.channel import channel
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns import results as turn_results
from claude_mcp.views.commands import CommandOutcome
from claude_mcp.views.turns import PromptResult, TurnView
from tests.unit.dice import INPUTS, Dice

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

SESSION = Session(
    id="ab12",
    container_id="ab12" * 16,
    name="one",
    container_name="claude-mcp-one",
    project_path="/srv/one",
    image="image",
    provider="anthropic",
    credentials=CredentialSource.SERVER,
    status=Status.RUNNING,
    created_at="2026-01-01T00:00:00Z",
)
TURN_ID = "0a3b1c52-5b0e-4c8e-9d0b-0d9a4a0b7c11"
EVENT = {"number": 1, "time": "t", "turnId": TURN_ID, "kind": "message", "text": "x", "leftOut": 0}
QUESTION = {"requestId": "q", "toolName": "Bash", "toolInput": {"command": "ls"},
            "description": None}  # fmt: skip
TURNS: list[dict[str, Any]] = [
    {"status": "completed", "result": "done", "error": None, "conversationId": "c",
     "numTurns": 1, "durationMs": 5, "costUsd": 0.1, "usage": {"input_tokens": 1},
     "permissionDenials": [{"toolName": "Bash", "toolInput": {"command": "ls"}}],
     "notes": ["n"], "events": [EVENT], "cursor": 1, "turnId": TURN_ID},
    {"status": "running", "ahead": 1, "notes": [], "events": [EVENT], "cursor": 1,
     "turnId": TURN_ID},
    {"status": "needs_permission", "ahead": 0, "notes": [], "questions": [QUESTION],
     "events": [], "cursor": 0, "turnId": TURN_ID},
]  # fmt: skip
COMMANDS: list[dict[str, Any]] = [
    {"exitCode": 0, "stdout": "out", "stderr": "", "stdoutBytes": 3, "stderrBytes": 0,
     "durationMs": 5, "timedOut": False, "cancelled": False, "notes": ["n"]},
]  # fmt: skip


def test_every_answer_about_a_turn_is_a_turn_or_our_error() -> None:
    dice = Dice(1)
    read = 0
    for _ in range(INPUTS):
        answer = dice.bent(dice.random.choice(TURNS))
        if not isinstance(answer, dict):
            continue
        try:
            turn = turn_results.parse_result(SESSION, TURN_ID, answer)
        except ClaudeMcpError:
            continue
        read += 1
        json.dumps(PromptResult.of(turn).wire(), allow_nan=False).encode()
        json.dumps(TurnView.of(turn).wire(), allow_nan=False).encode()
    assert read > INPUTS / 20


def test_every_answer_about_a_command_is_a_result_or_our_error() -> None:
    dice = Dice(2)
    read = 0
    for _ in range(INPUTS):
        answer = dice.bent(dice.random.choice(COMMANDS))
        if not isinstance(answer, dict):
            continue
        try:
            result = command_state.parse_result(SESSION, answer, 1000)
        except ClaudeMcpError:
            continue
        read += 1
        json.dumps(CommandOutcome.of(result).wire(), allow_nan=False).encode()
    assert read > INPUTS / 20


class Pending:
    """A request that waits for its answer on a channel."""

    def __init__(self) -> None:
        self.send, self.receive = anyio.create_memory_object_stream[operations.Answer](5_000)


async def test_every_line_on_a_channel_is_somebodys_answer_or_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    dice = Dice(3)
    samples = [{"id": 1, "event": {"progress": "x"}}, {"id": 1, "ok": {}},
               {"id": 2, "error": {"code": "c", "message": "m"}}]  # fmt: skip
    made = channel.Channel.__new__(channel.Channel)
    pending = Pending()
    made._pending = {1: pending}  # type: ignore[dict-item]
    made._opened = anyio.Event()
    got = 0
    for _ in range(INPUTS):
        made._dispatch(dice.line(samples))
        while pending.receive.statistics().current_buffer_used:
            message = pending.receive.receive_nowait()
            assert message.id == 1
            got += 1
    pending.send.close()
    pending.receive.close()
    assert got > INPUTS / 4
