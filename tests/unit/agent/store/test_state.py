"""What the agent remembers across a restart of the container."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from claude_mcp.agent.store.state import State, log
from claude_mcp.contract.places import STATE_FILE

PATIENCE_SECONDS = 60.0
NOTHING = (False, None, 0.0, None, 0.0, 0.0)


def remembered(state: State) -> tuple[object, ...]:
    return (
        state.abandoned,
        state.conversation_id,
        state.cost_usd,
        state.latest_turn,
        state.saved_cost("c-1"),
        state.saved_cost(None),
    )


def test_a_new_state_remembers_nothing_in_a_directory_of_its_own(tmp_path: Path) -> None:
    state = State(str(tmp_path / "new" / "directory"))
    assert remembered(state) == NOTHING
    assert (tmp_path / "new" / "directory").stat().st_mode & 0o777 == 0o700


def test_what_was_remembered_is_there_again(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text('{"committed": true}')  # as the start of a session leaves it
    state = State(str(tmp_path))
    state.conversation_id = "c-1"
    state.latest_turn = "t-1"
    state.add_cost(0.5)
    state.save_cost("c-1", 0.75)
    again = State(str(tmp_path))
    assert remembered(again) == (False, "c-1", 0.5, "t-1", 0.75, 0.0)
    again.conversation_id = None
    assert remembered(State(str(tmp_path))) == (False, None, 0.5, "t-1", 0.75, 0.0)
    assert os.listdir(tmp_path) == [STATE_FILE]


def test_costs_are_added_up(tmp_path: Path) -> None:
    state = State(str(tmp_path))
    for usd in (0.25, 0.5, 0.0):
        state.add_cost(usd)
    assert (state.cost_usd, State(str(tmp_path)).cost_usd) == (0.75, 0.75)


def test_a_saved_cost_is_that_of_the_latest_conversation_alone(tmp_path: Path) -> None:
    state = State(str(tmp_path))
    state.save_cost("c-1", 0.5)
    state.save_cost("c-2", 0.75)
    conversations = ("c-1", "c-2", "c-3", None)
    for each in (state, State(str(tmp_path))):
        assert [each.saved_cost(c) for c in conversations] == [0.0, 0.75, 0.0, 0.0]


DAMAGED = ["", "{", '{"committed": tr', "\0", '"committed"', "[1]", "3", "[" * 100_000]


@pytest.mark.parametrize("content", [*DAMAGED, '{"costUsd": ' + "9" * 10_000 + "}"])
def test_a_damaged_state_is_a_new_one(tmp_path: Path, content: str) -> None:
    (tmp_path / STATE_FILE).write_text(content)
    state = State(str(tmp_path))
    assert remembered(state) == NOTHING


@pytest.mark.parametrize(
    "content",
    [
        '{"abandoned": 1, "conversationId": 3, "costUsd": "much", "savedCost": "x"}',
        '{"abandoned": "true", "conversationId": [], "costUsd": null, "savedCost": []}',
        '{"abandoned": null, "latestTurn": {}, "costUsd": [1], "savedCost": ["c-1", "x"]}',
        '{"savedCost": {"c-1": 3}, "latestTurn": 3}',
        '{"savedCost": ["c-1", 0.5, 3]}',
        '{"savedCost": ["c-1", null]}',
        '{"savedCost": [["c-1"], 0.5]}',
        '{"savedCost": ["c-1", {}], "costUsd": {}}',
        '{"costUsd": 1' + "0" * 400 + "}",
        '{"savedCost": ["c-1", 1' + "0" * 400 + "]}",
        '{"costUsd": NaN, "savedCost": ["c-1", NaN]}',
        '{"costUsd": 1e999, "savedCost": ["c-1", -Infinity]}',
    ],
)
def test_what_the_session_wrote_into_its_own_state_does_no_harm(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / STATE_FILE).write_text(content)
    state = State(str(tmp_path))
    assert remembered(state) == NOTHING
    state.add_cost(0.25)
    state.save_cost("c-1", 0.5)
    assert remembered(State(str(tmp_path))) == (False, None, 0.25, None, 0.5, 0.0)


def test_a_directory_in_the_place_of_the_state_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).mkdir()
    state = State(str(tmp_path))
    state.add_cost(0.25)
    assert state.cost_usd == 0.25


@pytest.mark.parametrize("name", [STATE_FILE, f"{STATE_FILE}.new"])
def test_a_fifo_in_the_place_of_the_state_holds_nothing_up(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    costs: list[float] = []

    def use() -> None:
        state = State(str(tmp_path))
        state.add_cost(0.25)
        costs.append(state.cost_usd)

    using = threading.Thread(target=use, daemon=True)
    using.start()
    using.join(PATIENCE_SECONDS)
    in_time = list(costs)
    while using.is_alive():  # let it go
        os.close(os.open(tmp_path / name, os.O_RDWR | os.O_NONBLOCK))
        using.join(0.01)
    assert in_time == [0.25]


def test_a_state_that_cannot_be_written_is_remembered_until_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = State(str(tmp_path / "state"))
    (tmp_path / "state").rmdir()
    state.add_cost(0.25)
    state.conversation_id = "c-1"
    assert (state.cost_usd, state.conversation_id) == (0.25, "c-1")
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("could not save the session's state: ") for line in lines] == [
        True,
        True,
    ]


def test_a_log_line_shows_where_the_next_one_begins(capsys: pytest.CaptureFixture[str]) -> None:
    log("one\ntwo")
    log("three")
    assert capsys.readouterr().err == "one\n  two\nthree\n"


def test_a_log_that_nobody_reads_any_more_hinders_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader is a process of the engine, which may be killed."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", buffering=1) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        for _ in range(3):
            log("x" * 10_000)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # so that it can be closed
