"""No result is longer than a client passes on, and what is cut can be read on."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from claude_mcp.server.tool import MAX_CHARS, MAX_CHARS_META, Declaration
from claude_mcp.server.tools import DECLARATIONS
from claude_mcp.sessions.outcomes import Answers
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns.results import Event, TurnResult, TurnStatus
from claude_mcp.views.commands import LogsResult
from claude_mcp.views.fitting import fitted
from claude_mcp.views.results import PART_CHARS
from claude_mcp.views.sessions import PART_SESSIONS, ListResult
from claude_mcp.views.turns import TurnView
from tests.unit.server.answers import text as text_of
from tests.unit.views.test_next_steps import KINDS
from tests.unit.views.test_text import ENTRY, TURN

LONG = "\x00é\U0001f600" * 40_000
"""A text whose JSON is several times as long as itself."""
SESSION = Session(
    id="0123456789ab", container_id="0123456789ab" * 5, name="s", container_name="claude-mcp-s",
    project_path="/p", image="i", provider="anthropic", credentials=CredentialSource.NONE,
    status=Status.RUNNING, created_at="2026-01-02T03:04:05Z",
)  # fmt: skip


def worst(value: Any) -> Any:
    """A result with everything that it holds as long, and as often, as can be."""
    if isinstance(value, str):
        return LONG
    if isinstance(value, dict):
        return {f"{number}{name}": worst(each) for name, each in value.items() for number in "ab"}
    if isinstance(value, list):
        return [worst(each) for each in value for _ in range(3)]
    if is_dataclass(value) and not isinstance(value, type):
        values = {each.name: getattr(value, each.name) for each in fields(value)}
        kept = {"status", "session_id", "turn_id"}
        changed = {name: each if name in kept else worst(each) for name, each in values.items()}
        return replace(value, **changed)
    return value


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=lambda each: str(each.name))
def test_a_result_at_its_worst_is_not_too_long(declaration: Declaration) -> None:
    for result, _ in KINDS.get(declaration.name, []):
        answer = declaration.answer(worst(result))
        size = len(json.dumps(answer.structured_content))
        assert size < declaration.max_chars * 1.1 + 2_000
        assert len(text_of(answer)) < declaration.max_chars * 1.5 + 2_000


def test_what_was_cut_is_told() -> None:
    [execute] = [each for each in DECLARATIONS if each.name == "execute_in_session"]
    answer = execute.answer(replace(TURN, notes=[LONG]))
    assert answer.structured_content["next"] == (
        "parts were left out, because the result was too long: ask for less at once."
    )
    [note] = answer.structured_content["notes"]
    assert "characters left out]" in note


def test_a_result_that_fits_is_not_touched() -> None:
    assert fitted(TURN, MAX_CHARS) is TURN


def test_larger_results_are_declared_to_claude_code() -> None:
    declared = {each.name: (each.tool().meta or {}).get(MAX_CHARS_META) for each in DECLARATIONS}
    assert {name: size for name, size in declared.items() if size} == {
        "execute_command": 200_000, "get_command": 200_000, "stop_command": 200_000
    }  # fmt: skip
    assert max(each.max_chars for each in DECLARATIONS) <= 500_000


def test_a_long_answer_of_claude_s_is_read_in_parts() -> None:
    text = "".join(chr(97 + number % 26) for number in range(2 * PART_CHARS + 5))
    turn = TurnResult(SESSION, TURN.turn_id, TurnStatus.COMPLETED, result=text)
    read = ""
    offset: int | None = 0
    while offset is not None:
        part = TurnView.of(turn, offset)
        read += part.result or ""
        offset = part.next_offset
    assert read == text


def test_a_long_event_is_read_in_parts() -> None:
    text = "x" * PART_CHARS + "y" * PART_CHARS + "z"
    turn = TurnResult(SESSION, TURN.turn_id, TurnStatus.COMPLETED, result="not this")
    event = Event(3, "t", "tool_result", text, 0)
    read, left = "", []
    offset: int | None = 0
    while offset is not None:
        part = TurnView.of_event(turn, event, offset)
        [entry] = part.events
        read += entry.text
        left.append(entry.left_out)
        offset = part.next_offset
    assert (read, left, part.result) == (text, [PART_CHARS + 1, 1, 0], None)


def test_a_long_log_is_read_backwards_in_parts() -> None:
    lines = [f"{number:05} {'x' * 1000}" for number in range(120)]
    read: list[str] = []
    before = None
    while before is not None or not read:
        rest = [line for line in lines if before is None or line.partition(" ")[0] < before]
        part = LogsResult.part_of(SESSION, rest, tail=10_000)
        read = [*part.lines, *read]
        before = part.before
    assert read == lines
    assert LogsResult.part_of(SESSION, lines[:3], tail=3).before == "00000"
    assert LogsResult.part_of(SESSION, lines[:3], tail=4).before is None
    assert LogsResult.part_of(SESSION, ["t " + "x" * 90_000], tail=4).lines == [
        ("t " + "x" * 90_000)[:PART_CHARS]
    ]


def test_many_sessions_are_listed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [replace(ENTRY, session_id=f"{number:012}") for number in range(120)]
    whole = ListResult(entries, None)
    monkeypatch.setattr(ListResult, "of", classmethod(lambda cls, *listed: whole))
    read: list[str] = []
    cursor = None
    for _ in range(3):
        part = ListResult.part_of(Answers([]), cursor)
        assert part is not None
        assert len(part.sessions) <= PART_SESSIONS
        read += [each.session_id for each in part.sessions]
        cursor = part.cursor
    assert (read, cursor) == ([each.session_id for each in entries], None)
    assert ListResult.part_of(Answers([]), "gone") is None
