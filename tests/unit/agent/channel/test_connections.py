"""Requests in, answers out, whatever the other side writes or does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from claude_mcp.agent.channel import connections
from claude_mcp.agent.channel.connections import (
    Answer,
    Connection,
    Operation,
    Request,
    RequestError,
)
from claude_mcp.contract.codes import Code

if TYPE_CHECKING:
    import select

    from tests.unit.agent.conftest import Connect

PATIENCE_SECONDS = 60.0
MALFORMED = {"id": None, "error": {"code": "malformed", "message": "not a request"}}


def echo(request: Request) -> Answer:
    return dict(request.args)


class Waiting:
    """An operation that waits until it is told to go on, or until nobody waits for it."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.register = threading.Event()
        self.registered = threading.Event()
        self.go = threading.Event()
        self.done = threading.Event()
        self.told: list[tuple[bool, bool, bool]] = []
        """For each time that it was told to stop: cancelled, vanished, gone."""

    def __call__(self, request: Request) -> Answer:
        def stop() -> None:
            self.told.append((request.cancelled, request.disconnected, request.abandoned))
            self.go.set()

        self.started.set()
        assert self.register.wait(PATIENCE_SECONDS)
        request.on_cancel(stop)
        self.registered.set()
        assert self.go.wait(PATIENCE_SECONDS)
        self.done.set()
        return {"told": self.told, "gone": request.abandoned}


CANCELLED = {"told": [[True, False, True]], "gone": True}


def test_a_request_is_answered_under_its_number(connect: Connect) -> None:
    caller = connect({"echo": echo})
    caller.write(b'{"id": 7, "op": "echo", "args": {"a": [1, null, "\xc3\xa9"]}}\n')
    assert caller.receive() == {"id": 7, "ok": {"a": [1, None, "é"]}}


def test_events_come_before_the_answer_and_in_order(connect: Connect) -> None:
    def count(request: Request) -> Answer:
        for number in range(3):
            request.event({"number": number})
        return {"counted": 3}

    caller = connect({"count": count})
    caller.send("count")
    assert [caller.receive() for _ in range(4)] == [
        {"id": 1, "event": {"number": 0}},
        {"id": 1, "event": {"number": 1}},
        {"id": 1, "event": {"number": 2}},
        {"id": 1, "ok": {"counted": 3}},
    ]


def test_a_slow_request_holds_up_no_other(connect: Connect) -> None:
    slow = Waiting()
    slow.register.set()
    caller = connect({"slow": slow, "echo": echo})
    caller.send("slow")
    caller.send("echo")
    assert caller.receive() == {"id": 2, "ok": {}}
    slow.go.set()
    assert caller.receive() == {"id": 1, "ok": {"told": [], "gone": False}}


def test_a_failure_is_told_by_code_and_message(connect: Connect) -> None:
    def refuse(request: Request) -> Answer:
        raise RequestError(Code.BUSY, "come back later")

    def fail(request: Request) -> Answer:
        return {"x": request.args["missing"]}

    caller = connect({"refuse": refuse, "fail": fail})
    assert [caller.ask("refuse"), caller.ask("fail"), caller.ask("other")] == [
        {"error": {"code": "busy", "message": "come back later"}},
        {"error": {"code": "failed", "message": "KeyError: 'missing'"}},
        {
            "error": {
                "code": "unknown-operation",
                "message": "this agent has no operation 'other'",
            }
        },
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"what",
        b"\xff\xfe",
        b"3",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"id": 1}',
        b'{"op": "echo"}',
        b'{"id": "1", "op": "echo"}',
        b'{"id": null, "op": "echo"}',
        b'{"id": 1.5, "op": "echo"}',
        b'{"id": [], "op": "echo"}',
        b'{"id": 1, "op": []}',
        b'{"id": 1, "op": {}}',
        b'{"id": 1, "op": null}',
        b'{"id": 1, "op": "echo"}',
        b'{"id": 1, "op": "echo", "args": null}',
        b'{"id": 1, "op": "echo", "args": [1]}',
        b'{"id": 1, "op": "echo", "args": "x"}',
        b'{"id": 0, "op": "cancel"}',
        b'{"id": 0, "op": "cancel", "args": {"id": null}}',
        b'{"id": 0, "op": "cancel", "args": {"id": []}}',
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_request_is_refused_and_the_next_one_answered(
    connect: Connect, line: bytes
) -> None:
    caller = connect({"echo": echo})
    caller.write(line + b"\n")
    assert caller.receive() == MALFORMED
    assert caller.ask("echo", a=1) == {"ok": {"a": 1}}


