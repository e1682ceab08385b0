"""The place that the agent holds for a program on somebody's terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from claude_mcp.agent import terminals
from claude_mcp.agent.channel.connections import Request, RequestError
from claude_mcp.agent.processes import killing
from claude_mcp.agent.terminals import Terminals
from claude_mcp.contract import operations
from claude_mcp.contract.messages import from_json
from tests.unit.agent.scripted import until


class Asked:
    """A request in progress, as an operation sees it."""

    def __init__(self, operation: Callable[[Request], Any], **args: str) -> None:
        self.args = args
        self.events: list[dict[str, Any]] = []
        self.leave: Callable[[], None] = lambda: None
        self.answer: object = None
        self._operation = operation
        self._thread = threading.Thread(target=self._perform)
        self._thread.start()

    def _perform(self) -> None:
        try:
            self.answer = self._operation(cast(Request, self))
        except RequestError as error:
            self.answer = error

    def read(self, kind: Any) -> Any:
        return from_json(kind, self.args)

    def on_cancel(self, leave: Callable[[], None]) -> None:
        self.leave = leave

    def event(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def ended(self) -> object:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.answer


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.killed: list[str] = []
        self.lent = 0
        self.terminals = Terminals({"A": "1"}, lambda kind: f"{kind}-1", self._lend, self._take)
        monkeypatch.setattr(killing, "kill", lambda activity, _: self.killed.append(activity))

    def _lend(self) -> dict[str, Any]:
        self.lent += 1
        return {"argv": ("claude",), "environment": {"B": "2"}, "descriptors": {"K": "secret"}}

    def _take(self) -> None:
        self.lent -= 1

    def hold(self, kind: str) -> Asked:
        holding = Asked(self.terminals.hold, token="t", kind=kind)
        until(lambda: holding.events == [operations.READY_FOR_TERMINAL])
        return holding

    def enter(self, token: str = "t") -> Asked:
        return Asked(self.terminals.enter, token=token)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


@pytest.mark.parametrize("first", ["the program", "the front end"])
def test_whoever_leaves_first_ends_both(world: World, first: str) -> None:
    holding = world.hold(operations.SHELL)
    entered = world.enter()
    [event] = until(lambda: entered.events)
    assert event["program"]["argv"] == terminals.SHELL
    assert event["program"]["environment"] == {
        "A": "1", **killing.marker_environment("terminal-1")
    }  # fmt: skip
    (entered if first == "the program" else holding).leave()
    assert (holding.ended(), entered.ended()) == ({}, {})
    assert world.killed == ["terminal-1"]
    assert world.lent == 0


def test_claude_is_lent_while_somebody_is_there_and_its_secrets_are_given_once(
    world: World,
) -> None:
    holding = world.hold(operations.CLAUDE)
    assert world.lent == 1
    entered = world.enter()
    [event] = until(lambda: entered.events)
    assert event["program"]["descriptors"] == {"K": "secret"}
    holding.leave()
    assert (holding.ended(), entered.ended()) == ({}, {})
    assert world.lent == 0


def test_a_place_that_nobody_holds_gives_no_program(world: World) -> None:
    refused = world.enter("unknown").ended()
    assert isinstance(refused, RequestError)
    assert refused.message == "nobody waits for this terminal any more"
