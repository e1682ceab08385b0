"""Whatever Claude Code, or who forges its output, writes: a frame or none, and never a crash.

Some inputs each; with CLAUDE_MCP_STRESS, 100,000.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from claude_mcp.claude import protocol
from claude_mcp.claude.events import events_of, headline
from claude_mcp.contract.framing import Splitter
from tests.unit.dice import INPUTS, Dice

pytestmark = pytest.mark.timeout(600)

BLOCKS = [
    {"type": "text", "text": "said"},
    {"type": "thinking", "thinking": "hm"},
    {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls", "n": 1}},
    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "out"}]},
    {"type": "tool_result", "tool_use_id": "t", "content": "out", "is_error": True},
]
FRAMES: list[dict[str, Any]] = [
    {"type": "system", "subtype": "init", "session_id": "c", "model": "m", "tools": ["Bash"],
     "mcp_servers": [{"name": "a", "status": "failed", "error": "e"}], "cwd": "/"},
    {"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 3, "delay_ms": 5},
    {"type": "system", "subtype": "task_started", "task_id": "t"},
    {"type": "system", "subtype": "background_tasks_changed", "tasks": [{"task_id": "t"}]},
    {"type": "command_lifecycle", "state": "started", "command_uuid": "u"},
    {"type": "assistant", "message": {"content": BLOCKS}, "parent_tool_use_id": None},
    {"type": "user", "message": {"content": BLOCKS}},
    {"type": "user", "uuid": "u", "isReplay": True, "message": {"content": "p"}},
    {"type": "control_request", "request_id": "r",
     "request": {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}}},
    {"type": "control_cancel_request", "request_id": "r"},
    {"type": "control_response", "response": {"subtype": "success", "request_id": "r",
     "response": {"mcpServers": [{"name": "a", "status": "pending"}]}}},
    {"type": "result", "subtype": "success", "is_error": False, "result": "done",
     "session_id": "c", "num_turns": 2, "duration_ms": 5, "total_cost_usd": 0.2,
     "usage": {"input_tokens": 3}, "errors": ["e"], "user_message_uuids": ["u"],
     "permission_denials": [{"tool_name": "Bash", "tool_input": {"command": "ls"}}]},
]  # fmt: skip


def test_any_line_parses_to_a_frame_or_none() -> None:
    dice = Dice(1)
    frames = 0
    for _ in range(INPUTS):
        frame = protocol.parse_line(dice.line(FRAMES))
        if frame is None:
            continue
        frames += 1
        for event in events_of(frame, "/workspace"):
            assert isinstance(event.kind, str)
            assert isinstance(event.text, str)
            assert "\n" not in headline(event.text)
        if isinstance(frame, protocol.ControlResponse):
            assert all(isinstance(each.name, str) for each in protocol.mcp_servers(frame))
        if isinstance(frame, protocol.Result):
            assert frame.cost_usd >= 0
    assert frames > INPUTS / 2


def test_lines_do_not_depend_on_chunk_boundaries() -> None:
    dice = Dice(2)
    for _ in range(INPUTS // 20):
        data = b"".join(dice.line(FRAMES) + b"\n" for _ in range(20))
        splitter, at = Splitter(len(data)), 0
        found: list[bytes] = []
        while at < len(data):
            size = dice.random.choice((1, 7, 100, 5000))
            found += splitter.feed(data[at : at + size])
            at += size
        assert found == data.split(b"\n")[:-1]
        assert splitter.pending == 0


def test_memory_does_not_grow_with_the_number_of_frames() -> None:
    dice = Dice(3)
    lines = [dice.line(FRAMES) for _ in range(500)]
    for line in lines:
        protocol.parse_line(line)
    tracemalloc.start()
    try:
        for _ in range(10):
            for line in lines:
                protocol.parse_line(line)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000
