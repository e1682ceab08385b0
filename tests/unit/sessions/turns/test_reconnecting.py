"""Asking again after the connection to a session was lost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, cast

import anyio
import pytest

from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.errors import AgentError, EngineError, EngineUnavailable, NextStep
from claude_mcp.sessions.channel.channel import ChannelLost
from claude_mcp.sessions.channel.silence import LinkLost, in_doubt
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.progress import Amount
from claude_mcp.sessions.turns import reconnecting

pytestmark = pytest.mark.anyio


@dataclass
class Far:
    """An engine that does not answer the first ``away`` checks, and requests that fail so often."""

    away: int = 0
    lost: int = 0
    over_network: bool = True
    title: str = "Docker"
    checks: int = 0
    asked: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def dialect(self) -> Any:
        return replace(DOCKER, over_network=self.over_network)

    async def check(self) -> None:
        self.checks += 1
        if self.checks <= self.away:
            raise EngineUnavailable("away")

    async def ask(self) -> dict[str, Any]:
        self.asked += 1
        if self.asked <= self.lost:
            raise LinkLost("lost again")
        return {"turn": 1}

    async def hear(self, text: str, amount: Amount | None = None, /) -> None:
        self.said.append(text)

    async def again(self, deadline: float = math.inf) -> dict[str, Any]:
        handle = cast("SessionHandle", Handle(self))
        return await reconnecting.again(
            handle, self.ask, deadline, self.hear, steps=(NextStep.READ_TURN,)
        )


@dataclass
class Handle:
    engine: Far


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(reconnecting, "MOST_PAUSE_SECONDS", 0.001)


async def test_an_engine_of_this_machine_is_asked_once_and_not_waited_for() -> None:
    near = Far(over_network=False)
    assert await near.again() == {"turn": 1}
    assert (near.checks, near.asked) == (0, 1)


async def test_a_far_engine_is_waited_for_and_the_caller_told_once() -> None:
    far = Far(away=3)
    assert await far.again() == {"turn": 1}
    assert (far.checks, far.asked, len(far.said)) == (4, 1, 1)


async def test_a_link_that_is_lost_again_is_waited_for_again() -> None:
    far = Far(lost=2)
    assert await far.again() == {"turn": 1}
    assert (far.checks, far.asked) == (3, 3)


async def test_a_link_that_is_lost_again_and_again_is_given_up() -> None:
    far = Far(lost=1000)
    with pytest.raises(LinkLost, match="lost again"):
        await far.again()
    assert far.asked == reconnecting.MOST_OUTAGES


async def test_the_callers_deadline_ends_the_waiting_and_the_next_step_is_named() -> None:
    far = Far(away=10**9)
    with pytest.raises(LinkLost, match="could not be reached again") as caught:
        await far.again(anyio.current_time() + 0.05)
    assert caught.value.steps == (NextStep.READ_TURN,)
    assert "goes on" in (caught.value.hint or "")
    assert far.asked == 0


async def test_a_far_engine_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "OUTAGE_SECONDS", 0.05)
    with pytest.raises(LinkLost):
        await Far(away=10**9).again()


def test_only_a_request_that_was_written_is_lost() -> None:
    caused = AgentError("lost")
    caused.__cause__ = ChannelLost("lost")
    assert reconnecting.is_lost(caused)
    assert reconnecting.is_lost(in_doubt(EngineUnavailable("silent")))
    assert not reconnecting.is_lost(EngineUnavailable("silent"))
    refused = EngineError("refused")
    assert in_doubt(refused) is refused
