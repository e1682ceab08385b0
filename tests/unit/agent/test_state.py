"""What the agent remembers across a restart of the container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_mcp.agent.contract import STATE_FILE
from claude_mcp.agent.state import State, log


def test_a_new_state_remembers_nothing_in_a_directory_of_its_own(tmp_path: Path) -> None:
    state = State(str(tmp_path / "new" / "directory"))
    assert (state.abandoned, state.conversation_id, state.cost_usd) == (False, None, 0.0)
    assert (tmp_path / "new" / "directory").stat().st_mode & 0o777 == 0o700


def test_what_was_remembered_is_there_again(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text('{"committed": true}')  # as the start of a session leaves it
    state = State(str(tmp_path))
    state.conversation_id = "c-1"
    state.add_reported_cost("c-1", 0.5)
    again = State(str(tmp_path))
    assert (again.abandoned, again.conversation_id, again.cost_usd) == (False, "c-1", 0.5)
    again.conversation_id = None
    assert State(str(tmp_path)).conversation_id is None
    assert os.listdir(tmp_path) == [STATE_FILE]


@pytest.mark.parametrize("content", ["", "{", '{"committed": tr', "\0", '"committed"', "[1]", "3"])
def test_a_damaged_state_is_a_new_one(tmp_path: Path, content: str) -> None:
    (tmp_path / STATE_FILE).write_text(content)
    state = State(str(tmp_path))
    assert (state.abandoned, state.conversation_id, state.cost_usd) == (False, None, 0.0)


@pytest.mark.parametrize(
    "content",
    [
        '{"abandoned": 1, "conversationId": 3, "costUsd": "much", "reported": "x"}',
        '{"abandoned": "true", "conversationId": [], "costUsd": null, "reported": []}',
        '{"abandoned": null, "conversationId": {}, "costUsd": [1], "reported": ["c-1", "x"]}',
        '{"reported": {"c-1": 3}}',
    ],
)
def test_what_the_session_wrote_into_its_own_state_does_no_harm(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / STATE_FILE).write_text(content)
    state = State(str(tmp_path))
    assert (state.abandoned, state.conversation_id, state.cost_usd) == (False, None, 0.0)
    assert state.add_reported_cost("c-1", 0.25) == 0.25
    assert state.cost_usd == 0.25


def test_a_cost_that_counts_over_a_conversation_is_booked_once(tmp_path: Path) -> None:
    state = State(str(tmp_path))
    reported = [("c-1", 0.25), ("c-1", 0.75), ("c-1", 0.75), ("c-2", 1.0), ("c-2", 0.5)]
    # The last one began again: an older Claude Code, or another process.
    assert [state.add_reported_cost(*each) for each in reported] == [0.25, 0.5, 0.0, 1.0, 0.5]
    assert state.cost_usd == 2.25


def test_a_log_line_shows_where_the_next_one_begins(capsys: pytest.CaptureFixture[str]) -> None:
    log("one\ntwo")
    log("three")
    assert capsys.readouterr().err == "one\n  two\nthree\n"
