"""The list of a session's turns, and what is left of an old one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.store import journal
from claude_mcp.agent.turns.listing import LOST
from tests.unit.agent.scripted import SECRETS, turn_id

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Gate, Session


def listed(caller: Caller, **args: Any) -> tuple[list[dict[str, Any]], bool]:
    answer = caller.ask("turns", **args)["ok"]
    return answer["turns"], answer.get("more", False)


def prompt(caller: Caller, program: str = "result()", **args: Any) -> str:
    one = turn_id()
    assert "ok" in caller.ask("turn", turnId=one, prompt=program, **args)
    return one


def test_turns_are_listed_newest_first_with_what_they_were_and_cost(
    session: Session, gate: Gate
) -> None:
    caller = session.start({**SECRETS, "secretValues": ["sk-in-a-prompt-0123"]})
    assert listed(caller) == ([], False)
    first = prompt(caller, "# sk-in-a-prompt-0123 first\nbegin(); result()")
    second = prompt(caller, "begin(); result(is_error=True, errors=['no\\nway'])")
    waiting = prompt(caller, f"begin(); wait_at({gate.path!r}); result()", waitSeconds=0)
    queued = prompt(caller, "result()", waitSeconds=0, whenBusy="wait")
    turns, more = listed(caller)
    assert not more
    assert [each.pop("turnId") for each in turns] == [queued, waiting, second, first]
    assert all(each.pop("at").endswith("Z") for each in turns)
    assert [each["status"] for each in turns] == ["running", "running", "failed", "completed"]
    assert turns[2]["error"] == "no"
    assert turns[3] == {
        "status": "completed", "prompt": "# [redacted] first", "costUsd": 0.25, "durationMs": 5
    }  # fmt: skip
    gate.open()
    caller.ask("follow", turnId=queued)
    assert [each["turnId"] for each in listed(session.start())[0]] == [
        queued, waiting, second, first
    ]  # fmt: skip


def test_the_list_is_read_in_parts_from_a_turn_on(session: Session) -> None:
    caller = session.start()
    turns = [prompt(caller) for _ in range(5)]
    found, more = listed(caller, limit=2)
    assert ([each["turnId"] for each in found], more) == (turns[:-3:-1], True)
    turns.append(prompt(caller))  # a new one does not shift the parts
    found, more = listed(caller, limit=3, before=found[-1]["turnId"])
    assert ([each["turnId"] for each in found], more) == ([turns[2], turns[1], turns[0]], False)
    refused = caller.ask("turns", before=turn_id())
    assert refused["error"]["code"] == "no-turn"


def test_a_turn_that_was_lost_with_its_container_is_listed_as_failed(
    session: Session, gate: Gate
) -> None:
    caller = session.start()
    one = prompt(caller, f"begin(); text('x'); wait_at({gate.path!r})", waitSeconds=0)
    assert caller.ask("follow", turnId=one, cursor=0)["ok"]["events"]
    [turn], _ = listed(session.start())
    assert (turn["turnId"], turn["status"]) == (one, "failed")
    assert turn["error"] == LOST.partition("\n")[0][:119] + "\N{HORIZONTAL ELLIPSIS}"


def test_forged_records_do_no_harm(session: Session) -> None:
    caller = session.start()
    one = prompt(caller)
    record = session.directory / "turns" / f"{one}.json"
    values = json.loads(record.read_text())
    values["result"].update(costUsd="x", durationMs=[], error={"a": 1})
    record.write_text(json.dumps({**values, "text": 7, "at": "never"}))
    for name in ("x.json", ".json", f"{turn_id()}.json"):
        (record.parent / name).write_text("{")
    [turn], _ = listed(session.start())
    assert turn == {
        "turnId": one, "status": "completed", "prompt": "7", "error": "{'a': 1}"
    }  # fmt: skip


def test_an_old_turn_says_when_its_events_were_removed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 2000)
    caller = session.start()
    old = prompt(caller, "begin(); text('one'); text('two'); result()")
    whole = caller.ask("follow", turnId=old, cursor=0)["ok"]
    assert [each["text"] for each in whole["events"]] == ["one", "two"]
    assert whole["notes"] == []
    for _ in range(4):
        prompt(caller, "begin(); text('x' * 900); result()")
    found = caller.ask("follow", turnId=old, cursor=0)["ok"]
    assert found["events"] == []
    assert found["result"] == "done"
    [note] = found["notes"]
    assert note.startswith("Events before number ")
    assert (
        "notes" not in caller.ask("follow", turnId=old)["ok"]
        or not caller.ask("follow", turnId=old)["ok"]["notes"]
    )


def test_who_watches_hears_of_events_and_of_the_end_of_a_turn(session: Session, gate: Gate) -> None:
    caller, other = session.start(), session.connect()
    mark = caller.ask("watch")["ok"]["mark"]
    assert caller.ask("watch", seen=mark, waitSeconds=0)["ok"]["mark"] == mark
    watching = caller.send("watch", seen=mark, waitSeconds=60)
    program = f"begin(); text('x'); wait_at({gate.path!r}); result()"
    one = prompt(other, program, waitSeconds=0)
    after = caller.answer(watching)["ok"]["mark"]
    assert after > mark
    watching = caller.send("watch", seen=after, waitSeconds=60)
    gate.open()
    assert caller.answer(watching)["ok"]["mark"] > after
    told = caller.ask("follow", turnId=one, withPrompt=True)["ok"]
    assert told["prompt"] == program


def test_a_watch_that_is_cancelled_ends(session: Session) -> None:
    caller = session.start()
    mark = caller.ask("watch")["ok"]["mark"]
    watching = caller.send("watch", seen=mark, waitSeconds=1000)
    caller.send("cancel", id=watching)
    assert caller.answer(watching)["ok"]["mark"] == mark
