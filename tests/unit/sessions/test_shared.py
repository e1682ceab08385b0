"""Many who ask the same at once cost two questions, and nobody gets an answer from before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.shared import Shared
from tests.unit.sessions.conftest import container

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine


class Asked:
    """Counts the questions; each is answered when the test says so."""

    def __init__(self) -> None:
        self.questions = 0
        self.gates: list[anyio.Event] = []
        self.failure: Exception | None = None

    async def answer(self) -> int:
        self.questions += 1
        number = self.questions
        gate = anyio.Event()
        self.gates.append(gate)
        await gate.wait()
        if self.failure is not None:
            raise self.failure
        return number


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
async def shared(asked: Asked) -> AsyncIterator[Shared[int]]:
    async with anyio.create_task_group() as tasks:
        yield Shared(asked.answer, tasks)
        tasks.cancel_scope.cancel()


async def until(asked: Asked, questions: int) -> None:
    while asked.questions < questions:
        await anyio.lowlevel.checkpoint()


async def test_those_who_come_during_a_question_share_the_next(
    asked: Asked, shared: Shared[int]
) -> None:
    answers: list[int] = []

    async def ask() -> None:
        answers.append(await shared.ask())

    async with anyio.create_task_group() as callers:
        callers.start_soon(ask)
        await until(asked, 1)
        for _ in range(50):
            callers.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        asked.gates[0].set()
        await until(asked, 2)
        asked.gates[1].set()
    assert sorted(answers) == [1, *[2] * 50]
    assert asked.questions == 2


async def test_a_caller_that_leaves_keeps_no_other_from_the_answer(
    asked: Asked, shared: Shared[int]
) -> None:
    async with anyio.create_task_group() as callers:
        callers.start_soon(shared.ask)
        await until(asked, 1)
        callers.cancel_scope.cancel()
    answers: list[int] = []

    async def ask() -> None:
        answers.append(await shared.ask())

    async with anyio.create_task_group() as callers:
        callers.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        asked.gates[0].set()
        await until(asked, 2)
        asked.gates[1].set()
    assert answers == [2]


async def test_a_failure_is_everybody_s_and_the_next_question_is_a_new_one(
    asked: Asked, shared: Shared[int]
) -> None:
    asked.failure = OSError("gone")
    failed: list[str] = []

    async def ask() -> None:
        try:
            await shared.ask()
        except OSError as error:
            failed.append(str(error))

    async with anyio.create_task_group() as callers:
        callers.start_soon(ask)
        callers.start_soon(ask)
        await until(asked, 1)
        asked.gates[0].set()
    assert failed == ["gone"] * 2
    asked.failure = None
    async with anyio.create_task_group() as callers:
        callers.start_soon(shared.ask)
        await until(asked, 2)
        asked.gates[1].set()


async def test_at_the_end_nobody_is_left_waiting(asked: Asked) -> None:
    closed: list[bool] = []

    async def ask(shared: Shared[int]) -> None:
        try:
            await shared.ask()
        except anyio.ClosedResourceError:
            closed.append(True)

    async with anyio.create_task_group() as callers, anyio.create_task_group() as tasks:
        shared = Shared(asked.answer, tasks)
        callers.start_soon(ask, shared)
        await until(asked, 1)
        callers.start_soon(ask, shared)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert closed == [True, True]


async def test_many_lists_at_once_ask_the_engine_twice(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("a1", "one"))
    names: list[str] = []

    async def listed() -> None:
        names.extend(each.session.name for each in await sessions.list(ask=False))

    async with anyio.create_task_group() as callers:
        for _ in range(40):
            callers.start_soon(listed)
    assert names == ["one"] * 40
    assert scripted.calls.count("ps") <= 2