def test_lines_are_put_together_however_they_come(connect: Connect) -> None:
    caller = connect({"echo": echo})
    caller.write(b'{"id": 1, "op": "echo", "args": ')
    caller.write(b'{"a": "' + b"x" * 300_000)
    caller.write(b'"}}\n{"id": 2, "o')
    assert caller.receive() == {"id": 1, "ok": {"a": "x" * 300_000}}
    caller.write(b'p": "echo", "args": {}}\n')
    assert caller.receive() == {"id": 2, "ok": {}}


def test_an_endless_line_ends_the_connection(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_LINE_BYTES", 1000)
    caller = connect({"echo": echo})
    caller.write(b"x" * 1001)
    assert caller.rest() == b""


def test_an_answer_is_one_line_of_valid_text_whatever_is_in_it(connect: Connect) -> None:
    text = 'two\nlines\r\N{LINE SEPARATOR}"quoted" \\ \0 \ud800 é'

    def awkward(request: Request) -> Answer:
        return {"text": text}

    caller = connect({"awkward": awkward})
    assert caller.ask("awkward") == {"ok": {"text": text.replace("\ud800", "?")}}


def test_an_answer_that_json_cannot_carry_is_a_failure_and_no_silence(connect: Connect) -> None:
    deep: Answer = {}
    for _ in range(100_000):
        deep = {"a": deep}
    answer = connect({"deep": lambda request: deep}).ask("deep")
    assert answer["error"]["code"] == "failed"


def test_a_cancelled_request_is_stopped_and_answered(connect: Connect) -> None:
    waiting = Waiting()
    waiting.register.set()
    caller = connect({"wait": waiting})
    number = caller.send("wait")
    assert waiting.registered.wait(PATIENCE_SECONDS)
    caller.send("cancel", id=number)
    assert caller.receive() == {"id": number, "ok": CANCELLED}


def test_a_request_that_is_cancelled_before_it_can_be_stopped_is_stopped_then(
    connect: Connect,
) -> None:
    waiting = Waiting()
    caller = connect({"wait": waiting, "echo": echo})
    number = caller.send("wait")
    caller.send("cancel", id=number)
    caller.send("cancel", id=number)
    assert caller.ask("echo") == {"ok": {}}  # so the cancellation has been read
    assert waiting.started.wait(PATIENCE_SECONDS)
    waiting.register.set()
    assert caller.receive() == {"id": number, "ok": CANCELLED}


def held(told: list[str], registered: threading.Event, go: threading.Event) -> Operation:
    """An operation that goes on although it was told to stop."""

    def hold(request: Request) -> Answer:
        request.on_cancel(lambda: told.append("stop"))
        registered.set()
        assert go.wait(PATIENCE_SECONDS)
        return {"told": told}

    return hold


def test_a_request_is_cancelled_only_once(connect: Connect) -> None:
    told: list[str] = []
    registered, go = threading.Event(), threading.Event()
    caller = connect({"hold": held(told, registered, go), "echo": echo})
    number = caller.send("hold")
    assert registered.wait(PATIENCE_SECONDS)
    caller.send("cancel", id=number)
    caller.send("cancel", id=number)
    assert caller.ask("echo") == {"ok": {}}
    go.set()
    assert caller.receive() == {"id": number, "ok": {"told": ["stop"]}}


@pytest.mark.parametrize("target", [99, -1, 0, True])
def test_cancelling_what_is_not_under_way_does_nothing(connect: Connect, target: int) -> None:
    caller = connect({"echo": echo})
    caller.send("cancel", id=target)
    assert caller.ask("echo") == {"ok": {}}


def test_a_request_whose_caller_vanished_is_told_so(connect: Connect) -> None:
    waiting = Waiting()
    waiting.register.set()
    caller = connect({"wait": waiting})
    caller.send("wait")
    assert waiting.registered.wait(PATIENCE_SECONDS)
    caller.hang_up()
    assert waiting.done.wait(PATIENCE_SECONDS)
    assert waiting.told == [(False, True, True)]


def test_a_request_whose_caller_vanished_early_is_told_when_it_can_be(connect: Connect) -> None:
    waiting = Waiting()
    caller = connect({"wait": waiting})
    caller.send("wait")
    assert waiting.started.wait(PATIENCE_SECONDS)
    caller.hang_up()
    waiting.register.set()
    assert waiting.done.wait(PATIENCE_SECONDS)
    assert waiting.told == [(False, True, True)]


def test_a_cancelled_request_is_not_told_again_that_its_caller_vanished(connect: Connect) -> None:
    told: list[str] = []
    registered, go = threading.Event(), threading.Event()
    caller = connect({"hold": held(told, registered, go)})
    number = caller.send("hold")
    assert registered.wait(PATIENCE_SECONDS)
    caller.send("cancel", id=number)
    caller.hang_up()
    go.set()
    assert told == ["stop"]


def test_a_request_that_is_over_is_not_told_that_its_caller_vanished(connect: Connect) -> None:
    told: list[str] = []
    registered, go = threading.Event(), threading.Event()
    go.set()
    caller = connect({"hold": held(told, registered, go)})
    assert caller.ask("hold") == {"ok": {"told": []}}
    caller.hang_up()
    assert told == []


def test_nothing_is_written_for_a_caller_that_vanished(connect: Connect) -> None:
    """The number of its descriptor may belong to another channel by then."""
    waiting = Waiting()
    waiting.register.set()
    ended = threading.Event()

    def wait(request: Request) -> dict[str, Any]:
        answer = waiting(request)
        request.event({"late": True})
        ended.set()
        return answer

    caller = connect({"wait": wait})
    caller.send("wait")
    assert waiting.registered.wait(PATIENCE_SECONDS)
    caller.hang_up()
    assert ended.wait(PATIENCE_SECONDS)
    assert caller.rest() == b""


def test_a_channel_that_nobody_uses_is_given_up(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Waiting()
    waiting.register.set()
    caller = connect({"wait": waiting, "echo": echo})
    number = caller.send("wait")
    assert waiting.registered.wait(PATIENCE_SECONDS)
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.02)
    assert caller.ask("echo") == {"ok": {}}  # the next wait for input is as short as that
    # As long as somebody waits for an answer it is in use.
    assert not waiting.go.wait(0.2)
    caller.send("cancel", id=number)
    assert caller.receive() == {"id": number, "ok": CANCELLED}
    assert caller.rest() == b""


def test_a_channel_is_not_given_up_right_after_an_answer() -> None:
    """Or the caller would not get it, and one that asks again would be cut off."""
    served = Connection(0, 1, {})

    class Poll:
        def __init__(self) -> None:
            self.looked = 0

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            """The request is answered while the channel waits for another one."""
            self.looked += 1
            if self.looked == 1:
                served._requests[1] = Request(served, 1, {})
                served.finish(1, b"")
                return []
            return [(0, 1)]

    poll = Poll()
    assert served._wait_for_input(cast("select.poll", poll)) is True
    assert poll.looked == 2
