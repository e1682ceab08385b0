"""What a turn tells those who follow it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from claude_mcp.claude.events import HEADLINE_CHARACTERS, Event, events_of, headline, waiting_note
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
        (ApiRetry(2, 10, 429), (Event("api_retry", "API retry 2 of 10: HTTP 429"),)),
        (
            ApiRetry(7, 10, 403, "authentication_failed", 36.281, "The security token is invalid."),
            (
                Event(
                    "api_retry",
                    "API retry 7 of 10 in 36 s: HTTP 403, The security token is invalid.",
                ),
            ),
        ),
        (
            ApiRetry(1, 10, 529, "rate_limit", 0.5),
            (Event("api_retry", "API retry 1 of 10: HTTP 529, rate limit"),),
        ),
        (
            ApiRetry(1, 10, None, "unknown", 2.0, "Connection error."),
            (Event("api_retry", "API retry 1 of 10 in 2 s: Connection error."),),
        ),
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


@pytest.mark.parametrize(
    ("retry", "elapsed", "note"),
    [
        (
            ApiRetry(7, 10, 403, "", 36.0, "The token is invalid."),
            6.0,
            "The provider fails: HTTP 403, The token is invalid. Retry 7 of 10 follows in 30 s. If "
            "it keeps failing, the turn ends within about 150 s.",
        ),
        (
            ApiRetry(8, 10, None, "unknown", 1.0),
            5.0,
            "The provider fails. Retry 8 of 10 is being tried. If it keeps failing, the turn ends "
            "within about 7 s.",
        ),
        (
            ApiRetry(10, 10, 429, "rate_limit", 300.0),
            0.0,
            "The provider fails: HTTP 429, rate limit. Retry 10 of 10 follows in 300 s. If it "
            "keeps failing, the turn ends within about 300 s.",
        ),
    ],
)
def test_a_turn_that_waits_for_a_failing_provider_says_for_what_and_how_long(
    retry: ApiRetry, elapsed: float, note: str
) -> None:
    assert waiting_note(retry, elapsed) == note
    forged = replace(retry, attempt=0, max_retries=2**53)
    assert waiting_note(forged, elapsed)
