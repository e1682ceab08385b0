"""What a caller hears of a turn while Claude writes; the journal keeps whole messages only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.turns import turn as turn_module
from claude_mcp.contract.redaction import redactor
from tests.unit.agent.scripted import SECRETS, ask, told, turn_id, until

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Gate, Session

KEY = "sk-turns-0123"


@pytest.fixture(autouse=True)
def no_other_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other modules have secrets that begin with the last letter of what is said here."""
    monkeypatch.setattr(redactor, "_forms", [])


def begun(text: str = "") -> str:
    start = {"type": "content_block_start", "content_block": {"type": "text", "text": ""}}
    return f"frame(type='stream_event', event={start!r});" + (piece(text) if text else "")


def piece(text: str) -> str:
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}
    return f"frame(type='stream_event', event={delta!r});"


def heard(caller: Caller, number: int, text: str) -> list[dict[str, Any]]:
    """The events of a request until the pieces of a message that come now are this text."""
    events: list[dict[str, Any]] = []
    message = ""
    while message != text:
        received = caller.receive()
        assert received["id"] == number, received
        event = received["event"]
        events.append(event)
        if "said" in event:
            message = ("" if event.get("begins") else message) + event["said"]
    return events


def rest(caller: Caller, number: int) -> list[dict[str, Any]]:
    """The events that are still to come, before the answer."""
    events = []
    while "event" in (received := caller.receive()):
        assert received["id"] == number
        events.append(received["event"])
    assert received["ok"]["status"] == "completed", received
    return events


def test_words_are_heard_as_they_are_written_and_are_not_in_the_journal(
    session: Session, gate: Gate
) -> None:
    caller = session.start()
    program = (
        f"begin(); {begun('I am ')} wait_at({gate.path!r}); {piece('writing')}"
        f"wait_at({gate.path!r}); {piece(' on.')} text('I am writing on.'); "
        "tool('Bash', command='ls'); tool_result('a file'); result()"
    )
    number = caller.send("turn", turnId=turn_id(), prompt=program, live=True)
    assert heard(caller, number, "I am ") == [{"said": "I am ", "begins": True}]
    journal = session.directory / "journal.jsonl"
    assert not journal.read_text()
    gate.open()
    assert heard(caller, number, "writing") == [{"said": "writing"}]
    gate.open()
    events = rest(caller, number)
    said = [each for each in events if "said" in each]
    assert "".join(each["said"] for each in said) == " on."
    assert [each.get("ends", False) for each in said] == [*[False] * (len(said) - 1), True]
    assert [each for each in events if "said" not in each] == [
        {"progress": "Bash: ls", "kind": "tool_call"},
        {"progress": "a file", "kind": "tool_result"},
    ]
    kinds = [json.loads(line)["kind"] for line in journal.read_text().splitlines()]
    assert kinds == ["message", "tool_call", "tool_result"]


def test_who_does_not_ask_for_them_gets_headlines_only(session: Session) -> None:
    caller = session.start()
    program = f"begin(); {begun('I am ')} text('I am here'); result()"
    number = caller.send("turn", turnId=turn_id(), prompt=program)
    assert rest(caller, number) == [{"progress": "I am here"}]


def test_who_comes_later_hears_the_message_from_its_beginning(session: Session, gate: Gate) -> None:
    caller, one = session.start(), turn_id()
    program = (
        f"begin(); text('before'); {begun('I am ')}{piece('writing')} wait_at({gate.path!r}); "
        "text('I am writing'); result()"
    )
    first = caller.send("turn", turnId=one, prompt=program, live=True)
    heard(caller, first, "I am writing")
    later = session.connect()
    number = later.send("follow", turnId=one, live=True)
    assert heard(later, number, "I am writing") == [{"said": "I am writing", "begins": True}]
    gate.open()
    assert rest(later, number) == [{"said": "", "ends": True}]


def test_a_message_that_is_written_again_begins_again(session: Session, gate: Gate) -> None:
    caller = session.start()
    program = (
        f"begin(); {begun('One half')} wait_at({gate.path!r}); {begun('Another')} "
        f"wait_at({gate.path!r}); text('Another one'); result()"
    )
    number = caller.send("turn", turnId=turn_id(), prompt=program, live=True)
    heard(caller, number, "One half")
    gate.open()
    assert heard(caller, number, "Another") == [{"said": "Another", "begins": True}]
    gate.open()
    assert rest(caller, number) == [{"said": " one", "ends": True}]


def test_a_secret_is_not_heard_in_pieces(session: Session, gate: Gate) -> None:
    secrets = {**SECRETS, "secretValues": [KEY]}
    caller = session.start(secrets)
    assert redactor.redact(KEY) != KEY
    half, other = KEY[:5], KEY[5:]
    program = (
        f"begin(); {begun('It is ' + half)} wait_at({gate.path!r}); {piece(other + ' so!')} "
        f"wait_at({gate.path!r}); text('It is {KEY} so!'); result()"
    )
    number = caller.send("turn", turnId=turn_id(), prompt=program, live=True)
    assert heard(caller, number, "It is ") == [{"said": "It is ", "begins": True}]
    gate.open()
    heard(caller, number, "[redacted] so!")
    gate.open()
    assert rest(caller, number) == [{"said": "", "ends": True}]


def test_of_a_very_long_message_the_rest_is_heard_at_its_end(
    session: Session, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_module, "MAX_SAYING_CHARACTERS", 10)
    caller = session.start()
    program = (
        f"begin(); {begun('0123456789')}{piece('abc')} wait_at({gate.path!r}); "
        "text('0123456789abc'); result()"
    )
    number = caller.send("turn", turnId=turn_id(), prompt=program, live=True)
    heard(caller, number, "0123456789")
    gate.open()
    assert rest(caller, number) == [{"said": "abc", "ends": True}]


def test_a_turn_that_nobody_hears_is_the_same(session: Session) -> None:
    caller = session.start()
    program = f"begin(); {begun('I am ')}{piece('here')} text('I am here'); result()"
    answer = ask(caller, program, live=True)
    assert answer["status"] == "completed"
    read = until(lambda: caller.ask("follow", cursor=0)["ok"])
    assert told(read) == [(1, "message", "I am here", 0)]
