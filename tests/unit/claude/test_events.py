"""What a turn tells those who follow it."""

from __future__ import annotations

from typing import Any

import pytest

from claude_mcp.claude.events import HEADLINE_CHARACTERS, Event, events_of, headline
from claude_mcp.claude.protocol import (
    ApiRetry,
    Assistant,
    BackgroundTasks,
    ControlRequest,
    ControlResponse,
    Frame,
    Init,
    Lifecycle,
    Other,
    Replay,
    Result,
    TaskStarted,
    ToolResult,
    ToolResults,
    ToolUse,
)


def use(name: str, **tool_input: Any) -> Assistant:
    return Assistant(tool_uses=(ToolUse(name, tool_input),))


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (use("Bash", command="ls -la"), "Bash: ls -la"),
        (
            use("Bash", command="ls -la", description="List", timeout=3),
            'Bash: ls -la\n{"description": "List", "timeout": 3}',
        ),
        (use("Bash", command="\n cat <<E\nx\nE"), "Bash: \n cat <<E\nx\nE"),
        (use("Read", file_path="/workspace/src/greet.py"), "Read: src/greet.py"),
        (use("Read", file_path="/workspaces/a"), "Read: /workspaces/a"),
        (use("Read", file_path="/workspace"), "Read: /workspace"),
        (
            use("Edit", file_path="/workspace/a", old_string="é", new_string="e"),
            'Edit: a\n{"old_string": "é", "new_string": "e"}',
        ),
        (use("Bash", command="/workspace/run"), "Bash: /workspace/run"),
        (
            use("Grep", pattern="x.*y", path="/workspace/src"),
            'Grep: x.*y\n{"path": "/workspace/src"}',
        ),
        (use("LS", path="/workspace/src"), "LS: src"),
        (use("NotebookEdit", notebook_path="/workspace/n.ipynb"), "NotebookEdit: n.ipynb"),
        (
            use("WebFetch", url="https://example.org/", prompt="p"),
            'WebFetch: https://example.org/\n{"prompt": "p"}',
        ),
        (use("Agent", prompt="long", description="Find it"), 'Agent: Find it\n{"prompt": "long"}'),
        (use("mcp__x__y", other={"a": 1}), 'mcp__x__y\n{"other": {"a": 1}}'),
        (use("mcp__x__y"), "mcp__x__y"),
        (use("Bash", command=["not", "text"]), 'Bash\n{"command": ["not", "text"]}'),
        (use("Bash", command=""), "Bash: "),
    ],
)
def test_a_tool_call_shows_its_main_argument_first(frame: Frame, text: str) -> None:
    assert events_of(frame) == (Event("tool_call", text),)


def test_paths_are_shown_relative_to_the_workspace() -> None:
    frame = use("Read", file_path="/home/me/project/a")
    for workspace in ("/home/me/project", "/home/me/project/"):
        assert events_of(frame, workspace) == (Event("tool_call", "Read: a"),)


@pytest.mark.parametrize(
    ("frame", "events"),
    [
        (
            Assistant(("First,\nsecond.", " \n", ""), (ToolUse("Bash"), ToolUse("Read"))),
            (
                Event("message", "First,\nsecond."),
                Event("tool_call", "Bash"),
                Event("tool_call", "Read"),
            ),
        ),
        (
            ToolResults((ToolResult("out"), ToolResult("no", is_error=True))),
            (Event("tool_result", "out"), Event("tool_error", "no")),
        ),
        (ToolResults((ToolResult(""),)), (Event("tool_result", ""),)),
        (ApiRetry(2, 10, 429), (Event("api_retry", "API retry 2 of 10 (429)"),)),
        (ApiRetry(1, 10), (Event("api_retry", "API retry 1 of 10"),)),
        (Assistant(), ()),
        (Init("c1"), ()),
        (Replay("u"), ()),
        (Result("c1", is_error=False, text="done"), ()),
        (ControlRequest("r", "can_use_tool"), ()),
        (ControlResponse("r"), ()),
        (Lifecycle("u", "started"), ()),
        (TaskStarted("b"), ()),
        (BackgroundTasks(("b",)), ()),
        (Other("system", "status"), ()),
    ],
)
def test_frames_become_events(frame: Frame, events: tuple[Event, ...]) -> None:
    assert events_of(frame) == events


def test_events_are_complete_and_do_not_change_the_frame() -> None:
    frame = use("Write", file_path="/workspace/a", content="x" * 3_000_000)
    (event,) = events_of(frame)
    assert event.text == 'Write: a\n{"content": "' + "x" * 3_000_000 + '"}'
    assert frame == use("Write", file_path="/workspace/a", content="x" * 3_000_000)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        (" \n\t\r\n", ""),
        ("First line. \nSecond", "First line."),
        ("\n\n  spaced \t out  ", "spaced out"),
        ("\x00\n\x1b\nwords", "words"),
        ("\x1b[31mred\x07\u202e\u200b end", "[31mred end"),
        ("one\u2028two", "one"),
        ("é 😀", "é 😀"),
        ("x" * HEADLINE_CHARACTERS, "x" * HEADLINE_CHARACTERS),
        ("x" * (HEADLINE_CHARACTERS + 1), "x" * (HEADLINE_CHARACTERS - 1) + "…"),
        ("x" * 1_000_000, "x" * (HEADLINE_CHARACTERS - 1) + "…"),
        ("\n" * 1_000_000 + "far behind", ""),
    ],
)
def test_a_headline_is_the_first_line_with_words_shortened_and_sanitized(
    text: str, line: str
) -> None:
    assert headline(text) == line
