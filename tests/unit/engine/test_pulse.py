"""A slow call goes on while its engine answers, and ends when it does not."""

from __future__ import annotations

import anyio
import pytest

from claude_mcp.engine import pulse
from claude_mcp.engine.pulse import Pulse
from claude_mcp.errors import EngineError, EngineNotFound, EngineUnavailable

pytestmark = pytest.mark.anyio

SILENT = "^Docker does not answer. Its daemon may hang: look at the engine's own log"


class Daemon:
    """Answers the question while its gate is open; ``asked`` counts the questions."""

    def __init__(self) -> None:
        self.gate, self.began = anyio.Event(), anyio.Event()
        self.asked = 0
        self.failure: EngineError | None = None

    async def ask(self) -> None:
        self.asked += 1
        self.began.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setattr(pulse, "QUIET_SECONDS", 0.0)
    return Daemon()


async def test_a_call_goes_on_for_as_long_as_the_engine_answers(daemon: Daemon) -> None:
    daemon.gate.set()
    async with Pulse("Docker", daemon.ask).watching():
        while daemon.asked < 10:
            await anyio.lowlevel.checkpoint()


async def test_a_call_to_a_silent_engine_ends(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "ANSWER_SECONDS", 0.01)
    with pytest.raises(EngineUnavailable, match=SILENT):
        async with Pulse("Docker", daemon.ask).watching():
            await anyio.sleep_forever()


@pytest.mark.parametrize("service", [False, True])
async def test_where_commands_lock_the_storage_a_silent_engine_may_wait_for_one(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, service: bool
) -> None:
    monkeypatch.setattr(pulse, "ANSWER_SECONDS", 0.0)
    monkeypatch.setattr(pulse, "SLOW_SECONDS", 0.01)
    engine = Pulse("Podman", daemon.ask, daemon=service, locks_storage=True)
    with pytest.raises(
        EngineUnavailable, match=r"^Podman does not answer\. Another Podman"
    ) as caught:
        async with engine.watching():
            await anyio.sleep_forever()
    assert ("restart it" in str(caught.value)) == service


async def test_an_engine_that_is_far_has_longer_to_answer(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "ANSWER_SECONDS", 0.0)
    engine = Pulse("Docker", daemon.ask, over_network=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(engine.check)
        await daemon.began.wait()
        daemon.gate.set()
    monkeypatch.setattr(pulse, "SLOW_SECONDS", 0.01)
    daemon.gate = anyio.Event()
    for _ in range(2):  # the second time, too
        with pytest.raises(EngineUnavailable, match="may hang: the connection"):
            await engine.check()


async def test_calls_within_calls_end_with_one_error(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "ANSWER_SECONDS", 0.01)
    engine = Pulse("Docker", daemon.ask)
    with pytest.raises(EngineUnavailable, match=SILENT):
        async with engine.watching(), engine.watching():
            await anyio.sleep_forever()


async def test_a_quick_call_asks_nothing(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "QUIET_SECONDS", 60.0)
    async with Pulse("Docker", daemon.ask).watching():
        await anyio.lowlevel.checkpoint()
    assert daemon.asked == 0


async def test_all_who_wait_share_one_question(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "ANSWER_SECONDS", 0.2)
    engine, failures = Pulse("Docker", daemon.ask), []

    async def call() -> None:
        try:
            async with engine.watching():
                await anyio.sleep_forever()
        except EngineUnavailable as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(call)
    assert daemon.asked == 1
    assert len({id(error) for error in failures}) == 20


async def test_a_question_outlives_the_call_that_asked_it_first(daemon: Daemon) -> None:
    engine, answers = Pulse("Docker", daemon.ask), []

    async def wonder() -> None:
        await engine.check()
        answers.append("answers")

    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as first:
            first.start_soon(wonder)
            await daemon.began.wait()
            tasks.start_soon(wonder)
            await anyio.lowlevel.checkpoint()
            first.cancel_scope.cancel()
        daemon.gate.set()
    assert (answers, daemon.asked) == (["answers"], 2)


async def test_an_engine_that_was_silent_is_asked_at_once_and_briefly(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "ANSWER_SECONDS", 0.01)
    engine = Pulse("Docker", daemon.ask)
    with pytest.raises(EngineUnavailable):
        await engine.check()
    monkeypatch.setattr(pulse, "ANSWER_SECONDS", 1000.0)
    monkeypatch.setattr(pulse, "QUIET_SECONDS", 1000.0)
    monkeypatch.setattr(pulse, "KNOWN_SECONDS", 0.01)
    with pytest.raises(EngineUnavailable):
        async with engine.watching():
            await anyio.sleep_forever()
    async with engine.watching():  # a call that succeeds shows that the engine is back
        pass
    daemon.gate.set()
    asked = daemon.asked
    async with engine.watching():
        await anyio.wait_all_tasks_blocked()
    assert daemon.asked == asked


async def test_an_engine_that_says_why_it_does_not_answer_is_quoted(daemon: Daemon) -> None:
    daemon.failure = EngineNotFound("'docker' can no longer be started.")
    daemon.gate.set()
    with pytest.raises(EngineNotFound, match="no longer"):
        async with Pulse("Docker", daemon.ask).watching():
            await anyio.sleep_forever()
