"""The transcript: everything in order, quoted, bounded, with what was cut."""

from __future__ import annotations

from typing import Any

from claude_mcp.sessions.turns.history import History, Told
from claude_mcp.sessions.turns.listing import ListedTurn
from claude_mcp.sessions.turns.results import Event, Question, TurnResult, TurnStatus
from claude_mcp.views import transcript
from claude_mcp.views.transcript import FURTHER, MAX_CHARS, OLDER
from tests.unit.views.test_results import SESSION

ONE = "6b0b0f3e-0000-4000-8000-000000000001"


def told(**fields: Any) -> Told:
    turn = TurnResult(
        **{
            "session": SESSION, "turn_id": ONE, "status": TurnStatus.COMPLETED, "result": "done",
            "prompt": "do it", "duration_ms": 1500, "num_turns": 2, "cost_usd": 0.5, "model": "m",
            **fields,
        }
    )  # fmt: skip
    listed = ListedTurn(
        turn.turn_id, turn.status.value, "2026-01-02T03:04:05Z", "do it", 0, 0, None
    )
    return Told(listed, turn)


def of(*turns: Told, more: bool = False) -> str:
    return transcript.transcript(History(SESSION, turns, more))


def test_a_turn_has_its_prompt_steps_answer_and_cost() -> None:
    events = (
        Event(3, "t", "tool_call", "Bash: ls\n# not ours", 0),
        Event(4, "t", "tool_result", "a\nb", 0),
        Event(5, "t", "message", "x" * 400, 7),
    )
    asks = Question("q", "Bash", {"command": "rm"})
    text = of(
        told(
            prompt="# do\nit", result="# all\ndone", events=events, notes=("N",), questions=(asks,)
        ),
        more=True,
    )
    assert text == (
        f"# Session {SESSION.name} ({SESSION.id})\n\n{OLDER}\n\n"
        f"## Turn {ONE}, 2026-01-02T03:04:05Z\n\n"
        "completed: 1.5 s, 2 model calls, $0.5000, m\n\n"
        "### Prompt\n\n> # do\n> it\n\n"
        "### Steps\n\n- tool_call: Bash: ls # not ours (event 3)\n"
        f"- message: {'x' * 300} [... 107 characters more] (event 5)\n\n"
        "### Open\n\n> Claude asks for permission: Bash\n>   command: rm\n\n"
        "### Answer\n\n> # all\n> done\n\nNote: N\n"
    )


def test_a_failure_is_told_and_so_is_a_turn_without_a_prompt() -> None:
    text = of(told(status=TurnStatus.FAILED, result=None, error="no\nway", prompt=None))
    assert "\n### Error\n\n> no\n> way\n" in text
    assert "_Claude Code began this turn itself._" in text


def test_older_turns_and_long_texts_are_left_out_and_that_is_told() -> None:
    turns = [told(turn_id=ONE[:-1] + str(n), result=str(n) * 30_000, prompt="p") for n in range(9)]
    text = of(*turns)
    assert OLDER in text
    assert f"## Turn {ONE[:-1]}8" in text
    assert f"## Turn {ONE[:-1]}0" not in text
    assert "[... 10000 characters more ...]" in text
    assert len(text) < MAX_CHARS + 1_000


def test_further_events_can_be_read() -> None:
    events = tuple(Event(n, "t", "note", "x", 0) for n in range(1, 51))
    assert FURTHER.format(ONE, 50) in of(told(events=events))
